"""A worker trains what it is ordered to, an epoch at a time, and says what became of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from darkroom.config import Config, parse
from darkroom.data.batches import CPU, read_split
from darkroom.data.cache import DatasetCard
from darkroom.errors import CacheError, ConfigError
from darkroom.search.worker import TrialAssignment, TrialProgress, Worker, WorkerCommand
from darkroom.training.fit import train_classifier

Settings = dict[str, Any]


@pytest.fixture
def directory(small_cache: Path) -> Path:
    return small_cache


def config(**search: Any) -> Config:
    train = {"epochs": 3, "batch_size": 16, "device": "cpu", "precision": "fp32"}
    return parse({"model": {"name": "mlp", "hidden": [8], "dropout": 0.2}, "train": train, "search": search}, where="")


def assignment(number: int, **settings: Any) -> TrialAssignment:
    return TrialAssignment(
        number, {"train.epochs": 3, **{key.replace("__", "."): value for key, value in settings.items()}}
    )


@pytest.fixture(params=[False, True], ids=["one at a time", "fused"])
def worker(request: pytest.FixtureRequest, directory: Path) -> Worker:
    return Worker(config(), directory, fuses=request.param)


def trained(directory: Path, **settings: Any) -> list[tuple[float, float]]:
    """The validation loss and accuracy of each epoch of the same training in one piece."""
    card = DatasetCard.read(directory)
    splits = [read_split(directory, card, name) for name in ("train", "val")]
    changed = config().with_settings(assignment(0, **settings).settings)
    _, result = train_classifier(changed, card, *splits, CPU)
    return [(metrics.val_loss, metrics.val_accuracy) for metrics in result.history]


def figures(found: list[TrialProgress]) -> list[tuple[float, float]]:
    return [(progress.metrics.val_loss, progress.metrics.val_accuracy) for progress in found]


def test_a_round_is_an_epoch_and_the_last_one_says_so(worker: Worker, directory: Path) -> None:
    rounds = [worker.advance(WorkerCommand((assignment(7, train__lr=0.01),)))] + [
        worker.advance(WorkerCommand()) for _ in range(2)
    ]

    found = [each.progress[7] for each in rounds]
    assert [progress.metrics.epoch for progress in found] == [1, 2, 3]
    assert [progress.is_finished for progress in found] == [False, False, True]
    np.testing.assert_allclose(figures(found), trained(directory, train__lr=0.01), rtol=1e-4)
    assert worker.advance(WorkerCommand()).progress == {}


def test_trials_that_begin_and_are_given_up_do_not_change_the_others(directory: Path) -> None:
    worker = Worker(config(), directory, fuses=True)
    first = worker.advance(WorkerCommand((assignment(1, train__lr=0.01), assignment(2, train__seed=9))))
    second = worker.advance(WorkerCommand((assignment(3, model__dropout=0.6),), give_up=(1,)))
    third = worker.advance(WorkerCommand((assignment(4),)))

    assert [sorted(each.progress) for each in (first, second, third)] == [[1, 2], [2, 3], [2, 3, 4]]
    found = [each.progress[2] for each in (first, second, third)]
    np.testing.assert_allclose(figures(found), trained(directory, train__seed=9), rtol=1e-4)
    assert [number for number, progress in third.progress.items() if progress.is_finished] == [2]
    assert sorted(worker.advance(WorkerCommand()).progress) == [3, 4]


@pytest.mark.parametrize(("fuses", "precision"), [(True, "fp32"), (False, "fp16")])
def test_fused_trials_are_not_trained_in_fp16_without_loss_scaling(
    directory: Path, monkeypatch: pytest.MonkeyPatch, fuses: bool, precision: str
) -> None:
    # A GPU without bf16, on another machine than the one that planned the search.
    monkeypatch.setattr("darkroom.training.device.precisions", lambda device: ("fp32", "fp16"))
    auto = config(second_objective="parameters", pruner="none")
    auto = auto.model_copy(update={"train": auto.train.model_copy(update={"precision": "auto"})})
    worker = Worker(auto, directory, fuses=fuses)

    worker.advance(WorkerCommand((assignment(1),)))

    assert worker._trainings.loops[1].precision == precision
    assert worker.config.search.second_objective == "parameters"


def test_the_place_of_a_finished_trial_is_free(worker: Worker) -> None:
    for number in (1, 2):
        worker.advance(WorkerCommand((assignment(number),)))
        worker.advance(WorkerCommand())
        assert worker.advance(WorkerCommand()).progress[number].is_finished


def test_settings_that_contradict_each_other_are_that_trials_failure(worker: Worker) -> None:
    report = worker.advance(WorkerCommand((assignment(1, augment__cutout=2, augment__erasing=0.5),)))

    assert report.progress == {}
    assert report.failures[1].startswith("augment.cutout and erasing contradict each other")
    assert worker.advance(WorkerCommand((assignment(2),))).progress.keys() == {2}


def test_a_trial_that_diverges_fails_and_the_others_go_on(directory: Path) -> None:
    worker = Worker(config(), directory, fuses=True)
    wild = assignment(1, train__lr=100.0, train__optimizer="sgd", train__weight_decay=10.0, train__epochs=50)
    report = worker.advance(WorkerCommand((wild, assignment(2, train__epochs=50))))
    while not report.failures:
        assert report.progress[1].metrics.epoch < 50
        report = worker.advance(WorkerCommand())

    assert "the loss is no longer finite" in report.failures[1]
    assert report.progress.keys() == {2}
    assert worker.advance(WorkerCommand()).progress.keys() == {2}


def test_a_failure_of_the_whole_program_is_every_trials(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(config(), directory, fuses=True)

    def run_epoch() -> None:
        raise RuntimeError("shapes differ\nwith details")

    monkeypatch.setattr(worker._trainings, "run_epoch", run_epoch)

    assert worker.advance(WorkerCommand((assignment(1), assignment(2)))).failures == {
        1: "shapes differ",
        2: "shapes differ",
    }
    monkeypatch.undo()
    assert worker.advance(WorkerCommand((assignment(3),))).progress.keys() == {3}


@pytest.mark.parametrize(
    "problem", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory\nwith details")]
)
def test_a_trial_without_memory_fails_and_the_next_goes_on(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    def start(*given: Any) -> Any:
        raise problem

    with monkeypatch.context() as patched:
        patched.setattr("darkroom.search.worker.start_classifier", start)
        assert worker.advance(WorkerCommand((assignment(1),))).failures[1].startswith("not enough memory (")
    assert worker.advance(WorkerCommand((assignment(2),))).progress.keys() == {2}


@pytest.mark.parametrize("where", ["search.worker.start_classifier", "training.loop.evaluate"])
def test_a_device_that_fails_is_no_failure_of_a_trial(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def fail(*given: Any) -> Any:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(f"darkroom.{where}", fail)
    with pytest.raises(torch.AcceleratorError, match=r"^CUDA error: an illegal memory access"):
        worker.advance(WorkerCommand((assignment(1),)))


def test_a_finished_trial_has_its_cost_where_one_is_weighed(directory: Path) -> None:
    worker = Worker(config(second_objective="parameters", pruner="none"), directory, fuses=True)
    worker.advance(WorkerCommand((assignment(1),)))
    middle, last = worker.advance(WorkerCommand()), worker.advance(WorkerCommand())

    assert middle.progress[1].cost is None
    assert last.progress[1].cost == 16 * 8 + 8 + 8 * 2 + 2


def test_a_cache_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="not found"):
        Worker(config(), tmp_path / "nothing", fuses=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused(directory: Path) -> None:
    with pytest.raises(ConfigError, match=r"^train\.device: cuda is not available here"):
        Worker(parse({"train": {"device": "cuda"}}, where=""), directory, fuses=False)
