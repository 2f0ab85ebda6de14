"""What the registry notes of a model that was exported: what the check of the file found."""

from collections.abc import Iterable, Mapping
from typing import Any

from mlflow.exceptions import MlflowException

from darkroom.console import warn
from darkroom.files import write_json
from darkroom.promotion.registry import Contender, set_tags
from darkroom.scratch import scratch_directory
from darkroom.tracking.store import Store, does_not_answer, reason

ARTIFACTS = "export"


def note_export(
    store: Store, name: str, taken: Iterable[Contender], form: str, found: str, report: Mapping[str, Any]
) -> None:
    """Note with each model that it was exported as ``form``: a tag ``export.<form>`` with what was ``found``, in one
    line, on the version, or on the run that is none, and the whole ``report`` as an artifact of its run.

    Warns of a store that does not take it: the file is there, and proven.
    """
    for each in taken:
        try:
            _note(store, name, each, form, found, report)
        except Exception as problem:
            if not isinstance(problem, MlflowException) and not does_not_answer(problem):
                raise
            warn(f"{each}: MLflow's store did not take what the check found ({reason(problem)})")


def _note(store: Store, name: str, model: Contender, form: str, found: str, report: Mapping[str, Any]) -> None:
    run, tag = store.run(model.run_id), f"export.{form}"
    with scratch_directory() as place:
        write_json(place / f"{form}.json", report)
        run.log_directory(place, ARTIFACTS)
    if model.version:
        set_tags(store.client, name, model.version, {tag: found})
    else:
        run.log_tags({tag: found})
