"""Recipes are short, can be trained, and become params.yaml without losing what a person has written."""

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML
from tests import defaults

from darkroom.commands.recipes import Measured, find, read_recipes, use
from darkroom.config import Config, load
from darkroom.data.batches import CPU, Split
from darkroom.data.cache import DatasetCard
from darkroom.datasets.catalog import CATALOG
from darkroom.errors import ConfigError
from darkroom.models.pretrained import find_backbone
from darkroom.training.fit import train_classifier
from darkroom.workspace import Workspace

ROOT = Path(__file__).parents[3]
RECIPES = defaults.recipes()
CLASSICS = {
    "mnist-feedforward", "mnist-mlp", "fashion-mnist-one-conv", "fashion-mnist-simple-cnn", "fashion-mnist-cnn64",
    "cifar10-cnn64",
}  # fmt: skip
BEST = {"mnist-best", "fashion-mnist-best", "cifar10-best", "fashion-mnist-cpu"}
# A search of the others would take hours.
SEARCHED = {defaults.RECIPE.stem, "photos"}
SHAPES = {
    "digits": (1, 8, 8),
    "mnist": (1, 28, 28),
    "fashion-mnist": (1, 28, 28),
    "cifar10": (3, 32, 32),
    "folder": (3, 64, 64),
}
# Networks so wide that a step would take seconds are trained a little narrower; their depth stays.
NARROWER = {"fashion-mnist-best": {"model.widen_factor": 1}, "cifar10-best": {"model.filters": [16, 32, 32]}}


# --- the shipped ones --------------------------------------------------------------------------------


def test_the_known_experiments_are_there() -> None:
    assert {path.stem for path in RECIPES} >= CLASSICS | BEST


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_holds_what_differs_from_the_defaults_and_names_itself(path: Path) -> None:
    tree, config = YAML(typ="safe", pure=True).load(path), load(path)

    said = tree.pop("recipe")
    assert said["name"] == path.stem
    assert said["about"]
    assert set(said) == set(type(config.recipe).model_fields)
    written = {f"{section}.{key}" for section, keys in tree.items() for key in keys}
    defaults = Config().flat()
    assert written == {
        key for key, value in config.flat().items() if value != defaults[key] and not key.startswith("recipe.")
    }


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_makes_a_params_yaml_that_names_and_explains_every_setting(path: Path, tmp_path: Path) -> None:
    def comments(text: str) -> set[tuple[str, str]]:
        return set(re.findall(r"^  (\w+):[^#\n]*#\s*(.+)$", text, re.MULTILINE))

    text = find(Workspace(ROOT), path.stem).params()
    tree = YAML(typ="safe", pure=True).load(text)
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")

    assert {section: set(keys) for section, keys in tree.items()} == {
        section: set(type(getattr(Config(), section)).model_fields) for section in Config.model_fields
    }
    assert load(tmp_path / "params.yaml") == load(path)
    assert comments(text) == comments(defaults.params())
    assert max(map(len, text.splitlines())) <= 120


