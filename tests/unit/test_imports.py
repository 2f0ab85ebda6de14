"""Imports go down only, and the libraries that track stay out of the training core."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
# From the ground up. A unit, a module or package of darkroom, may import what lies in the rows before its own.
LAYERS = (
    ("errors",),
    ("utils",),
    ("config", "workspace"),
    ("images", "pages", "plotting"),
    ("data",),
    ("datasets",),
    ("models",),
    ("training", "evaluation"),
    ("formats", "explanation"),
    ("features",),
    ("search", "tracking"),
    ("promotion",),
    ("audit",),
    ("inbox",),
    ("export", "serving", "stages"),
    ("prediction",),
    ("commands",),
    ("cli",),
    ("__main__",),
)
LAYER = {unit: number for number, row in enumerate(LAYERS) for unit in row}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted((SOURCE / "darkroom").rglob("*.py"))}


@cache
def imports(module: str, *, lazy: bool = True) -> frozenset[str]:
    """The modules that a module imports, those inside its functions only if ``lazy``."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree) if lazy else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (members & MODULES.keys()) or {str(node.module)}
    return frozenset(found)


def unit_of(module: str) -> str:
    return module.split(".")[1]


def importers(library: str) -> set[str]:
    return {module for module in MODULES if library in {name.split(".")[0] for name in imports(module)}}


def loaded_by(*modules: str) -> set[str]:
    """The top-level packages that a fresh interpreter has loaded after importing ``modules``."""
    code = f"import sys, {', '.join(modules)}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_every_unit_has_its_layer() -> None:
    units = {unit_of(module) for module in MODULES if module != "darkroom"}

    assert units <= LAYER.keys()
    assert {"config", "data", "training", "stages", "cli"} <= units


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down_only(module: str) -> None:
    own = [name for name in imports(module) if name.startswith("darkroom.")]
    if module == "darkroom":
        assert not own
        return
    unit = unit_of(module)

    assert not [name for name in own if unit_of(name) != unit and LAYER[unit_of(name)] >= LAYER[unit]]


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module: imports(module, lazy=False) & MODULES.keys() for module in MODULES}

    assert set(TopologicalSorter(graph).static_order()) == MODULES.keys()


def test_no_stage_imports_another() -> None:
    stages = [module for module in MODULES if module.startswith("darkroom.stages.")]

    assert len(stages) >= 6
    assert not [(stage, name) for stage in stages for name in imports(stage) if name.startswith("darkroom.stages")]


def test_mlflow_is_asked_in_four_places() -> None:
    assert {unit_of(module) for module in importers("mlflow")} == {"prediction", "promotion", "serving", "tracking"}


def test_optuna_is_asked_by_the_search_alone() -> None:
    found = importers("optuna")

    assert "darkroom.search.study" in found
    assert not [module for module in found if unit_of(module) != "search" and module != "darkroom.stages.search"]


def test_dvc_is_a_command_not_a_library() -> None:
    assert importers("dvc") == set()


@pytest.mark.slow
def test_the_training_core_loads_nothing_that_tracks() -> None:
    core = [
        module
        for module in MODULES
        if module.split(".")[1:2] in (["data"], ["datasets"], ["images"], ["models"], ["training"])
    ]
    loaded = loaded_by(*core, "darkroom.evaluation.metrics")

    assert "torch" in loaded
    assert not {"mlflow", "optuna", "dvc"} & loaded


@pytest.mark.slow
def test_the_command_line_starts_without_heavy_libraries() -> None:
    loaded = loaded_by("darkroom.cli.main")

    assert "pydantic" in loaded
    assert not {"torch", "mlflow", "optuna", "matplotlib", "sklearn"} & loaded


@pytest.mark.slow
def test_training_starts_without_libraries_that_only_some_settings_need() -> None:
    loaded = loaded_by("darkroom.training.fit", "darkroom.data.batches")

    assert "torch" in loaded
    assert not {"torchvision", "scipy", "sklearn", "matplotlib", "pandas"} & loaded


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["download", "preprocess"])
def test_a_stage_that_only_reads_images_starts_without_heavy_libraries(stage: str) -> None:
    loaded = loaded_by(f"darkroom.stages.{stage}")

    assert "numpy" in loaded
    assert not {"torch", "torchvision", "matplotlib", "sklearn", "scipy"} & loaded


@pytest.mark.slow
def test_a_process_that_decodes_images_starts_light() -> None:
    loaded = loaded_by("darkroom.datasets.decoding")

    assert "PIL" in loaded
    assert not {"pydantic", "requests", "rich", "sklearn", "torch", "typer"} & loaded


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["search", "train", "evaluate"])
def test_a_stage_starts_without_what_only_its_end_needs(stage: str) -> None:
    loaded = loaded_by(f"darkroom.stages.{stage}")

    assert "torch" in loaded
    assert not {"mlflow", "sqlalchemy", "pandas", "matplotlib", "sklearn"} & loaded
    assert ("optuna" in loaded) == (stage == "search")


@pytest.mark.slow
def test_what_only_reads_or_changes_the_registry_starts_without_torch() -> None:
    asked = [f"darkroom.commands.{name}" for name in ("models", "history", "promote", "rollback")]
    asked += ["darkroom.promotion.working_tree", "darkroom.stages.register"]
    doctor = [module for module in MODULES if module.startswith("darkroom.commands.doctor.")]
    loaded = loaded_by("darkroom.commands.results", "darkroom.commands.data_diff", *asked, *doctor)

    assert "mlflow" in loaded
    assert not {"torch", "optuna", "matplotlib", "sklearn"} & loaded


def test_mlflow_is_imported_where_it_is_asked_alone() -> None:
    asked = {module for module in MODULES if {"mlflow"} & {name.split(".")[0] for name in imports(module, lazy=False)}}

    assert {module for module in asked if unit_of(module) == "tracking"} == {
        "darkroom.tracking.logged_model",
        "darkroom.tracking.store",
        "darkroom.tracking.whole_runs",
    }
