"""Steps that lie in one graph learn what steps learn that do not, and read nothing from the device."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from tests.device.trainings import CARD, MODELS, SIDE, Rerun, images
from tests.unit.training.tiny import Scaled, data
from torch import Generator, Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException

from darkroom.config import parse
from darkroom.config.settings import Augment, Train
from darkroom.data.batches import Split
from darkroom.models.network import Network
from darkroom.training.cuda_graph import CudaGraphs, SeparateSteps
from darkroom.training.fit import fit, start_classifier
from darkroom.training.loop import TrainingLoop
from darkroom.training.step import TrainStep

CPU = torch.device("cpu")
EPOCHS = 3
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "sgd": {"optimizer": "sgd", "schedule": "linear"},
    "muon": {"optimizer": "muon", "schedule": "one-cycle"},
    "rates of their own": {"optimizer": "muon", "bias_lr": 0.01, "head_lr": 0.0003, "schedule": "linear"},
    "adam with average": {"optimizer": "adam", "ema": 0.9},
    "parts, clipped": {"accumulate": 2, "clip_norm": 0.1, "warmup_epochs": 1},
    "balanced classes": {"class_weights": "balanced", "label_smoothing": 0.1},
    "balanced batches": {"sampler": "balanced"},
}
CHANGES = {
    "as they are": Augment(),
    "mirrored, shifted": Augment(flip="alternating", translate=1, padding="reflect"),
    "mixed": Augment(mixup=0.5, cutmix=0.5),
    "cropped, blurred": Augment(flip_vertical=True, crop_scale=(0.3, 1.0), blur=1.0),
}


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        Scaled(),
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(64, 8),
        nn.Linear(8, 3),
    )


def begin(settings: dict[str, Any], augment: Augment = CHANGES["as they are"]) -> TrainingLoop:
    """A training whose last batch is smaller."""
    written = {"epochs": EPOCHS, "batch_size": 10, "device": "cpu", "precision": "fp32"}
    return TrainingLoop(make_model(), data(36), data(12), Train(**written | settings), augment, CPU)


def assert_same(found: nn.Module, expected: nn.Module) -> None:
    for (name, one), other in zip(found.state_dict().items(), expected.state_dict().values(), strict=True):
        # The rates of captured steps are float32.
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("augment", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_captured_steps_learn_what_steps_learn_alone(settings: dict[str, Any], augment: Augment) -> None:
    alone, captured = begin(settings, augment), begin(settings, augment)
    captured.capture(Rerun())
    generator = torch.get_rng_state()

    expected = [alone.run_epoch() for _ in range(EPOCHS)]
    torch.set_rng_state(generator)
    found = [captured.run_epoch() for _ in range(EPOCHS)]

    assert captured.captured is not None
    assert_same(captured.validated_model, alone.validated_model)
    for one, other in zip(found, expected, strict=True):
        assert (one.train_accuracy, one.lr) == (other.train_accuracy, pytest.approx(other.lr))
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-5)


def test_capturing_changes_nothing() -> None:
    loop = begin({"optimizer": "muon", "ema": 0.9}, CHANGES["mixed"])
    before = [each.detach().clone() for each in (*loop.model.parameters(), *loop.model.buffers())]
    generators = [torch.get_rng_state(), loop.batches.generator.get_state(), loop.batches.augment_generator.get_state()]

    loop.capture(Rerun())

    after = [*loop.model.parameters(), *loop.model.buffers()]
    now = [torch.get_rng_state(), loop.batches.generator.get_state(), loop.batches.augment_generator.get_state()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(generators, now, strict=True))
    assert loop.average is not None
    assert not loop.average.has_begun


def test_there_is_a_graph_for_each_size_of_batch() -> None:
    loop, recorder = begin({}), Rerun()
    loop.capture(recorder)
    loop.run_epoch()

    assert recorder.recorded == 2


def test_a_training_without_a_smaller_last_batch_has_one_graph_and_learns_what_it_learns_alone() -> None:
    alone, captured, recorder = begin({"drop_last": True}), begin({"drop_last": True}), Rerun()
    captured.capture(recorder)
    generator = torch.get_rng_state()

    expected = alone.run_epoch()
    torch.set_rng_state(generator)
    found = captured.run_epoch()

    assert recorder.recorded == 1
    assert_same(captured.model, alone.model)
    assert (found.train_accuracy, found.train_loss) == (
        expected.train_accuracy,
        pytest.approx(expected.train_loss, rel=1e-5),
    )


def test_a_training_that_was_interrupted_resumes_with_captured_steps() -> None:
    settings = {"optimizer": "adamw", "ema": 0.9, "schedule": "one-cycle"}
    whole = begin(settings)
    whole.capture(Rerun())
    for _ in range(EPOCHS):
        whole.run_epoch()
    first, second = begin(settings), begin(settings)
    first.capture(Rerun())
    first.run_epoch()
    second.load_state(first.state())
    second.capture(Rerun())
    while not second.finished:
        second.run_epoch()

    for one, other in zip(second.validated_model.parameters(), whole.validated_model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert [each.lr for each in second.result.history] == [each.lr for each in whole.result.history]


def test_a_replay_that_does_something_else_is_not_used() -> None:
    alone, loop = begin({}), begin({})
    weight = next(loop.model.parameters())

    def disturb() -> None:
        weight.data.add_(0.01)

    loop.capture(Rerun(after=disturb))
    generator = torch.get_rng_state()
    expected = alone.run_epoch()
    torch.set_rng_state(generator)
    found = loop.run_epoch()

    assert loop.captured is None
    (note,) = loop.result.notes
    assert note.startswith("steps are slower, as they are not captured: a replayed step differs by ")
    assert (found.train_loss, found.lr) == (expected.train_loss, expected.lr)
    assert_same(loop.model, alone.model)


def test_a_device_that_cannot_capture_trains_without() -> None:
    class Refusing(Rerun):
        def record(self, work: Callable[[], None], generators: Sequence[Generator]) -> Callable[[], None]:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")

    loop = begin({})
    loop.capture(Refusing())
    loop.run_epoch()

    reason = "operation not permitted when stream is capturing"
    assert loop.result.notes == [f"steps are slower, as they are not captured: {reason}"]


class Thawing(Network):
    """Its first layer learns from the second epoch on."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(Scaled(), nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits

    def begin_epoch(self, epoch: int) -> None:
        self.layers[2].requires_grad_(epoch > 1)