def test_recipes_have_the_settings_that_were_measured() -> None:
    # A setting that is newer than all measurements is not among them: its default does what was done then.
    pinned = json.loads(Path(__file__).with_name("measured_settings.json").read_text())
    defaults = Config().model_dump(mode="json")
    found = {}
    for name in json.loads((ROOT / "recipes" / "measured.json").read_text()):
        dumped = find(Workspace(ROOT), name).config.model_dump(mode="json")
        for section, keys in pinned["settings"].items():
            own = {key for key, value in dumped[section].items() if value != defaults[section][key]}
            missing = sorted(own - set(keys))
            assert not missing, f"{name} sets {section}: {missing}; add them to measured_settings.json, update its sums"
        settings = {
            section: {key: dumped[section][key] for key in keys} for section, keys in pinned["settings"].items()
        }
        found[name] = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    assert found.keys() == pinned["sha256"].keys()
    changed = [name for name, digest in found.items() if digest != pinned["sha256"][name]]
    assert not changed, (
        f"{', '.join(changed)}: other settings than were measured; write those into the recipe if a default has "
        "changed, else measure it again and pin the new sum in measured_settings.json"
    )


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_trains(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(path)
    changes = {"train.epochs": 1, "train.warmup_epochs": 0, "train.device": "cpu", "train.batch_size": 4}
    if config.model.name == "pretrained":
        torch.save(find_backbone(config.model.backbone).build(10).state_dict(), tmp_path / "backbone.pth")
        changes |= {"model.weights_path": str(tmp_path / "backbone.pth"), "model.freeze_epochs": 0}
    config = config.with_settings(changes | NARROWER.get(path.stem, {}))
    shape = SHAPES[config.dataset.name]
    images = torch.randint(0, 256, (4, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    split = Split(images, torch.arange(4))
    card = DatasetCard("made", tuple("abcdefghij"), shape, (0.4,) * shape[0], (0.3,) * shape[0], {}, {}, "")
    torch.manual_seed(config.train.seed)

    classifier, result = train_classifier(config, card, split, split, CPU)

    assert len(result.history) == 1
    assert classifier(images).shape == (4, 10)
    assert classifier(images).isfinite().all()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_of_a_known_dataset_and_searches_only_what_its_model_takes(path: Path) -> None:
    from darkroom.search.space import check_space

    config = load(path)

    assert config.dataset.name in CATALOG
    assert (config.search.trials > 0) == (path.stem in SEARCHED)
    check_space(config)


def test_what_was_measured_belongs_to_recipes_and_was_measured_often_enough() -> None:
    measured = json.loads((ROOT / "recipes" / "measured.json").read_text())

    assert measured.keys() <= {path.stem for path in RECIPES}
    assert measured.keys() >= CLASSICS
    for name in CLASSICS:
        assert len({run["seed"] for run in measured[name]["runs"]}) >= 3, name


def test_the_page_tells_what_was_measured() -> None:
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")

    for name in (path.stem for path in RECIPES):
        recipe = find(Workspace(ROOT), name)
        row = next(line for line in page.splitlines() if line.startswith(f"| [`{name}`]"))
        assert (recipe.measured.percent() if recipe.measured else "not measured") in row
    pictures = re.findall(r"\]\((images/[^)]+)\)", page)
    assert pictures
    assert not [picture for picture in pictures if not (ROOT / "docs" / picture).is_file()]


# --- figures -----------------------------------------------------------------------------------------


def test_a_figure_is_the_mean_and_the_sample_standard_deviation_in_percent() -> None:
    runs = [{"accuracy": share, "train_seconds": 10 * share} for share in (0.91, 0.92, 0.96)]
    measured = Measured(runs, {"device": "a CPU", "threads": 2, "precision": "fp32"}, {}, 1.0)

    assert measured.percent() == "93.00 ± 2.65"  # the square root of (4 + 1 + 9) / 2
    assert measured.train_seconds == pytest.approx(9.2)
    assert measured.device == "a CPU, 2 threads, fp32"


def test_one_run_has_no_spread_and_one_thread_no_plural() -> None:
    facts = {"device": "a CPU", "threads": 1, "precision": "bf16"}
    measured = Measured([{"accuracy": 0.5, "train_seconds": 1}], facts, {}, 1.0)

    assert measured.percent() == "50.00"
    assert measured.device == "a CPU, 1 thread, bf16"


# --- using one ---------------------------------------------------------------------------------------


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A project of its own in git, with the shipped recipes and params.yaml."""
    defaults.copy_recipes(tmp_path)
    defaults.write_params(tmp_path)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "params.yaml")
    git(tmp_path, "commit", "--quiet", "--message", "start")
    return Workspace(tmp_path)


def git(directory: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=directory, check=True, capture_output=True)


def test_a_recipe_becomes_params_yaml_with_all_other_settings_of_a_fresh_clone(workspace: Workspace) -> None:
    used = use(workspace, "mnist-mlp", force=False)

    text = workspace.params.read_text(encoding="utf-8")
    assert load(workspace.params) == used.config
    assert re.search(r"^  hidden: \[512, 256, 128\]  # units of each dense layer; empty: ", text, re.MULTILINE)
    # But for the settings of the recipe, the lines are those of a fresh clone.
    fresh = set(defaults.params().splitlines())
    others = [line for line in text.splitlines() if line not in fresh]
    recipe = YAML(typ="safe", pure=True).load(workspace.recipes / "mnist-mlp.yaml")
    changed = {"recipe", *(key for keys in recipe.values() for key in keys)} | {"trials", "space"}
    assert {line.split(":")[0].strip() for line in others} <= changed


def test_one_recipe_after_another_needs_no_force(workspace: Workspace) -> None:
    use(workspace, "mnist-mlp", force=False)
    use(workspace, "mnist-feedforward", force=False)

    assert load(workspace.params).recipe.name == "mnist-feedforward"


def test_a_recipe_makes_params_yaml_where_there_is_none(workspace: Workspace) -> None:
    workspace.params.unlink()

    use(workspace, "mnist-mlp", force=False)

    assert load(workspace.params).recipe.name == "mnist-mlp"


def test_edits_that_are_saved_nowhere_are_kept(workspace: Workspace) -> None:
    edited = workspace.params.read_bytes() + b"# mine\n"
    workspace.params.write_bytes(edited)

    with pytest.raises(ConfigError, match=r"params\.yaml: has edits that are saved nowhere else; .*--force"):
        use(workspace, "mnist-mlp", force=False)
    assert workspace.params.read_bytes() == edited

    use(workspace, "mnist-mlp", force=True)
    assert load(workspace.params).recipe.name == "mnist-mlp"


def test_edits_that_are_committed_may_go(workspace: Workspace) -> None:
    workspace.params.write_bytes(workspace.params.read_bytes() + b"# mine\n")
    git(workspace.root, "commit", "--quiet", "--all", "--message", "mine")

    use(workspace, "mnist-mlp", force=False)

    assert load(workspace.params).recipe.name == "mnist-mlp"


def test_staged_edits_are_not_committed_ones(workspace: Workspace) -> None:
    workspace.params.write_bytes(workspace.params.read_bytes() + b"# mine\n")
    git(workspace.root, "add", "params.yaml")

    with pytest.raises(ConfigError, match="saved nowhere else"):
        use(workspace, "mnist-mlp", force=False)


def test_without_git_edits_are_kept_until_they_are_copied_as_the_message_says(workspace: Workspace) -> None:
    shutil.rmtree(workspace.root / ".git")
    workspace.params.write_bytes(workspace.params.read_bytes() + b"# mine\n")

    with pytest.raises(ConfigError, match="saved nowhere else") as refusal:
        use(workspace, "mnist-mlp", force=False)
    (command,) = re.findall(r"`cp (\S+) (\S+)`", str(refusal.value))
    shutil.copyfile(*command)
    use(workspace, "mnist-mlp", force=False)

    assert load(workspace.params).recipe.name == "mnist-mlp"


@pytest.mark.parametrize("head", ["# Every setting.\n", None])
def test_without_git_the_settings_of_a_fresh_clone_and_of_a_recipe_may_go(
    workspace: Workspace, head: str | None
) -> None:
    shutil.rmtree(workspace.root / ".git")
    recipe = find(workspace, "digits").params()
    workspace.params.write_text(recipe if head is None else head + recipe[recipe.index("\ndataset:") :], "utf-8")

    use(workspace, "mnist-mlp", force=False)

    assert load(workspace.params).recipe.name == "mnist-mlp"


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("minst-mlp", r"^no recipe 'minst-mlp'; did you mean 'mnist-mlp'"),
        ("zzz", r"^no recipe 'zzz'; choose from: cifar10-best, "),
        ("../params", r"^no recipe '\.\./params'; "),
    ],
)
def test_an_unknown_recipe_is_refused_with_the_near_names(workspace: Workspace, name: str, pattern: str) -> None:
    before = workspace.params.read_bytes()

    with pytest.raises(ConfigError, match=pattern):
        use(workspace, name, force=True)
    assert workspace.params.read_bytes() == before


def test_a_recipe_of_a_newer_format_is_refused_for_that_alone(workspace: Workspace) -> None:
    path = workspace.recipes / "future.yaml"
    path.write_text("recipe: {format: 2, taste: sweet}\nmodel: {name: telepathy}\n")
    before = workspace.params.read_bytes()

    with pytest.raises(ConfigError, match=r"future\.yaml: recipe\.format: 2 is newer than .*\(1\); update") as refusal:
        use(workspace, "future", force=True)
    assert "\n" not in str(refusal.value)
    assert workspace.params.read_bytes() == before


def test_a_recipe_that_is_not_valid_is_refused_and_params_yaml_kept(workspace: Workspace) -> None:
    (workspace.recipes / "broken.yaml").write_text("train: {epoch: 3}\n")
    before = workspace.params.read_bytes()

    with pytest.raises(ConfigError, match=r"broken\.yaml: train\.epoch: unknown key"):
        use(workspace, "broken", force=True)
    assert workspace.params.read_bytes() == before


def test_settings_above_the_first_section_of_a_recipe_are_edits_too(workspace: Workspace) -> None:
    shutil.rmtree(workspace.root / ".git")
    text = find(workspace, "digits").params()
    workspace.params.write_text(text.replace("\ndataset:", "\ntrain: {lr: 0.1}\n\ndataset:"), "utf-8")

    with pytest.raises(ConfigError, match="saved nowhere else"):
        use(workspace, "mnist-mlp", force=False)


def test_a_recipe_that_is_damaged_does_not_keep_another_from_being_used(workspace: Workspace) -> None:
    shutil.rmtree(workspace.root / ".git")
    (workspace.recipes / "broken.yaml").write_text("train: {epoch: 3}\n")
    (workspace.recipes / "a-list.yaml").write_text("- 1\n")
    workspace.params.write_text(defaults.params(), encoding="utf-8")

    use(workspace, "mnist-mlp", force=False)

    assert load(workspace.params).recipe.name == "mnist-mlp"


def test_a_persons_own_recipe_counts_whether_short_or_complete(workspace: Workspace) -> None:
    workspace.params.write_text(workspace.params.read_text().replace("epochs: 20 ", "epochs: 7 "))
    shutil.copyfile(workspace.params, workspace.recipes / "mine.yaml")
    (workspace.recipes / "short.yaml").write_text("train: {epochs: 8}\n")
    (workspace.recipes / "empty.yaml").write_text("# Every default.\n")

    assert find(workspace, "mine").name == "mine"
    assert find(workspace, "mine").measured is None
    assert {"mine", "short"} <= set(read_recipes(workspace))
    for name, epochs in {"mine": 7, "short": 8, "empty": 20}.items():
        use(workspace, name, force=False)
        assert load(workspace.params).train.epochs == epochs
        assert set(YAML(typ="safe").load(workspace.params)) == set(Config.model_fields) - {"recipe"}


def test_no_recipes_are_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no recipes here; run this in the project's root"):
        read_recipes(Workspace(tmp_path))
