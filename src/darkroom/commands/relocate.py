"""`darkroom relocate`: update the paths in the MLflow store after the project was moved or copied."""

import sqlite3

from darkroom.errors import TrackingError, counted
from darkroom.tracking.database import reason_of, unusable
from darkroom.tracking.relocation import ARTIFACTS, artifact_root, relocate
from darkroom.tracking.tracking_uri import need_store, shown, sqlite_file, tracking_uri
from darkroom.utils.console import messages, warn
from darkroom.workspace import Workspace


def run(workspace: Workspace) -> None:
    """Change every path in the store that does not point beside it, and print how many were changed.

    Raises TrackingError if there is no store, if it is not an SQLite file, or if it cannot be used.
    """
    need_store(workspace)
    address = tracking_uri()
    path = sqlite_file(address)
    if path is None:
        raise TrackingError(f"MLflow store {shown(address)}: only one in an SQLite file is moved with a project")
    try:
        done = relocate(path)
    except sqlite3.Error as problem:
        raise unusable(address, reason_of(problem) or str(problem)) from None
    if not done.places:
        messages.print(f"relocate: nothing to change, {path} has its files beside it")
        return
    messages.print(
        f"relocate: {path} now has {counted(done.places, 'place')} in {artifact_root(path)} that it had in "
        f"{', '.join(map(str, done.before))}"
    )
    if done.models_without_files:
        warn(
            f"{counted(done.models_without_files, 'model')} of the store had no files in either; bring {ARTIFACTS} "
            "from where the store was, or `darkroom register` registers the model in the working tree again"
        )