def test_what_is_frozen_at_first_is_captured_once_it_learns() -> None:
    loops = []
    for recorder in (None, Rerun()):
        torch.manual_seed(0)
        settings = Train(epochs=EPOCHS, batch_size=18, device="cpu", precision="fp32")
        loop = TrainingLoop(Thawing(), data(36), data(12), settings, Augment(), CPU)
        if recorder:
            loop.capture(recorder)
        loops.append([loop.run_epoch() and [each.detach().clone() for each in loop.model.parameters()] for _ in "123"])
    assert recorder is not None
    assert recorder.recorded == 2
    for expected, found in zip(*loops, strict=True):
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert torch.equal(loops[1][0][0], loops[0][0][0])


def test_a_fast_cnn_that_freezes_parts_is_captured_as_it_learns() -> None:
    """As in the recipe cifar10-fast: scales never learn, the bias of the whitening in the first epoch alone."""
    changes = MODELS["fast-cnn"] | {
        "model.activation": "gelu", "model.freeze_norm_scale": True, "model.whitening_epochs": 1,
        "train.optimizer": "muon", "train.bias_lr": 0.01, "train.head_lr": 0.0003, "train.batch_size": 10,
        "train.precision": "fp32", "train.device": "cpu",
    }  # fmt: skip
    config, loops = parse({}, where="").with_settings(changes), []
    for recorder in (None, Rerun()):
        train, val = images(20, 0), images(9, 1)
        loop = TrainingLoop(start_classifier(config, CARD, train), train, val, config.train, config.augment, CPU)
        if recorder:
            loop.capture(recorder)
        weights = dict(loop.model.named_parameters())
        loops.append([loop.run_epoch() and {key: each.detach().clone() for key, each in weights.items()} for _ in "12"])

    assert recorder is not None
    assert recorder.recorded == 2
    for expected, found in zip(*loops, strict=True):
        for name, value in expected.items():
            # Muon computes in bfloat16, and captured rates are float32.
            assert (found[name] - value).norm() <= 1e-3 * value.norm(), name
    first, second = loops[1]
    assert first["network.whitening.bias"].any()
    kept = {name for name in first if torch.equal(first[name], second[name])}
    assert kept == {"network.whitening.bias", *(name for name in first if "norms" in name and name.endswith("weight"))}


