"""A training that was interrupted ends with the same bits as one that was not."""

import ast
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from darkroom.config import parse
from darkroom.data.batches import CPU, Split
from darkroom.data.cache import DatasetCard
from darkroom.models.classifier import Classifier
from darkroom.training import checkpoint as saving
from darkroom.training.checkpoint import Checkpoint
from darkroom.training.fit import train_classifier
from darkroom.training.loop import EpochMetrics, FitResult

EPOCHS = 5
STEPS_PER_EPOCH = 3
SIDE = 9  # the least that a residual network takes
CNN = {"name": "simple-cnn", "filters": 4, "hidden": 8, "dropout": 0.5}
SHIFTS = {"flip": "random", "translate": 1}
RESNET = {"name": "resnet", "depth": 9, "width": 2}


def split(count: int, seed: int) -> Split:
    """Noise with labels that have nothing to do with it: what is learned does not help, so patience ends."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 1, SIDE, SIDE), generator=generator).to(torch.uint8)
    return Split(images, torch.randint(0, 3, (count,), generator=generator))


def train(
    checkpoint: Checkpoint | None = None,
    on_epoch: Callable[[EpochMetrics], None] = lambda metrics: None,
    on_step: Callable[[], None] = lambda: None,
    *,
    model: dict[str, Any] = CNN,
    augment: dict[str, Any] = SHIFTS,
    **settings: Any,
) -> tuple[Classifier, FitResult]:
    card = DatasetCard("noise", ("a", "b", "c"), (1, SIDE, SIDE), (0.5,), (0.3,), {}, {}, "")
    config = parse(
        {
            "model": model,
            "augment": augment,
            "train": {"device": "cpu", "precision": "fp32", "batch_size": 12, "epochs": EPOCHS, "lr": 0.01, **settings},
        },
        where="",
    )
    return train_classifier(
        config, card, split(33, 1), split(24, 2), CPU, checkpoint=checkpoint, on_epoch=on_epoch, on_step=on_step
    )


@cache
def _uninterrupted(settings: str) -> tuple[Classifier, FitResult]:
    return train(**ast.literal_eval(settings))


def uninterrupted(**settings: Any) -> tuple[Classifier, FitResult]:
    """A training that nothing interrupts, each only once."""
    return _uninterrupted(repr(settings))


@pytest.fixture(autouse=True)
def every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save after every epoch, however short they are here."""
    monkeypatch.setattr(saving, "SHARE", math.inf)


def die_after(path: str, steps: int, threads: int) -> None:
    """Train in this process until ``steps`` are done, then kill it without a chance to tidy up."""
    saving.SHARE = math.inf
    torch.set_num_threads(threads)
    done = 0

    def on_step() -> None:
        nonlocal done
        done += 1
        if done == steps:
            os.kill(os.getpid(), signal.SIGKILL)

    train(Checkpoint(Path(path), "key"), on_step=on_step)


def interrupt_after(epoch: int) -> Callable[[EpochMetrics], None]:
    def on_epoch(metrics: EpochMetrics) -> None:
        if metrics.epoch == epoch:
            raise InterruptedError

    return on_epoch


def history(result: FitResult) -> list[dict[str, Any]]:
    rows = [asdict(metrics) for metrics in result.history]
    for row in rows:
        del row["seconds"]
    return rows


def assert_same(found: tuple[Classifier, FitResult], expected: tuple[Classifier, FitResult]) -> None:
    assert history(found[1]) == history(expected[1])
    assert found[1].stopped_early == expected[1].stopped_early
    weights = expected[0].state_dict()
    for key, value in found[0].state_dict().items():
        assert torch.equal(value, weights[key]), key


def assert_goes_on(checkpoint: Checkpoint, epochs: Sequence[int], settings: dict[str, Any]) -> None:
    """Interrupt a training after each of ``epochs``, go on, and compare it with one that was not interrupted."""
    for epoch in epochs:
        with pytest.raises(InterruptedError):
            train(checkpoint, interrupt_after(epoch), **settings)
        torch.manual_seed(99)  # as another process would have it

    assert_same(train(checkpoint, **settings), uninterrupted(**settings))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return Checkpoint(tmp_path / "train.pt", "key")


