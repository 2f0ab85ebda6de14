"""Read the record of a training from MLflow: its settings, code, data and results."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts, list_artifacts
from mlflow.entities import RunStatus
from mlflow.exceptions import MlflowException

from darkroom.errors import TrackingError
from darkroom.promotion.registry import run_of
from darkroom.tracking.environment import COMMIT_TAG, DIRTY_TAG
from darkroom.tracking.runs import ENDED_TAG, FINGERPRINT_TAG, KIND_TAG, START_TAG, WEIGHTS_TAG
from darkroom.tracking.store import does_not_answer

COMMIT = re.compile(r"[0-9a-f]{40,64}")
# The settings that every training has.
NEEDED = (("dataset", "name"), ("model", "name"), ("train", "seed"))

# Where a run holds the fixes of its data, if there were any.
FIXES = "preprocess/fixes.csv"


@dataclass(frozen=True)
class TrainingRun:
    """A training as recorded by its run.

    ``settings`` is {section: {key: value}}; ``commit`` is that of the code, None if it was trained outside git, and
    ``was_dirty`` whether tracked files differed from it; ``environment`` are the tags ``system.*``, ``metrics`` the
    latest value of each; ``start_sha256`` is the digest of the weights that it began with, if they were given.
    """

    run_id: str
    settings: dict[str, dict[str, Any]]
    commit: str | None
    was_dirty: bool
    environment: Mapping[str, str]
    metrics: Mapping[str, float]
    weights_sha256: str
    fingerprint: str
    start_sha256: str | None = None

    def __str__(self) -> str:
        return f"run {self.run_id}"


def read_training_run(client: MlflowClient, run_id: str) -> TrainingRun:
    """Read the run of a training. Raises TrackingError if there is none, or it is no training that has ended well."""
    run = run_of(client, run_id)
    tags, status = run.data.tags, run.info.status
    if (kind := tags.get(KIND_TAG, "foreign")) != "train":
        raise TrackingError(f"run {run_id}: a {kind} run; only what `darkroom train` trained can be reproduced")
    if status != RunStatus.to_string(RunStatus.FINISHED):
        why = f" ({tags[ENDED_TAG]})" if ENDED_TAG in tags else ""
        raise TrackingError(f"run {run_id}: is {status}{why}, so it has no result to reproduce")
    if lacking := [tag for tag in (WEIGHTS_TAG, FINGERPRINT_TAG) if tag not in tags]:
        raise TrackingError(f"run {run_id}: has no tag {lacking[0]}: it did not finish, or another program created it")
    settings: dict[str, dict[str, Any]] = {}
    for name, text in run.data.params.items():
        section, _, key = name.partition(".")
        settings.setdefault(section, {})[key] = _value(text)
    if lacking := [f"{section}.{key}" for section, key in NEEDED if key not in settings.get(section, {})]:
        raise TrackingError(f"run {run_id}: has no param {lacking[0]}: its settings are not all there")
    return TrainingRun(
        run_id=run_id,
        settings=settings,
        # It is passed to git, which would take other texts for options.
        commit=tags[COMMIT_TAG] if COMMIT.fullmatch(tags.get(COMMIT_TAG, "")) else None,
        was_dirty=tags.get(DIRTY_TAG) == json.dumps(True),
        environment={key: value for key, value in tags.items() if key.startswith("system.")},
        metrics=run.data.metrics,
        weights_sha256=tags[WEIGHTS_TAG],
        fingerprint=tags[FINGERPRINT_TAG],
        start_sha256=tags.get(START_TAG),
    )


def download_fixes(training: TrainingRun, directory: Path) -> Path | None:
    """The fixes that the data of a training had, in a file below ``directory``; None if there were none.

    Raises MlflowException if the store does not answer.
    """
    try:
        listed = [each.path for each in list_artifacts(run_id=training.run_id, artifact_path="preprocess")]
        if FIXES not in listed:
            return None
        return Path(download_artifacts(run_id=training.run_id, artifact_path=FIXES, dst_path=str(directory)))
    except MlflowException as problem:
        if does_not_answer(problem):
            raise
        return None  # whether the data is that of the run is seen in the end


def _value(text: str) -> Any:
    """A setting from its param: strings are logged as they are, all else as JSON."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