def test_fit_tells_what_it_had_to_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def warm_up(loop: TrainingLoop) -> None:
        loop.result.notes.append("a note")

    monkeypatch.setattr(TrainingLoop, "warm_up", warm_up)
    settings = Train(epochs=1, batch_size=10, device="cpu", precision="fp32")
    assert fit(make_model(), data(36), data(12), settings, Augment(), CPU).notes == ["a note"]


# --- on a device that is made up ---------------------------------------------------------------------


def on_gpu(
    gpu: torch.device, model: str, train: dict[str, Any], augment: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> SeparateSteps:
    images = torch.zeros((24, 1, SIDE, SIDE), dtype=torch.uint8, device=gpu)
    split = Split(images, torch.zeros(24, dtype=torch.int64, device=gpu))
    written = {"epochs": 1, "batch_size": 8, "precision": "fp32", "device": "cuda"}
    config = parse({"train": written | train, "augment": augment}, where="").with_settings(MODELS[model])
    with gpu:
        classifier = start_classifier(config, CARD, split, gpu)
    loop = TrainingLoop(classifier, split, split, config.train, config.augment, gpu)
    steps = SeparateSteps([loop], Rerun())
    steps.buffers.bind_rates()

    def backward(loss: Tensor) -> None:
        """torch's own asks for the device's streams. What it does is no code of ours."""
        assert loss.device == gpu
        for weight in classifier.parameters():
            weight.grad = torch.zeros_like(weight)

    monkeypatch.setattr(Tensor, "backward", backward)
    return steps


ON_GPU = {
    "plain": ({}, {}),
    "mixed": ({"optimizer": "sgd"}, {"mixup": 0.5, "cutmix": 0.5}),
    "muon": ({"optimizer": "muon", "accumulate": 2}, {"flip": "alternating", "translate": 2, "padding": "reflect"}),
    "clipped": ({"optimizer": "adam", "clip_norm": 1.0, "class_weights": "balanced"}, {"rotate": 5.0, "erasing": 0.5}),
    "cropped": ({"ema": 0.9}, {"crop_scale": [0.3, 1], "flip_vertical": True, "blur": 1.0}),
    "colors": ({"label_smoothing": 0.1}, {"brightness": 0.1, "contrast": 0.1, "cutout": 3, "flip": "random"}),
}


# Each network takes its step as it is and with Muon, which goes by the shapes of its weights. What else may be set does
# not know the network: the one of most kinds of layers has all of it.
ON_GPU_CASES = [
    pytest.param(
        model,
        settings,
        marks=() if name in ("plain", "muon") or model == "fast-cnn" else pytest.mark.long,
        id=f"{model}-{name}",
    )
    for model in MODELS
    for name, settings in ON_GPU.items()
]


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize(("model", "settings"), ON_GPU_CASES)
def test_a_step_on_a_gpu_stays_on_it_and_reads_nothing_from_it(
    gpu: torch.device,
    model: str,
    settings: tuple[dict[str, Any], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = on_gpu(gpu, model, *settings, monkeypatch)
    model_on_gpu = steps.buffers.trainings[0].model
    before = [id(each) for each in model_on_gpu.parameters()]

    for _ in range(2):
        steps.take_step(8)

    assert [id(each) for each in model_on_gpu.parameters()] == before
    assert all(each.device == gpu for each in model_on_gpu.parameters())


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize(("place", "is_captured"), [("cuda", True), ("cpu", False)])
def test_steps_are_captured_where_the_images_are_on_the_gpu(
    gpu: torch.device, monkeypatch: pytest.MonkeyPatch, place: str, is_captured: bool
) -> None:
    captured, warmed = [], []
    monkeypatch.setattr(TrainingLoop, "capture", lambda loop, recorder: captured.append(recorder))
    monkeypatch.setattr(TrainStep, "warm_up", lambda step, *batch: warmed.append(batch))
    monkeypatch.setattr(Split, "take", lambda split, rows, device: (rows, rows))
    split = Split(torch.zeros((24, 1, SIDE, SIDE), dtype=torch.uint8, device=place), torch.zeros(24, dtype=torch.int64))
    # As it is chosen: without a number.
    loop = TrainingLoop(make_model(), split, split, Train(precision="fp32"), Augment(), torch.device("cuda"))
    loop.warm_up()

    assert [type(each) for each in captured] == [CudaGraphs] * is_captured
    assert len(warmed) == (not is_captured)


def test_the_made_up_gpu_gives_no_value_to_the_host(gpu: torch.device) -> None:
    with pytest.raises(DataDependentOutputException):
        torch.zeros((), device=gpu).item()