@pytest.mark.parametrize("epoch", [1, 2, EPOCHS - 1, EPOCHS])
@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adamw", "schedule": "one-cycle"},
        {"optimizer": "adam", "schedule": "cosine", "warmup_epochs": 2},
        {"optimizer": "sgd", "schedule": "constant", "clip_norm": 0.5},
    ],
    ids=lambda settings: settings["optimizer"],
)
def test_an_interrupted_training_ends_with_the_same_bits(
    checkpoint: Checkpoint, epoch: int, settings: dict[str, Any]
) -> None:
    assert_goes_on(checkpoint, [epoch], settings)


AFFINE = {"rotate": 20.0, "scale": 0.2, "shear": 10.0, "translate": 2, "padding": "reflect"}
SETTINGS: dict[str, dict[str, Any]] = {
    "average": {"ema": 0.9},
    "average of normalized": {"ema": 0.9, "model": RESNET, "monitor": "loss"},
    "muon": {"optimizer": "muon", "schedule": "one-cycle", "model": RESNET},
    "muon, warmed up": {"optimizer": "muon", "schedule": "constant", "warmup_epochs": 2, "momentum": 0.5},
    "alternating": {"augment": {"flip": "alternating"}},
    "mixup": {"augment": {"mixup": 0.4}},
    "mixup and cutmix": {"augment": {"mixup": 0.4, "cutmix": 1.0}},
    "affine": {"augment": AFFINE},
    "light and erasing": {"augment": {"brightness": 0.3, "contrast": 0.3, "erasing": 0.5}},
    "cutout, class weights": {"augment": {"cutout": 4}, "class_weights": "balanced"},
    "sampler": {"sampler": "balanced"},
    "parts": {"accumulate": 3},
    "all": {
        "optimizer": "muon",
        "ema": 0.9,
        "accumulate": 2,
        "class_weights": "balanced",
        "augment": AFFINE | {"flip": "alternating", "mixup": 0.4, "cutmix": 1.0},
    },
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_whatever_the_settings_the_bits_are_the_same(checkpoint: Checkpoint, settings: dict[str, Any]) -> None:
    assert_goes_on(checkpoint, [1, EPOCHS - 2], settings)


def test_an_interrupted_training_stops_early_at_the_same_epoch(checkpoint: Checkpoint) -> None:
    settings = {"epochs": 20, "patience": 3, "schedule": "one-cycle"}
    expected = train(**settings)
    assert expected[1].stopped_early

    for epoch in (1, len(expected[1].history) - 1, len(expected[1].history)):
        checkpoint.remove()
        with pytest.raises(InterruptedError):
            train(checkpoint, interrupt_after(epoch), **settings)
        assert_same(train(checkpoint, **settings), expected)


def test_a_training_interrupted_time_and_again_ends_with_the_same_bits(checkpoint: Checkpoint) -> None:
    assert_goes_on(checkpoint, [1, 2, 4], {})


def test_an_epoch_that_was_cut_short_is_trained_again(checkpoint: Checkpoint) -> None:
    steps = 0

    def on_step() -> None:
        nonlocal steps
        steps += 1
        if steps == 2 * STEPS_PER_EPOCH + 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(checkpoint, on_step=on_step)

    assert_same(train(checkpoint), uninterrupted())


@pytest.mark.slow
def test_a_killed_training_ends_with_the_same_bits(checkpoint: Checkpoint) -> None:
    steps = 2 * STEPS_PER_EPOCH + 2  # in the middle of the third epoch
    call = f"import runpy; runpy.run_path({__file__!r})['die_after']({str(checkpoint.path)!r}, {steps}, "
    killed = subprocess.run([sys.executable, "-c", f"{call}{torch.get_num_threads()})"], check=False)
    assert killed.returncode == -signal.SIGKILL
    trained: list[int] = []

    found = train(checkpoint, on_step=lambda: trained.append(1))

    assert len(trained) == (EPOCHS - 2) * STEPS_PER_EPOCH
    assert_same(found, uninterrupted())


def test_the_epochs_before_the_interruption_are_told_again(checkpoint: Checkpoint) -> None:
    with pytest.raises(InterruptedError):
        train(checkpoint, interrupt_after(3))
    told: list[int] = []

    train(checkpoint, lambda metrics: told.append(metrics.epoch))

    assert told == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("share", "saved"), [(math.inf, [1, 2, 3, 4, 5]), (1e-9, [1, 5])])
