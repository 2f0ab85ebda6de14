"""dvc.yaml says what each stage really depends on: no more, no less."""

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from darkroom import config as configuration
from darkroom.config import Config
from darkroom.config.settings import Section
from darkroom.datasets import published
from darkroom.models import files as model_files
from darkroom.promotion import registration
from darkroom.stages import download, evaluate, preprocess, register, search, train
from darkroom.workspace import Workspace

ROOT = Path(__file__).parents[2]
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
# Of packages that a stage uses nearly all of: the rest, which makes it run again without need.
UNUSED = {
    "download": [
        "datasets/duplicates.py",
        "datasets/fixes.py",
        "datasets/near_duplicates/audit.py",
        "datasets/near_duplicates/groups.py",
        "datasets/near_duplicates/neighbors.py",
        "datasets/near_duplicates/search.py",
        "datasets/near_duplicates/thumbnails.py",
        "datasets/near_duplicates/windows.py",
        "datasets/quality/associations.py",
        "datasets/quality/attributes.py",
        "datasets/quality/flaws.py",
        "datasets/quality/measures.py",
        "datasets/quality/report.py",
        "datasets/report.py",
        "datasets/scan.py",
        "datasets/suspects.py",
    ],
    "preprocess": [
        "datasets/remote/addressed.py",
        "datasets/remote/bring.py",
        "datasets/remote/journal.py",
        "datasets/remote/listing.py",
        "datasets/remote/mirror.py",
        "datasets/remote/stores.py",
        "datasets/remote/transfer.py",
        "datasets/untracked.py",
    ],
    "search": [
        "data/streaming.py",
        "features/known.py",
        "search/best_params.py",
        "search/readonly.py",
        "tracking/logged_model.py",
        "training/failures.py",
        "training/launch.py",
        "training/lr_finder.py",
        "training/ray_launch.py",
    ],
    "train": ["features/known.py", "tracking/trials.py", "training/lr_finder.py", "utils/markdown.py"],
    "evaluate": ["data/augmentation/mixing.py", "data/difference.py", "models/head_init.py", "models/transfer.py"],
    "register": [
        "data/augmentation/mixing.py",
        "data/stale_images.py",
        "data/streaming.py",
        "models/class_layer.py",
        "models/head_init.py",
        "models/transfer.py",
        "tracking/trials.py",
    ],
}
SECTIONS = {field.annotation: name for name, field in Config.model_fields.items()}


def module_file(name: str) -> Path | None:
    path = ROOT / "src" / Path(*name.split("."))
    candidates = (path / "__init__.py", path.with_suffix(".py"))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


@cache
def imported_names(file: Path) -> list[str]:
    found: list[str] = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found += (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
    return found


def import_closure(name: str, seen: set[Path]) -> set[Path]:
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        file = module_file(".".join(parts[:count]))
        if file and file not in seen:
            seen.add(file)
            for each in imported_names(file):
                if each.split(".")[0] == "darkroom":
                    import_closure(each, seen)
    return seen


def code_of(stage: str) -> set[str]:
    """The modules that a stage depends on, with those of the packages that it names."""
    found: set[str] = set()
    for dep in STAGES[stage]["deps"]:
        if dep.startswith("src/"):
            path = ROOT / dep
            assert path.exists(), dep
            files = path.rglob("*.py") if path.is_dir() else [path]
            found |= {str(file.relative_to(ROOT / "src" / "darkroom")) for file in files if is_code(file)}
    return found


def is_code(file: Path) -> bool:
    """A package's __init__ that imports nothing is a docstring: there is nothing in it to depend on."""
    return file.name != "__init__.py" or bool(imported_names(file))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_the_modules_it_imports_and_few_others(stage):
    files = import_closure(f"darkroom.stages.{stage}", set())
    used = {str(file.relative_to(ROOT / "src" / "darkroom")) for file in files if is_code(file)}

    assert sorted(used - code_of(stage)) == []
    assert sorted(code_of(stage) - used) == sorted(UNUSED[stage])


@pytest.mark.parametrize("stage", STAGES)
def test_the_lists_are_sorted_and_without_repetition(stage):
    listed = [dep for dep in STAGES[stage]["deps"] if dep.startswith("src/")]
    assert listed == sorted(set(listed))


@pytest.fixture
def recorder(monkeypatch):
    """Collects the settings that are read, as "section.key"; a section that is dumped is read whole."""
    used: set[str] = set()
    recording = False
    plain, parse = Section.__getattribute__, configuration.parse
    foreign: list[Section] = []  # the settings in a model's own file

    def spy(self, name):
        section = SECTIONS.get(type(self))
        is_own = all(self is not each for each in foreign)
        if recording and section and is_own and (name in type(self).model_fields or name == "model_dump"):
            used.add(section if name == "model_dump" else f"{section}.{name}")
        return plain(self, name)

    def unrecorded(*arguments, **options):
        nonlocal recording
        before, recording = recording, False
        try:
            return parse(*arguments, **options)
        finally:
            recording = before

    def unrecorded_model(*arguments, **options):
        parsed = unrecorded(*arguments, **options)
        foreign.extend(plain(parsed, name) for name in Config.model_fields)
        return parsed

    @contextmanager
    def record() -> Iterator[set[str]]:
        nonlocal recording
        used.clear()
        recording = True
        yield used
        recording = False

    monkeypatch.setattr(Section, "__getattribute__", spy)
    monkeypatch.setattr(configuration, "parse", unrecorded)  # checks read everything, stages must not
    for module in (model_files, registration):
        monkeypatch.setattr(module, "parse", unrecorded_model)
    return record


def assert_same(used: set[str], declared: list[str]) -> None:
    unlisted = {key for key in used if key not in declared and key.split(".")[0] not in declared}
    assert not unlisted, f"used, but not in dvc.yaml: {sorted(unlisted)}"
    unused = {entry for entry in declared if not any(key == entry or key.startswith(f"{entry}.") for key in used)}
    assert not unused, f"in dvc.yaml, but not used: {sorted(unused)}"


def test_download_lists_exactly_the_settings_it_reads(recorder, project, monkeypatch):
    def fetch(name, md5, sources, directory, report):
        directory.mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(published, "fetch", fetch)
    root = project(dataset__name="mnist")
    (root / "data" / "folder" / "a").mkdir()
    (root / "data" / "folder" / "a" / "1.png").write_bytes(b"packed as it is")
    found = set()
    for name in ("mnist", "folder"):
        project(dataset__name=name)
        config = configuration.load(root / "params.yaml")
        with recorder() as used:
            download.run(config, Workspace())
            found |= used
    assert_same(found, STAGES["download"]["params"])


@pytest.mark.slow
def test_the_other_stages_list_exactly_the_settings_they_read(recorder, project):
    root = project(
        train__epochs=1, search__epochs=1, search__trials=1,
        search__space={"train": {"lr": {"low": 0.001, "high": 0.01}}},
    )  # fmt: skip
    config = configuration.load(root / "params.yaml")
    download.run(config, Workspace())
    for stage in (preprocess, search, train, evaluate, register):
        with recorder() as used:
            stage.run(config, Workspace())
            assert_same(used, STAGES[stage.__name__.rpartition(".")[2]]["params"])
