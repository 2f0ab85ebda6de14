"""A training begins with the weights that its settings name, wherever they lie, and with no others."""

import json
import shutil
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import load_file
from tests.stages import run_stages

from darkroom.commands.checkout import Checkout, bring_settings
from darkroom.config import Config, load, parse
from darkroom.data.cache import DatasetCard
from darkroom.data.difference import LISTING
from darkroom.errors import ConfigError, ModelError, TrackingError, TrainingError
from darkroom.models.classifier import build_classifier
from darkroom.models.files import weights_digest
from darkroom.promotion.start_from import find_start, load_initial_weights
from darkroom.promotion.training_run import read_training_run
from darkroom.stages import search, train
from darkroom.training.checkpoint import Checkpoint
from darkroom.workspace import Workspace

MLP = {"name": "mlp", "hidden": [4]}
HERE = Workspace()


def config(**sections: Any) -> Config:
    return parse({"model": MLP, **sections}, where="")


@pytest.fixture
def card(make_card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DatasetCard:
    """That of a dataset; the working directory is one without a store."""
    monkeypatch.chdir(tmp_path)
    made: DatasetCard = make_card()
    return made


def save(path: Path, card: DatasetCard, *, seed: int = 0, **model: Any) -> str:
    """Save a state_dict of such a model; gives the digest of its weights."""
    torch.manual_seed(seed)
    states = build_classifier(config(model=MLP | model).model, card).state_dict()
    torch.save(states, path)
    return weights_digest(states)


# --- files ---------------------------------------------------------------------------------------------


def test_without_the_setting_nothing_is_changed(card: DatasetCard) -> None:
    plain = config()

    assert load_initial_weights(plain, HERE, card) == (plain, None)


@pytest.fixture
def torch_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torchvision keeps its files, with those of one backbone and no way to fetch others."""

    def unreachable(*_args: Any, **_options: Any) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    kept = tmp_path / "torch" / "hub" / "checkpoints"
    kept.mkdir(parents=True)
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), kept / "squeezenet1_1-b8a52dc0.pth")
    return kept


def test_of_a_backbones_own_weights_the_digest_is_known(torch_files: Path, card: DatasetCard) -> None:
    (path,) = torch_files.iterdir()
    plain = config(model={"name": "pretrained", "backbone": "squeezenet1_1"})

    settings, beginning = load_initial_weights(plain, HERE, card)

    assert settings == plain
    assert beginning
    assert (beginning.reference, beginning.line) == (None, f"start: {path}; head new")
    assert beginning.digest == weights_digest(torch.load(path))


@pytest.mark.parametrize("stage", ["train", "search"])
def test_a_backbone_whose_weights_are_not_there_is_refused_before_any_work(
    registered, write_params, torch_files: Path, stage: str
) -> None:
    client, _ = registered
    before = len(client.search_runs([client.get_experiment_by_name("darkroom").experiment_id]))
    searched = {"model": {"backbone": {"choices": ["squeezenet1_1", "squeezenet1_0"]}}}
    options = {
        "train": {"search__trials": 0, "model__backbone": "squeezenet1_0"},
        "search": {"search__space": searched, "model__train": "all"},
    }
    write_params(Path(), model__name="pretrained", train__epochs=1, **options[stage])

    with pytest.raises(ModelError, match=r"^model\.backbone: the weights of squeezenet1_0 cannot be fetched \("):
        run_stages(Path(), "search", "train") if stage == "train" else run_stages(Path(), "search")

    assert len(client.search_runs([client.get_experiment_by_name("darkroom").experiment_id])) == before


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"train": {"start_from": "w.pth"}}, ": the file does not say which classes it was trained on"),
        ({"model": MLP | {"weights_path": "w.pth"}}, ""),
    ],
)
def test_a_file_is_copied_under_the_digest_of_its_weights(
    card: DatasetCard, sections: dict[str, Any], reason: str
) -> None:
    digest = save(Path("w.pth"), card)

    changed, beginning = load_initial_weights(config(**sections), HERE, card)

    assert beginning
    assert (beginning.reference, beginning.digest) == ("w.pth", digest)
    assert beginning.line == f"start: w.pth; head new{reason}"
    (copy,) = Path("models/checkpoints").iterdir()
    assert changed.train.start_from == str(copy.resolve())
    assert changed.model.weights_path is None
    assert weights_digest(load_file(copy)) == digest


def test_only_the_copy_that_is_needed_stays(card: DatasetCard) -> None:
    started = config(train={"start_from": "w.pth"})
    copies = []
    for seed in (1, 2, 2):
        save(Path("w.pth"), card, seed=seed)
        changed, _ = load_initial_weights(started, HERE, card)
        copies.append(changed.train.start_from)

    assert copies[0] != copies[1] == copies[2]
    assert [str(path.resolve()) for path in Path("models/checkpoints").iterdir()] == copies[2:]


@pytest.mark.parametrize("setting", ["train.start_from", "model.weights_path"])
def test_what_does_not_fit_is_refused_by_the_setting_that_names_it(card: DatasetCard, setting: str) -> None:
    save(Path("w.pth"), card, hidden=[5])
    model = MLP | ({"weights_path": "w.pth"} if setting.startswith("model") else {})
    train = {"start_from": "w.pth"} if setting.startswith("train") else {}

    with pytest.raises(
        ModelError, match=rf"^{setting}: w\.pth: 1\.weight has shape \[5, 64\], but mlp needs \[4, 64\]"
    ):
        load_initial_weights(config(model=model, train=train), HERE, card)

    assert not Path("models").exists()


@pytest.mark.parametrize("wanted", ["champoin", "none.pth", "data"])
def test_a_file_that_is_not_there_is_refused_with_what_else_can_be_named(card: DatasetCard, wanted: str) -> None:
    Path("data").mkdir()

    with pytest.raises(ModelError) as raised:
        load_initial_weights(config(train={"start_from": wanted}), HERE, card)

    assert str(raised.value) == (
        f"train.start_from: {wanted}: no such file; expected champion, a version's number, or a file of weights"
    )


def test_a_web_page_is_refused(card: DatasetCard) -> None:
    Path("w.pth").write_text("<!DOCTYPE html>")

    with pytest.raises(ModelError, match=r"^train\.start_from: w\.pth: a web page, not a file of weights"):
        load_initial_weights(config(train={"start_from": "w.pth"}), HERE, card)


def test_what_dvc_removes_before_the_training_is_refused_with_the_reason(card: DatasetCard) -> None:
    with pytest.raises(
        ModelError, match=r"^train\.start_from: models/model\.safetensors: not found; DVC removes a stage"
    ):
        load_initial_weights(config(train={"start_from": "models/model.safetensors"}), HERE, card)


def test_the_same_weights_with_and_without_a_card_are_two_beginnings(registered) -> None:
    shutil.copyfile(HERE.weights, "w.safetensors")
    settings, card = of_project(start_from="w.safetensors")
    found = []
    for _ in range(2):
        changed, beginning = load_initial_weights(settings, HERE, card)
        assert changed.train.start_from
        assert beginning
        found.append((changed.train.start_from, Path(changed.train.start_from).with_suffix(".json").exists()))
        shutil.copyfile(HERE.model_card, "w.json")

    assert found[0][0] != found[1][0]
    assert [has_card for _, has_card in found] == [False, True]


# --- settings ------------------------------------------------------------------------------------------


def test_two_files_to_begin_with_contradict_each_other() -> None:
    with pytest.raises(
        ConfigError, match=r"^train\.start_from: model\.weights_path names weights to begin with as well"
    ):
        config(model=MLP | {"weights_path": "a.pth"}, train={"start_from": "b.pth"})


@pytest.mark.parametrize(("key", "is_taken"), [("dropout", True), ("hidden", False), ("width", False)])
def test_only_what_changes_no_weights_is_searched(key: str, is_taken: bool) -> None:
    values = (
        {"choices": [0.1, 0.2]}
        if key == "dropout"
        else {"choices": [[4], [5]]}
        if key == "hidden"
        else {"choices": [4, 5]}
    )
    sections = {"train": {"start_from": "3"}, "search": {"trials": 2, "space": {"model": {key: values}}}}
    if is_taken:
        assert config(**sections).train.start_from == "3"
        return
    with pytest.raises(ConfigError, match=rf"^search\.space\.model\.{key}: cannot be searched with train\.start_from"):
        config(**sections)


def test_a_versions_number_need_not_be_quoted() -> None:
    assert config(train={"start_from": 3}).train.start_from == "3"


@pytest.mark.parametrize("value", [True, 1.5, ["champion"]])
def test_what_names_no_weights_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match=r"^train\.start_from: expected string"):
        config(train={"start_from": value})


# --- the registry --------------------------------------------------------------------------------------


def test_without_a_store_there_is_no_champion(card: DatasetCard) -> None:
    with pytest.raises(TrackingError, match=r"^train\.start_from: champion: no MLflow store at sqlite"):
        load_initial_weights(config(train={"start_from": "champion"}), HERE, card)


def of_project(**train: Any) -> tuple[Config, DatasetCard]:
    settings = load(HERE.params)
    changed = settings.model_copy(update={"train": settings.train.model_copy(update=train)})
    return changed, DatasetCard.read(HERE.processed("digits"))


@pytest.mark.parametrize(
    ("wanted", "name"),
    [("champion", "champion version 1"), ("1", "version 1"), ("models:/darkroom-digits/1", "version 1")],
)
def test_the_registry_gives_weights_and_classes(registered, wanted: str, name: str) -> None:
    changed, beginning = load_initial_weights(*(of_project(start_from=wanted)[0], HERE, of_project()[1]))

    assert beginning
    assert beginning.line == f"start: {name}; head kept for all 10 classes"
    # Not champion, which may be another one tomorrow.
    assert beginning.reference == "models:/darkroom-digits/1"
    assert beginning.digest == json.loads(HERE.model_card.read_text())["weights_sha256"]
    assert changed.train.start_from
    assert Path(changed.train.start_from).read_bytes() == HERE.weights.read_bytes()


def test_images_that_the_model_has_learned_from_and_is_tested_on_now_are_told(registered) -> None:
    settings, card = of_project(start_from="1")
    assert load_initial_weights(settings, HERE, card)[1].doubt is None
    files = HERE.processed("digits") / "files.csv"
    lines = [line.split(",") for line in files.read_text(encoding="utf-8").splitlines()]
    learned = [line[4] for line in lines if line[0] == "train"]
    for line, digest in zip([line for line in lines if line[0] == "test"][:7], learned, strict=False):
        line[4] = digest
    files.unlink()
    files.write_text("\n".join(map(",".join, lines)) + "\n", encoding="utf-8")

    doubt = load_initial_weights(settings, HERE, card)[1].doubt

    assert doubt.startswith("version 1 was trained or tuned on 7 of the 360 test images here")


@pytest.mark.parametrize("lost", ["here", "in the store"])
def test_the_training_images_of_a_model_without_a_list_are_unknown(registered, lost) -> None:
    client, version = registered
    if lost == "here":
        (HERE.processed("digits") / "files.csv").unlink()
    else:
        run = client.get_run(version.run_id)
        Path(run.info.artifact_uri.removeprefix("file://"), "preprocess", LISTING).unlink()

    settings, card = of_project(start_from="1")

    assert load_initial_weights(settings, HERE, card)[1].doubt is None


def test_the_run_of_a_model_gives_its_weights(registered) -> None:
    _, version = registered
    settings, card = of_project(start_from=version.run_id)

    _, beginning = load_initial_weights(settings, HERE, card)

    assert beginning
    assert beginning.line.endswith("head kept for all 10 classes")


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("7", r"7: darkroom-digits has no such version or alias; choose from: 1, challenger, champion"),
        ("previous", r"previous: darkroom-digits has no such version or alias"),
        ("models:/other/1", r"1: the registry holds no versions of other"),
        ("a" * 32, rf"run {'a' * 32}: not in the MLflow store"),
    ],
)
def test_a_version_that_is_not_there_is_refused(registered, wanted: str, said: str) -> None:
    settings, card = of_project(start_from=wanted)

    with pytest.raises(TrackingError, match=rf"^train\.start_from: {said}"):
        load_initial_weights(settings, HERE, card)


def test_a_training_records_what_it_began_with_and_is_brought_back_by_it(registered, write_params) -> None:
    client, _ = registered
    before = json.loads(HERE.model_card.read_text())["weights_sha256"]
    settings = {"search__trials": 0, "train__epochs": 1, "model__name": "mlp", "model__hidden": [8]}
    write_params(Path(), **settings, train__start_from="champion")

    run_stages(Path(), "train")

    card = json.loads(HERE.model_card.read_text())
    assert card["facts"]["darkroom.start_sha256"] == before
    assert card["settings"]["train"]["start_from"] == "models:/darkroom-digits/1"
    (run,) = client.search_runs(
        [client.get_experiment_by_name("darkroom").experiment_id], "tags.`darkroom.start_sha256` != ''"
    )
    assert run.data.params["train.start_from"] == "models:/darkroom-digits/1"
    training = read_training_run(client, run.info.run_id)
    assert training.start_sha256 == before

    place = Path("reproduced")
    place.mkdir()
    bring_settings(training, load(HERE.params), HERE, Checkout(training, Workspace(place), Path("src")))

    brought = json.loads((place / "params.yaml").read_text())["train"]["start_from"]
    assert Path(brought) == (place / "start.safetensors").resolve()
    assert weights_digest(load_file(brought)) == before
    assert json.loads((place / "start.json").read_text())["dataset"]["classes"] == list("0123456789")


def test_a_killed_training_is_not_gone_on_with_from_other_weights(registered, write_params, monkeypatch) -> None:
    keys = []

    def killed(*_args: object, checkpoint: Checkpoint, **_options: object) -> None:
        keys.append(checkpoint.key)
        raise TrainingError("killed")

    monkeypatch.setattr(train, "train_classifier", killed)
    write_params(Path(), search__trials=0, model__name="mlp", model__hidden=[8], train__start_from="w.pth")
    weights = load_file(HERE.weights)
    for bias in (0.0, 1.0, 1.0):
        torch.save(weights | {"network.1.bias": weights["network.1.bias"] + bias}, "w.pth")
        with pytest.raises(TrainingError, match="killed"):
            train.run(load(HERE.params), HERE)

    assert keys[0] != keys[1] == keys[2]


def test_a_training_that_began_with_a_file_that_has_changed_is_not_reproduced(registered, write_params) -> None:
    client, _ = registered
    settings = {"search__trials": 0, "train__epochs": 1, "model__name": "mlp", "model__hidden": [8]}
    shutil.copyfile(HERE.weights, "old.safetensors")
    write_params(Path(), **settings, train__start_from="old.safetensors")
    run_stages(Path(), "train")
    (run,) = client.search_runs(
        [client.get_experiment_by_name("darkroom").experiment_id], "params.`train.start_from` = 'old.safetensors'"
    )
    shutil.copyfile(HERE.weights, "old.safetensors")
    Path("reproduced").mkdir()
    training = read_training_run(client, run.info.run_id)

    with pytest.raises(
        ModelError,
        match=r"began with the weights .{12} of old\.safetensors, which now are .{12}; restore the original file",
    ):
        bring_settings(
            training, load(HERE.params), HERE, Checkout(training, Workspace(Path("reproduced")), Path("src"))
        )


# --- the search ----------------------------------------------------------------------------------------


def test_the_trials_of_a_search_begin_with_the_weights_as_well(registered, write_params, capsys) -> None:
    space = {"train": {"lr": {"choices": [1e-9, 2e-9]}}}
    write_params(
        Path(), model__name="mlp", model__hidden=[8], train__epochs=1, train__start_from="1",
        search__trials=2, search__epochs=1, search__finalists=0, search__space=space,
    )  # fmt: skip
    expected = json.loads(Path("reports/train/metrics.json").read_text())["val_accuracy"]

    search.run(load(HERE.params), HERE)

    # At such rates nothing is learned: what they reach is what they began with.
    assert json.loads(HERE.best_params.read_text())["value"] == pytest.approx(expected, abs=1e-6)
    assert "start: version 1; head kept for all 10 classes" in capsys.readouterr().err


def test_a_search_does_not_begin_with_what_is_removed_after_it(registered, write_params) -> None:
    write_params(
        Path(), model__name="mlp", model__hidden=[8], train__start_from="models/model.safetensors", search__trials=1
    )

    with pytest.raises(
        ModelError, match=r"^train\.start_from: models/model\.safetensors: DVC removes it before the tr"
    ):
        search.run(load(HERE.params), HERE)


def test_a_queued_experiment_begins_with_a_file_of_the_checkout_that_git_ignores(
    card: DatasetCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(Path("w.pth"), card)
    here = config(train={"start_from": "w.pth"})
    start, _ = find_start("w.pth", here, HERE)
    copy = Path(".dvc/tmp/exps/tmp1")
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)

    assert find_start("w.pth", here, HERE)[0].digest == start.digest
    with pytest.raises(ModelError, match="DVC removes a stage"):
        find_start("models/model.safetensors", here, HERE)
