"""A head on features learns what it would learn in the whole model, and is joined with it again."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.features.conftest import CPU
from torch import Tensor, nn

from darkroom.commands import lr_find
from darkroom.config import Config
from darkroom.config.settings import Augment
from darkroom.data.batches import Split, read_split
from darkroom.errors import ConfigError, SearchError
from darkroom.features.body import Body
from darkroom.features.head import Head, start_head, train_head
from darkroom.features.task import head_config, trained_part, without_effect
from darkroom.models.card import ModelCard, save_card
from darkroom.models.classifier import Classifier
from darkroom.models.files import load_classifier, save_weights
from darkroom.search.space import check_space, with_all_views
from darkroom.search.worker import TrialAssignment, Worker, WorkerCommand
from darkroom.training.checkpoint import Checkpoint
from darkroom.training.loop import TrainingLoop
from darkroom.workspace import Workspace

Opened = Callable[..., Head]
Configured = Callable[..., Config]
HEADS = [{}, {"model__hidden": (12, 6)}]


class Frozen(nn.Module):
    """The whole model, of which only the head learns."""

    def __init__(self, body: Body, head: Classifier) -> None:
        super().__init__()
        self.body, self.head = body.requires_grad_(False), head

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body.eval()(images)[:, :, None, None])
        return logits


def pixels(head: Head, name: str) -> Split:
    return read_split(Path("data/processed/folder"), head.features.dataset, name)


@pytest.mark.parametrize("change", HEADS, ids=["linear", "mlp"])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_a_head_on_features_learns_as_in_the_whole_model(
    opened: Opened, configured: Configured, change: dict[str, Any], dtype: torch.dtype, close: float
) -> None:
    head = opened(**change)
    config = head_config(configured(**change))
    body = Body(head.whole.to(dtype))
    train, val = (pixels(head, name) for name in ("train", "val"))
    features = [Split(body(each.images)[:, :, None, None].detach(), each.labels) for each in (train, val)]
    alone = TrainingLoop(
        start_head(configured(**change), head.features, CPU).to(dtype), *features, config.train, Augment(), CPU
    )
    frozen = Frozen(body, start_head(configured(**change), head.features, CPU).to(dtype))
    together = TrainingLoop(frozen, train, val, config.train, Augment(), CPU)

    for _ in range(2):
        alone.run_epoch()
        together.run_epoch()

    for name, value in alone.model.state_dict().items():
        torch.testing.assert_close(frozen.head.state_dict()[name], value, rtol=close, atol=close)
    joined = head.join(alone.model)  # type: ignore[arg-type]
    torch.testing.assert_close(joined(val.images), alone.model(features[1].images), rtol=close, atol=close)


@pytest.mark.parametrize("change", HEADS, ids=["linear", "mlp"])
def test_a_new_head_holds_all_classes_equally_likely_and_learns(
    opened: Opened, configured: Configured, change: dict[str, Any]
) -> None:
    features, config = opened(**change).features, configured(**change)
    head = start_head(config, features, CPU)
    before = {name: value.clone() for name, value in head.network.named_parameters()}

    assert not head(features.val.images).any()

    loop = TrainingLoop(head, features.train, features.val, head_config(config).train, Augment(), CPU)
    for _ in range(2):
        loop.run_epoch()
    assert not any(torch.equal(value, before[name]) for name, value in head.network.named_parameters())


@pytest.mark.parametrize("change", HEADS, ids=["linear", "mlp"])
def test_the_joined_model_answers_as_the_head_does(
    opened: Opened, configured: Configured, change: dict[str, Any], tmp_path: Path
) -> None:
    head, config = opened(**change), configured(**change)
    trained = start_head(config, head.features, CPU).eval()
    for parameter in trained.network.parameters():
        nn.init.normal_(parameter)

    joined = head.join(trained)

    with torch.no_grad():
        expected = trained(head.features.val.images)
        found = joined(pixels(head, "val").images)
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-5
    paths = tmp_path / "model.safetensors", tmp_path / "model.json"
    card = ModelCard(
        asdict(head.features.dataset),
        {"model": config.model.model_dump(mode="json")},
        {},
        {},
        "run-1",
        save_weights(joined, paths[0]),
    )
    save_card(card, paths[1])
    with torch.no_grad():
        assert torch.equal(load_classifier(*paths)[0](pixels(head, "val").images), found)


def test_a_training_resumes_to_the_same_model(opened: Opened, configured: Configured, tmp_path: Path) -> None:
    change = {"augment__views": 2, "augment__flip": "random", "augment__mixup": 0.3, "model__hidden": (5,)}
    config = configured(**change, model__dropout=0.3, train__epochs=3)
    whole, _ = train_head(
        config, opened(**change), CPU, checkpoint=Checkpoint(tmp_path / "a.pt", "k"), on_epoch=lambda _: None
    )
    expected = {key: value.clone() for key, value in whole.state_dict().items()}

    def stop(metrics: Any) -> None:
        if metrics.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_head(config, opened(**change), CPU, checkpoint=Checkpoint(tmp_path / "b.pt", "k"), on_epoch=stop)
    found, _ = train_head(
        config, opened(**change), CPU, checkpoint=Checkpoint(tmp_path / "b.pt", "k"), on_epoch=lambda _: None
    )

    assert all(torch.equal(found.state_dict()[key], value) for key, value in expected.items())


def test_the_outputs_of_known_classes_are_taken_over(opened: Opened, configured: Configured, tmp_path: Path) -> None:
    head, config = opened(), configured()
    before = head.join(start_head(config, head.features, CPU))
    path = tmp_path / "before.safetensors"
    digest = save_weights(before, path)
    save_card(
        ModelCard(asdict(head.features.dataset), {"model": {"name": "pretrained"}}, {}, {}, "r", digest),
        path.with_suffix(".json"),
    )
    with torch.no_grad():
        expected = before(pixels(head, "val").images)

    begun = configured(train__start_from=str(path), train__seed=9, model__weights_path=None)
    started = start_head(begun, head.features, CPU).eval()

    with torch.no_grad():
        torch.testing.assert_close(started(head.features.val.images), expected, rtol=1e-4, atol=1e-4)


def test_weights_of_unknown_classes_are_not_read_for_a_head(
    opened: Opened, configured: Configured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    features = opened().features
    monkeypatch.setattr("darkroom.features.head.read_start", lambda path: pytest.fail("read"))
    path = tmp_path / "backbone.safetensors"
    path.touch()

    begun = start_head(configured(train__start_from=str(path), model__weights_path=None), features, CPU)

    expected = start_head(configured(), features, CPU)
    assert all(torch.equal(value, expected.state_dict()[key]) for key, value in begun.state_dict().items())


@pytest.mark.parametrize("fuses", [False, True])
def test_a_search_trains_heads_on_the_features(opened: Opened, configured: Configured, fuses: bool) -> None:
    head = opened(augment__views=2, augment__flip="random")
    worker = Worker(configured(), head.directory, fuses=fuses)
    settings = {"model.dropout": 0.2, "augment.mixup": 0.4, "train.epochs": 1}

    report = worker.advance(WorkerCommand((TrialAssignment(1, settings),)))

    assert not report.failures
    assert report.progress[1].is_finished


@pytest.mark.parametrize("fuses", [False, True])
def test_each_trial_learns_from_as_many_views_as_a_training_of_its_settings(
    opened: Opened, configured: Configured, tmp_path: Path, fuses: bool
) -> None:
    changed = {"augment__flip": "random", "augment__crop_scale": [0.3, 1.0], "train__epochs": 3}
    expected = {}
    for views in (1, 2, 3):
        change = {**changed, "augment__views": views}
        checkpoint = Checkpoint(tmp_path / f"{views}.pt", "k")
        _, result = train_head(
            configured(**change), opened(**change), CPU, checkpoint=checkpoint, on_epoch=lambda _: None
        )
        expected[views] = [epoch.val_loss for epoch in result.history]
    worker = Worker(configured(**changed), opened(**changed, augment__views=3).directory, fuses=fuses)

    found: dict[int, list[float]] = {views: [] for views in expected}
    for trials in [(1, 2, 3)] if fuses else [(1,), (2,), (3,)]:
        begin = tuple(TrialAssignment(views, {"augment.views": views}) for views in trials)
        for command in (WorkerCommand(begin), WorkerCommand(), WorkerCommand()):
            for views, progress in worker.advance(command).progress.items():
                found[views].append(progress.metrics.val_loss)

    assert len({tuple(losses) for losses in expected.values()}) == 3
    for views, losses in expected.items():
        assert found[views] == pytest.approx(losses, rel=1e-4)


def test_the_cost_of_a_trial_is_that_of_the_whole_model(opened: Opened, configured: Configured) -> None:
    head = opened()
    config = configured(search__second_objective="parameters", search__pruner="none")
    worker = Worker(config, head.directory, fuses=True)
    assignments = (
        TrialAssignment(1, {"train.epochs": 1}),
        TrialAssignment(2, {"train.epochs": 1, "model.hidden": [4]}),
    )

    found = [worker.advance(WorkerCommand((each,))).progress for each in assignments]

    features = head.features.train.images.shape[1]
    body = sum(each.numel() for each in head.whole.network.model.parameters())  # type: ignore[union-attr]
    assert found[0][1].cost == body + 3 * features + 3
    assert found[1][2].cost == body + 4 * features + 4 + 3 * 4 + 3


def test_time_and_memory_are_estimated_of_the_head_alone(opened: Opened, configured: Configured) -> None:
    head = opened()

    config, card = trained_part(configured(model__hidden=(7,)), head.features.dataset)

    assert (config.model.name, config.model.hidden) == ("mlp", (7,))
    assert card.shape == head.features.card.shape
    assert trained_part(configured(model__train="all"), card)[0].model.name == "pretrained"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"augment__cutmix": 1.0}, r"^augment\.cutmix: features have no places to paste; set it to 0, or take"),
        ({"augment__views": 4}, r"^augment\.views: 4 views of an image that nothing changes are the same; set"),
        ({"augment__views": 4, "model__train": "all"}, r"^augment\.views: 4 views are for a head alone; set"),
    ],
)
def test_settings_that_contradict_a_head_are_refused(
    configured: Configured, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        configured(**change)


@pytest.mark.parametrize(
    ("change", "beginnings"),
    [
        ({}, []),
        ({"augment__flip": "random", "augment__views": 2}, []),
        ({"augment__flip": "random", "model__train": "all", "model__freeze_epochs": 2}, []),
        ({"augment__mixup": 0.2}, []),
        ({"model__hidden": [4], "model__dropout": 0.2}, []),
        ({"model__train": "last-blocks", "model__last_blocks": 2}, []),
        (
            {"model__train": "all", "model__last_blocks": 2},
            ["model.last_blocks has no effect; set model.train to last"],
        ),
        ({"model__last_blocks": 2}, ["model.last_blocks has no effect; set model.train to last-blocks"]),
        ({"model__freeze_norm": True}, ["model.freeze_norm has no effect on a head alone"]),
        ({"augment__flip": "random"}, ["augment changes no image for a head without views; set augment.views"]),
        ({"model__dropout": 0.2}, ["model.dropout has no effect on a head of one layer; set model.hidden"]),
        ({"augment__flip": "random", "search__space": {"augment": {"views": {"choices": [1, 2]}}}}, []),
        ({"model__dropout": 0.2, "search__space": {"model": {"hidden": {"choices": [[], [4]]}}}}, []),
        (
            {"model__freeze_epochs": 0, "model__layer_lr_decay": 0.5},
            ["model.freeze_epochs has no effect on a head", "model.layer_lr_decay has no effect on a head"],
        ),
    ],
)
def test_settings_that_a_head_has_no_use_for_are_named(
    configured: Configured, change: dict[str, Any], beginnings: list[str]
) -> None:
    config = configured(**change)

    found = without_effect(config, config.search.space.flat())

    assert len(found) == len(beginnings)
    assert all(line.startswith(beginning) for line, beginning in zip(found, beginnings, strict=True))


def test_a_learning_rate_is_found_for_the_head(opened: Opened, configured: Configured, capsys: Any) -> None:
    directory = opened().directory

    lr_find.run(configured(train__batch_size=4), Workspace(), 60)

    assert capsys.readouterr().out.startswith("suggested train.lr: ")
    assert [path for path in directory.parent.iterdir() if path.is_dir()] == [directory]


@pytest.mark.parametrize(
    ("section", "key", "values"),
    [
        ("augment", "rotate", {"low": 0.0, "high": 5.0}),
        ("model", "backbone", {"choices": ["resnet18", "resnet34"]}),
    ],
)
def test_what_would_change_the_features_is_not_searched(
    configured: Configured, section: str, key: str, values: Any
) -> None:
    with pytest.raises(
        SearchError, match=rf"^search\.space\.{section}\.{key}: the features of a head are computed once"
    ):
        check_space(configured(search__space={section: {key: values}}))


@pytest.mark.parametrize("train", ["head", "all"])
def test_what_is_trained_is_the_same_for_all_trials(configured: Configured, train: str) -> None:
    space = {"model": {"train": {"choices": ["head", "all"]}}}
    with pytest.raises(SearchError, match=r"^search\.space\.model\.train: is the same for all trials; drop it$"):
        check_space(configured(model__train=train, search__space=space))


VIEWS = {"augment": {"views": {"low": 1, "high": 4}}}


@pytest.mark.parametrize("values", [VIEWS["augment"]["views"], {"choices": [4, 1]}], ids=["range", "choices"])
@pytest.mark.parametrize(("written", "most"), [(1, 4), (9, 9)])
def test_the_features_of_a_search_have_the_most_views_of_a_trial_or_of_the_settings_as_written(
    configured: Configured, values: dict[str, Any], written: int, most: int
) -> None:
    config = configured(augment__flip="random", augment__views=written, search__space={"augment": {"views": values}})

    check_space(config)

    assert with_all_views(config) == config.with_settings({"augment.views": most})
    assert without_effect(config, config.search.space.flat()) == []
    without = configured(augment__flip="random", augment__views=written)
    assert with_all_views(without) == without


def test_views_are_searched_where_images_are_changed_and_the_head_is_trained_alone(configured: Configured) -> None:
    with pytest.raises(ConfigError, match=r"^search\.space\.augment\.views: .* 4 views are for a head alone; set"):
        configured(model__train="all", augment__flip="random", search__space=VIEWS)
    with pytest.raises(ConfigError, match=r"^search\.space\.augment\.views: .* 4 views of an image that nothing chan"):
        configured(search__space=VIEWS)