def test_the_first_and_last_epochs_are_saved_and_others_as_often_as_that_is_cheap(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, share: float, saved: list[int]
) -> None:
    monkeypatch.setattr(saving, "SHARE", share)
    found: list[int] = []
    save = checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda state: (found.append(len(state["history"])), save(state)))

    train(checkpoint)

    assert found == saved


def test_saving_waits_until_its_cost_is_a_small_share_of_the_time(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "SHARE", 0.02)
    now = iter([0.0, 100.0, 104.0, 303.9, 304.0])
    monkeypatch.setattr(saving.time, "perf_counter", lambda: next(now))

    assert checkpoint.is_due()
    checkpoint.save({})  # takes 4 seconds

    assert [checkpoint.is_due(), checkpoint.is_due()] == [False, True]


def test_a_finished_training_is_not_trained_again(checkpoint: Checkpoint) -> None:
    expected = train(checkpoint)
    steps: list[int] = []

    found = train(checkpoint, on_step=lambda: steps.append(1))

    assert not steps
    assert_same(found, expected)


def test_the_checkpoint_of_another_training_is_left_alone(checkpoint: Checkpoint) -> None:
    with pytest.raises(InterruptedError):
        train(checkpoint, interrupt_after(3), lr=0.5)
    other = Checkpoint(checkpoint.path, "another key", "run-2")

    assert other.load() is None
    assert other.run_id == "run-2"
    assert_same(train(other), uninterrupted())


@pytest.fixture
def saved(checkpoint: Checkpoint) -> Checkpoint:
    checkpoint.run_id = "run-1"
    checkpoint.save({"weights": torch.arange(300.0), "order": torch.get_rng_state(), "epoch": 3})
    return checkpoint


def test_the_state_and_its_run_come_back(saved: Checkpoint) -> None:
    found = Checkpoint(saved.path, "key")

    state = found.load()

    assert state is not None
    assert torch.equal(state["weights"], torch.arange(300.0))
    assert (state["epoch"], found.run_id) == (3, "run-1")


def test_there_is_nothing_to_go_on_from_at_first_and_after_removal(checkpoint: Checkpoint, saved: Checkpoint) -> None:
    assert Checkpoint(saved.path.with_name("none.pt"), "key").load() is None
    saved.remove()
    saved.remove()
    assert saved.load() is None


def test_a_truncated_file_counts_as_none(saved: Checkpoint) -> None:
    content = saved.path.read_bytes()

    for length in range(0, len(content), 101):
        saved.path.write_bytes(content[:length])
        assert saved.load() is None, length


def test_a_changed_bit_is_noticed_wherever_it_matters(saved: Checkpoint) -> None:
    content = saved.path.read_bytes()

    noticed = 0
    for place in range(0, len(content), 67):
        saved.path.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
        state = saved.load()
        noticed += state is None
        assert state is None or torch.equal(state["weights"], torch.arange(300.0)), place
    assert noticed


@pytest.mark.parametrize("content", [b"", b"text", b"\x80\x02}q\x00.", b"PK\x03\x04", b"PK\x05\x06" + bytes(18)])
def test_a_file_that_is_no_checkpoint_counts_as_none(checkpoint: Checkpoint, content: bytes) -> None:
    checkpoint.path.write_bytes(content)

    assert checkpoint.load() is None


def test_a_checkpoint_holds_no_code(checkpoint: Checkpoint) -> None:
    train(checkpoint)

    found = torch.load(checkpoint.path, weights_only=True)

    assert found["key"] == "key"
    assert len(found["state"]["history"]) == EPOCHS


def test_a_save_that_fails_leaves_the_last_one(saved: Checkpoint) -> None:
    before = saved.path.read_bytes()

    with pytest.raises(Exception, match="lambda"):
        saved.save({"code": lambda: None})

    assert saved.path.read_bytes() == before
    assert list(saved.path.parent.iterdir()) == [saved.path]


def test_removal_takes_along_what_a_kill_while_saving_has_left(saved: Checkpoint) -> None:
    (saved.path.parent / f".darkroom.{socket.gethostname()}~1~1.abc123.partial").write_bytes(b"half")

    saved.remove()

    assert list(saved.path.parent.iterdir()) == []
