"""Features are computed once, whatever happens meanwhile, and never taken for those of something else."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.unit.features.conftest import CPU, TRAIN, VAL, write_images
from torch.utils.flop_counter import FlopCounterMode

from darkroom.config.settings import Augment
from darkroom.data.batches import TrainBatches, read_split
from darkroom.errors import CacheError, ModelError
from darkroom.features import body, compute
from darkroom.features.body import Body, fastest, feature_function
from darkroom.features.files import read_features
from darkroom.features.head import Head

Opened = Callable[..., Head]
VIEWS = {"augment__views": 3, "augment__flip": "random", "augment__crop_scale": [0.3, 1.0]}


@pytest.fixture(autouse=True)
def parts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The parts that are computed, of four images each."""
    found: list[tuple[str, int]] = []
    original = compute._Computation._compute

    def counted(self: Any, name: str, start: int) -> Any:
        found.append((name, start))
        return original(self, name, start)

    monkeypatch.setattr(compute, "PART", 4)
    monkeypatch.setattr(compute._Computation, "_compute", counted)
    return found


def test_features_are_what_the_body_gives(opened: Opened) -> None:
    head = opened()

    pixels = read_split(Path("data/processed/folder"), head.features.dataset, "val").images
    expected = feature_function(Body(head.whole), CPU)(pixels)

    assert head.features.val.images.dtype == torch.float32
    torch.testing.assert_close(head.features.val.images[:, :, 0, 0], expected, rtol=1e-5, atol=1e-5)
    assert (len(head.features.train), len(head.features.val)) == (TRAIN, VAL)


def test_mean_and_deviation_are_those_of_the_train_split(opened: Opened) -> None:
    head = opened()

    found = head.features.train.images.flatten(1).double()
    mean, std = (255 * torch.tensor(each).double() for each in (head.features.card.mean, head.features.card.std))
    torch.testing.assert_close(mean, found.mean(0), rtol=1e-5, atol=1e-6)
    spread = found.std(0, unbiased=False)
    expected = spread.clamp(min=float(0.01 * (spread**2).mean().sqrt()))
    torch.testing.assert_close(std, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "is_new"),
    [
        ({"model__hidden": (7,), "model__dropout": 0.4, "train__lr": 1.0, "train__seed": 5}, False),
        ({"augment__mixup": 0.4}, False),
        (VIEWS, True),
        ({"model__input_size": 64}, True),
    ],
    ids=["a head", "mixing", "views", "the size of the images"],
)
def test_only_what_features_depend_on_computes_them_again(
    opened: Opened, parts: list[tuple[str, int]], change: dict[str, Any], is_new: bool
) -> None:
    opened()
    parts.clear()

    opened(**change)

    assert bool(parts) is is_new


@pytest.mark.parametrize("change", [{"augment__views": 4}, {"train__seed": 1}, {"augment__crop_scale": [0.5, 1.0]}])
def test_other_views_are_other_features(opened: Opened, parts: list[tuple[str, int]], change: dict[str, Any]) -> None:
    opened(**VIEWS)
    parts.clear()
    opened(**{**VIEWS, "model__hidden": (3,), "augment__mixup": 0.2})
    assert not parts

    opened(**{**VIEWS, **change})

    assert parts


def test_other_weights_and_other_images_are_other_features(
    opened: Opened, parts: list[tuple[str, int]], weights: Path, tmp_path: Path, root: Path
) -> None:
    first = opened().directory
    save_file({key: value + 1 for key, value in load_file(weights).items()}, tmp_path / "other.safetensors")
    second = opened(model__weights_path=str(tmp_path / "other.safetensors")).directory
    shutil.rmtree(root / "data" / "processed")
    write_images(root, seed=1)

    third = opened().directory

    assert len({first, second, third}) == 3
    assert len(parts) == 3 * (6 + 3)


def test_the_same_weights_in_another_file_are_the_same(
    opened: Opened, parts: list[tuple[str, int]], weights: Path, tmp_path: Path
) -> None:
    opened()
    parts.clear()
    torch.save(load_file(weights), tmp_path / "same.pth")

    opened(model__weights_path=str(tmp_path / "same.pth"))

    assert not parts


