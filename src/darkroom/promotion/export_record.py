"""The record of an export in the registry: the result of the check of the file."""

from collections.abc import Iterable, Mapping
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from darkroom.errors import TrackingError
from darkroom.promotion.registry import Contender, set_tags
from darkroom.tracking.store import does_not_answer, reason
from darkroom.tracking.tracker import registry_client
from darkroom.utils.console import warn
from darkroom.utils.files import write_json
from darkroom.utils.scratch import scratch_directory
from darkroom.workspace import Workspace

ARTIFACTS = "export"


def record_export(
    workspace: Workspace, name: str, taken: Iterable[Contender], form: str, found: str, report: Mapping[str, Any]
) -> None:
    """Note with each model that it was exported as ``form``: a tag ``export.<form>`` with what was ``found``, in one
    line, on the version, or on the run that is none, and the whole ``report`` as an artifact of its run.

    Warns of a store that does not take it: the file is there, and proven.
    """
    for each in taken:
        try:
            _note(registry_client(workspace), name, each, form, found, report)
        except Exception as problem:
            if not isinstance(problem, MlflowException | TrackingError) and not does_not_answer(problem):
                raise
            warn(f"{each}: MLflow's store did not take what the check found ({reason(problem)})")


def _note(client: MlflowClient, name: str, model: Contender, form: str, found: str, report: Mapping[str, Any]) -> None:
    tag = f"export.{form}"
    with scratch_directory() as place:
        write_json(place / f"{form}.json", report)
        client.log_artifacts(model.run_id, str(place), ARTIFACTS)
    if model.version:
        set_tags(client, name, model.version, {tag: found})
    else:
        client.set_tag(model.run_id, tag, found)
