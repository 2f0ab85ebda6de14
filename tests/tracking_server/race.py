"""One promoter of the race, as a process of its own that may be killed at any call to the store."""

import os
import random
import signal
from contextlib import suppress
from pathlib import Path

import mlflow
import numpy as np
from mlflow import MlflowClient

from darkroom.commands import promote, rollback
from darkroom.config import parse
from darkroom.errors import DarkroomError
from darkroom.evaluation.predictions import SplitPredictions
from darkroom.promotion import promote as gate
from darkroom.promotion.evaluated_model import EvaluatedModel
from darkroom.workspace import Workspace

IMAGES = 200
# More calls than a promotion takes: some of those that are to be killed come through.
MOST_CALLS = 20
ROLLBACKS = 0.25


def is_good(version: str) -> bool:
    """Whether the gate lets a version pass: one in three does not reach the accuracy that is asked."""
    return int(version) % 3 != 0


class Mortal:
    """A client whose process is killed before or after its nth call, if ``calls`` is not None."""

    def __init__(self, client: MlflowClient, calls: int | None, *, is_late: bool) -> None:
        self._client, self._left, self._is_late = client, calls, is_late

    def __getattr__(self, name):
        method = getattr(self._client, name)

        def call(*arguments, **options):
            if self._left is None:
                return method(*arguments, **options)
            self._left -= 1
            if self._left < 0 and not self._is_late:
                os.kill(os.getpid(), signal.SIGKILL)
            answer = method(*arguments, **options)
            if self._left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        return call


def run(environment: dict[str, str], place: str, name: str, versions: int, seed: int) -> None:
    """Try to make a random version champion, through the real gate; half are set to be killed."""
    os.environ |= environment
    promote.output.quiet = promote.messages.quiet = True
    chance = random.Random(seed)
    calls = chance.randrange(MOST_CALLS) if chance.random() < 0.5 else None
    is_late = chance.random() < 0.5
    mlflow.set_tracking_uri(environment["MLFLOW_TRACKING_URI"])
    promote.registry_client = rollback.registry_client = lambda workspace: Mortal(
        MlflowClient(), calls, is_late=is_late
    )
    gate.load_evaluated_model = evaluated
    # A version's tags are written one by one, each as the others: one stands for all, and saves half of the time.
    gate.Verdict.tags = lambda verdict: {"gate.verdict": verdict.summary}
    config = parse(
        {"dataset": {"name": "digits"}, "gate": {"min_accuracy": 0.5, "alpha": 0.49, "max_class_drop": 1.0},
         "tracking": {"registered_model": name}}, where="",
    )  # fmt: skip
    workspace = Workspace(Path(place, str(os.getpid())))
    version = str(chance.randint(1, versions))
    with suppress(DarkroomError):  # overtaken, or nothing to go back to
        if chance.random() < ROLLBACKS:
            rollback.run(config, workspace, "a race")
        else:
            promote.run(config, workspace, version, dry_run=False, force=False, reason="")


def evaluated(client, contender, directory):
    """Made-up answers: a version that is good may be better than the champion in one round, and worse in the next."""
    chance = np.random.default_rng(int.from_bytes(os.urandom(4)))
    accuracy = chance.uniform(0.6, 0.95) if is_good(contender.version) else 0.3
    labels = np.arange(IMAGES) % 2
    wrong = chance.random(IMAGES) > accuracy
    answers = SplitPredictions(
        ("a", "b"), tuple(map(str, range(IMAGES))), labels, np.where(wrong, 1 - labels, labels), np.full(IMAGES, 0.9)
    )
    model = directory / str(contender.version)
    (model / "data").mkdir(parents=True)
    (model / "data" / "model.pt2").write_bytes(bytes(1000))
    return EvaluatedModel(contender, answers, "a fingerprint", (1, 2, 2), model, model)