def test_a_kill_loses_the_part_that_it_meets(
    opened: Opened, parts: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = opened(**VIEWS)
    expected = {path.name: path.read_bytes() for path in whole.directory.iterdir()}
    shutil.rmtree(whole.directory)
    parts.clear()
    counted = compute._Computation._compute

    def killed(self: Any, name: str, start: int) -> Any:
        if len(parts) == 4:
            raise KeyboardInterrupt
        return counted(self, name, start)

    with monkeypatch.context() as patch:
        patch.setattr(compute._Computation, "_compute", killed)
        with pytest.raises(KeyboardInterrupt):
            opened(**VIEWS)
    assert len(parts) == 4
    partial = whole.directory.with_suffix(".partial")
    damaged = sorted(partial.glob("*.npy"))[0]
    damaged.write_bytes(damaged.read_bytes()[:100])
    capsys.readouterr()

    opened(**VIEWS)

    assert len(parts) == 6 + 3 + 1
    assert {path.name: path.read_bytes() for path in whole.directory.iterdir()} == expected
    assert not partial.exists()
    assert "features: resuming after 36 of 75" in capsys.readouterr().err


def test_a_queued_experiment_finds_the_features_of_the_checkout(
    opened: Opened, parts: list[tuple[str, int]], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = opened().directory
    parts.clear()
    copy = root / ".dvc" / "tmp" / "exps" / "copy"
    shutil.copytree(root / "data" / "processed", copy / "data" / "processed")
    monkeypatch.chdir(copy)

    assert opened().directory == directory
    assert not parts


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "harm",
    [
        lambda directory: damage(directory / "train.safetensors"),
        lambda directory: (directory / "val.safetensors").write_bytes(b"short"),
        lambda directory: (directory / "val.safetensors").unlink(),
        lambda directory: (directory / "features.json").write_text("{}"),
        lambda directory: (directory / "features.json").write_text("no JSON"),
    ],
    ids=["a changed bit", "cut", "missing", "no card", "no JSON"],
)
def test_damaged_features_are_computed_again(
    opened: Opened,
    parts: list[tuple[str, int]],
    capsys: pytest.CaptureFixture[str],
    harm: Callable[[Path], object],
) -> None:
    directory = opened().directory
    expected = (directory / "train.safetensors").read_bytes()
    parts.clear()
    harm(directory)
    capsys.readouterr()

    opened()

    assert len(parts) == 9
    assert (directory / "train.safetensors").read_bytes() == expected
    first, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith("features: ")
    assert first.endswith("; they are computed again")


def test_features_of_something_else_are_not_taken(opened: Opened, parts: list[tuple[str, int]]) -> None:
    other, own = opened(**VIEWS).directory, opened().directory
    shutil.rmtree(own)
    shutil.copytree(other, own)
    parts.clear()

    head = opened()

    assert len(parts) == 9
    assert head.features.train.views == 1


def test_a_file_of_other_features_is_refused(opened: Opened) -> None:
    other, own = opened(**VIEWS).directory, opened().directory
    shutil.copyfile(other / "val.safetensors", own / "val.safetensors")

    with pytest.raises(
        CacheError, match=r"val\.safetensors: does not belong to .*features\.json; run `dvc repro` again$"
    ):
        read_features(own)


def test_the_first_view_is_the_image_and_the_others_are_changed(opened: Opened) -> None:
    plain, several = opened().features, opened(**VIEWS).features

    views = several.train.images.unflatten(0, (TRAIN, 3))
    assert torch.equal(views[:, 0], plain.train.images)
    assert (views[:, 1] - views[:, 0]).abs().amax(1).min() > 0
    assert (views[:, 2] - views[:, 1]).abs().amax(1).min() > 0
    assert torch.equal(several.train.labels.view(TRAIN, 3)[:, 2], plain.train.labels)
    assert torch.equal(several.val.images, plain.val.images)


@pytest.mark.parametrize("change", [{"augment__views": 2}, {"augment__views": 1}])
def test_of_more_views_the_first_are_used(opened: Opened, parts: list[tuple[str, int]], change: dict[str, Any]) -> None:
    fewer = {**VIEWS, **change}
    own = opened(**fewer).features
    shutil.rmtree("data/features")
    opened(**VIEWS)
    parts.clear()

    shared = opened(**fewer).features

    assert not parts
    assert (own.train.views, shared.train.views) == (fewer["augment__views"], 3)
    views = shared.train.images.unflatten(0, (TRAIN, 3))
    assert torch.equal(views[:, : own.train.views].flatten(0, 1), own.train.images)
    assert own.card == shared.card
    assert torch.equal(own.train.originals.labels, shared.train.originals.labels)


def test_features_with_too_few_views_are_computed_again_and_said_to_be(
    opened: Opened, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = opened(**VIEWS).directory
    capsys.readouterr()

    opened(**{**VIEWS, "augment__views": 4})

    said = f"features: {directory}: of each image 3 views, expected 4; they are computed again"
    assert said in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("sampler", ["shuffle", "balanced"])
@pytest.mark.parametrize("used", [1, 2, 3])
def test_an_epoch_has_one_view_of_each_image(opened: Opened, sampler: str, used: int) -> None:
    batches = TrainBatches(opened(**VIEWS).features.train, 8, Augment(views=used), 0, sampler)

    epochs = torch.stack([batches.begin_epoch() for _ in range(60)])

    assert (len(batches), batches.images) == (3, TRAIN)
    assert set(epochs.flatten().tolist()) == {row for row in range(3 * TRAIN) if row % 3 < used}
    if sampler == "shuffle":
        assert all(sorted(rows.tolist()) == list(range(TRAIN)) for rows in epochs // 3)


def test_the_features_that_were_used_last_are_kept(opened: Opened) -> None:
    made = [opened(**{**VIEWS, "train__seed": seed}).directory for seed in range(4)]
    opened(**{**VIEWS, "train__seed": 1})

    opened(**{**VIEWS, "train__seed": 9})

    assert [directory.exists() for directory in made] == [False, True, False, True]


def test_features_that_are_not_finite_are_refused(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = torch.full((4, 256), torch.nan)
    monkeypatch.setattr(compute, "feature_function", lambda *_: lambda images: broken[: len(images)])

    with pytest.raises(
        ModelError, match=r"^model\.backbone: timm/test_efficientnet gives features that are not finite"
    ):
        opened()

    assert not [path for path in Path("data/features").iterdir() if path.suffix == ""]


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the seconds that torch and then ONNX Runtime take for the example. An export is always worth it."""
    monkeypatch.setattr(body, "WORTH_EXPORT_FLOPS", 0)

    def take(*each: float) -> None:
        times = iter(each)
        monkeypatch.setattr(body, "_timed", lambda function, shown: (function(shown), next(times)))

    return take


def test_onnx_runtime_gives_the_same_features(opened: Opened, seconds: Callable[..., None]) -> None:
    whole = Body(opened().whole)
    images = torch.randint(0, 256, (20, 3, 20, 24), dtype=torch.uint8)
    seconds(1.0, 0.5)

    found, name = fastest(whole, feature_function(whole, CPU), images, 1000)

    assert name == "ONNX Runtime"
    torch.testing.assert_close(found(images), feature_function(whole, CPU)(images), rtol=1e-4, atol=1e-4)


def test_a_program_that_is_hardly_faster_is_not_taken(opened: Opened, seconds: Callable[..., None]) -> None:
    whole = Body(opened().whole)
    plain = feature_function(whole, CPU)
    seconds(1.0, 0.9)

    assert fastest(whole, plain, torch.zeros(4, 3, 20, 24, dtype=torch.uint8), 1000) == (plain, "torch on cpu")


def test_whether_an_export_is_worth_it_depends_on_the_work_and_not_on_the_time(
    opened: Opened, seconds: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Body(opened().whole)
    plain = feature_function(whole, CPU)
    images = torch.zeros(4, 3, 20, 24, dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter:
        plain(images)
    monkeypatch.setattr(body, "WORTH_EXPORT_FLOPS", 100 * counter.get_total_flops() / len(images))

    seconds(1e6, 1.0)
    assert fastest(whole, plain, images, 99) == (plain, "torch on cpu")
    seconds(1e-6, 1e-9)
    assert fastest(whole, plain, images, 100)[1] == "ONNX Runtime"


def test_parts_of_another_program_are_computed_again_after_a_kill(
    opened: Opened, parts: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = opened().features.train.images.clone()
    shutil.rmtree(opened().directory)
    with monkeypatch.context() as patch:
        patch.setattr(compute, "fastest", lambda body, plain, *_: (lambda images: plain(images) + 1, "another"))
        patch.setattr(compute, "write_features", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            opened()
    parts.clear()
    capsys.readouterr()

    found = opened().features

    assert torch.equal(found.train.images, expected)
    assert found.computed_by == "torch on cpu"
    assert len(parts) == 6 + 3
    assert "resuming" not in capsys.readouterr().err


def _interrupt(*arguments: Any, **options: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("factor", [1.01, float("nan")])
def test_a_program_that_gives_something_else_is_not_taken(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, seconds: Callable[..., None], factor: float
) -> None:
    whole = Body(opened().whole)
    plain = feature_function(whole, CPU)
    seconds(1.0, 0.5)
    monkeypatch.setattr(body, "check_installed", lambda: None)
    monkeypatch.setattr(body, "write_onnx", lambda *_: None)
    monkeypatch.setattr(body, "trace", lambda *_: None)
    monkeypatch.setattr(body, "read_onnx", lambda _: lambda images: plain(images) * factor)

    assert fastest(whole, plain, torch.zeros(4, 3, 20, 24, dtype=torch.uint8), 1000) == (plain, "torch on cpu")
