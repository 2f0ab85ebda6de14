"""Studies whose trials were never trained, for what is told of a study."""

import math
from datetime import datetime, timedelta
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

COMPLETE = TrialState.COMPLETE
PRUNED = TrialState.PRUNED
FAIL = TrialState.FAIL
SPACE: dict[str, BaseDistribution] = {
    "train.lr": FloatDistribution(1e-4, 1e-1, log=True),
    "train.batch_size": CategoricalDistribution([32, 64, 128]),
    "model.hidden": CategoricalDistribution(["[128]", "[256, 128]", "[512, 256, 128, 64]"]),
    "model.width": IntDistribution(16, 256, log=True),
    "augment.translate": IntDistribution(0, 4),
    "augment.mixup": FloatDistribution(0, 1, step=0.1),
}
ONE = {"train.lr": SPACE["train.lr"]}


def trial(
    state: TrialState,
    *values: float,
    x: float = 0.5,
    curve: dict[int, float] | None = None,
    space: dict[str, BaseDistribution] = SPACE,
    **attributes: Any,
) -> FrozenTrial:
    """A trial that took two seconds, with every parameter at the share ``x`` (0 to 1) of its range."""
    made = create_trial(
        state=state,
        values=list(values) or None,
        params={key: _at(kind, x) for key, kind in space.items()},
        distributions=space,
        intermediate_values=curve or {},
        user_attrs=attributes,
    )
    made.datetime_start = datetime(2026, 1, 1)  # noqa: DTZ001 - as Optuna writes the time
    made.datetime_complete = made.datetime_start + timedelta(seconds=2)
    return made


def _at(kind: BaseDistribution, share: float) -> Any:
    match kind:
        case CategoricalDistribution():
            return kind.choices[round(share * (len(kind.choices) - 1))]
        case IntDistribution():
            return round(kind.low + share * (kind.high - kind.low))
        case FloatDistribution(step=None):
            return kind.low + share * (kind.high - kind.low)
        case _:
            return round(10 * share) / 10


def study_of(
    trials: list[FrozenTrial],
    *directions: str,
    interrupted: tuple[int, ...] = (),
    storage: BaseStorage | None = None,
    name: str = "small-mlp-0",
) -> optuna.Study:
    study = optuna.create_study(directions=directions or ("maximize",), storage=storage, study_name=name)
    study.add_trials(trials)
    study.set_user_attr("interrupted", list(interrupted))
    study.set_user_attr("opened", "2026-01-01T00:00:00+00:00")
    return study


def curve(last: float, epochs: int = 4) -> dict[int, float]:
    return {epoch: last * (1 - math.exp(-epoch)) / (1 - math.exp(-epochs)) for epoch in range(1, epochs + 1)}


MIXED = [
    trial(FAIL, failure="too high"),
    trial(COMPLETE, 0.5, x=0.1, curve=curve(0.5)),
    trial(PRUNED, 0.4, curve=curve(0.4, 2)),
    trial(COMPLETE, 0.9, x=0.2, curve=curve(0.9)),
    trial(FAIL, curve=curve(0.2, 1)),
]
STUDIES: dict[str, list[FrozenTrial]] = {
    "no trial": [],
    "one trial": [trial(COMPLETE, 0.9, curve=curve(0.9))],
    "one trial of one epoch": [trial(COMPLETE, 0.9, curve={1: 0.9})],
    "one setting": [trial(COMPLETE, 0.9, x=0.1, space=ONE), trial(COMPLETE, 0.8, x=0.9, space=ONE)],
    "only failed": [trial(FAIL), trial(FAIL)],
    "only pruned": [trial(PRUNED, 0.4, curve={1: 0.4}), trial(PRUNED)],
    "equal values": [trial(COMPLETE, 0.9, x=0.1), trial(COMPLETE, 0.9, x=0.2)],
    "equal settings": [trial(COMPLETE, 0.9), trial(COMPLETE, 0.8)],
    "in every state": MIXED,
    "many": [trial(COMPLETE, 0.9 + number % 7 / 100, x=number / 100, curve=curve(0.9)) for number in range(100)],
}
TWO: dict[str, list[FrozenTrial]] = {
    "no trial": [],
    "one trial": [trial(COMPLETE, 0.9, 1000.0)],
    "only failed": [trial(FAIL)],
    "some": [trial(COMPLETE, 0.9, 1e3), trial(FAIL), trial(COMPLETE, 0.8, 1e5, x=0.1), trial(COMPLETE, 0.95, 1e5)],
}
