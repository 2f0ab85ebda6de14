"""This project's rules for pytest: what is slow, what runs only when asked for, and which worker runs what.

Tests marked ``slow`` run pipelines, servers, browsers or other Python processes, or draw. ``make test-fast`` leaves
them out. Tests marked ``long``, and the longer form of some others, run with ``--long`` (``make test-long``). Tests
marked ``tree`` may read the working tree, and also run where someone has edited it (``.ci/edited``).
"""

import contextlib
import gc
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadFileScheduling

TESTS = Path(__file__).parent
ROOT = f"{TESTS.parent}{os.sep}"
# Directories and files in which every test is slow: they run processes, or fractions of a second come together.
SLOW = (
    "pipeline/", "ray_cluster/", "tracking_server/", "serving/page/", "serving/test_connections.py",
    "serving/test_fuzz.py", "audit_page/",
    "evaluation_page/", "unit/search/executors/", "data/test_published_real.py",
    "device/test_trainings.py", "unit/formats/", "unit/datasets/remote/", "unit/features/test_compute.py",
    "unit/features/test_head.py", "unit/features/test_known.py", "unit/explanation/test_trained.py",
    "unit/models/test_pretrained.py", "unit/models/test_pretrained_files.py",
    "unit/models/test_pretrained_training.py",
    "unit/models/test_timm_backbone.py", "unit/promotion/test_promote.py", "unit/promotion/test_aliases.py",
    "unit/search/test_samplers.py", "unit/tracking/test_tracker.py",
    "unit/training/test_compile.py", "unit/training/test_shared.py", "unit/training/test_launch.py",
)  # fmt: skip
# Directories and files whose fast tests may read the working tree, and are therefore run in an edited one too. To all
# others its files are refused, but for code, and the usual ports.
TREE = (
    "unit/commands/test_init.py", "unit/commands/test_params.py", "unit/commands/test_recipes.py",
    "unit/images/test_forms.py",
    "unit/test_audit_benchmarks.py", "unit/test_benchmarks.py", "unit/test_cli_recipes.py", "unit/test_clone.py",
    "unit/test_deploy.py", "unit/test_docs.py", "unit/test_gpu_day.py", "unit/test_locks.py", "unit/test_mlproject.py",
    "unit/test_pipeline_definition.py", "unit/test_ui.py", "unit/test_workflows.py",
)  # fmt: skip
CODE = {"benchmarks", "deploy", "src", "tests", ".venv", ".hypothesis", ".pytest_cache"}
USUAL_PORTS = {5000, 8000, 8080}
# Fixtures that run the pipeline or draw: every test that uses one is slow.
SLOW_FIXTURES = {"evaluated_once", "trained_once", "searchable", "two_versions", "drawn"}
# Directories whose tests share what takes long to prepare, and therefore a worker.
SHARED = ("tests/tracking_server/", "tests/serving/page/", "tests/ray_cluster/")
# After so many new objects the young ones are searched for garbage, and after a thousand times as many all of them.
GARBAGE_OBJECTS = 10_000
# Programs that are Python processes.
PYTHON = ("python", "darkroom", "dvc", "mlflow", "ray")


# Where there is nothing to read.
elsewhere = tempfile.TemporaryDirectory(prefix="elsewhere")

# What is imported stays: to search it for garbage takes a sixth of the time that importing takes.
gc.disable()

# A busy machine is slow, and no test red for it.
hypothesis.settings.register_profile("darkroom", deadline=None)
hypothesis.settings.load_profile("darkroom")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also what takes long: whole races, all kills, more fuzzing")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where only the tests marked ``tree`` are run, the others need not be imported."""
    if config.getoption("markexpr") != "tree" or TESTS not in collection_path.parents:
        return None
    place = collection_path.relative_to(TESTS).as_posix()
    return None if place.startswith(TREE) or any(each.startswith(f"{place}/") for each in TREE) else True


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        place = item.path.as_posix().removeprefix(f"{TESTS.as_posix()}/")
        if place.startswith(SLOW) or SLOW_FIXTURES.intersection(item.fixturenames):
            item.add_marker("slow")
        if place.startswith(TREE) and not _is_slow(item):
            item.add_marker("tree")
    if not config.getoption("--long"):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("long")])
        items[:] = [item for item in items if not item.get_closest_marker("long")]
    # The slow files first, and those of few tests last: then the workers end at about the same time.
    slow_files = {item.path for item in items if _is_slow(item)}
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path not in slow_files, 0 if item.path in slow_files else -tests[item.path]))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """To go through what is imported again and again would take a tenth of the time of the tests."""
    from tests import defaults

    defaults.params()  # of a fresh clone, for every test
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS, 10, 100)
    gc.enable()


class Scheduling(LoadFileScheduling):
    """A file is tested by one worker, and so is a directory whose tests share something."""

    def _split_scope(self, nodeid: str) -> str:
        return next((shared for shared in SHARED if nodeid.startswith(shared)), super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    return Scheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """A test that is not slow starts no Python process: importing torch and MLflow alone takes seconds.

    A test that is the same in an edited tree works elsewhere, and reads nothing of the tree.
    """
    processes.are_refused = not _is_slow(item)
    tree.is_refused = not _is_slow(item) and item.get_closest_marker("tree") is None
    with contextlib.chdir(elsewhere.name) if tree.is_refused else contextlib.nullcontext():
        try:
            return (yield)
        finally:
            processes.are_refused = tree.is_refused = False


class Processes:
    """Sees every process that is started, and refuses those of Python while ``are_refused``."""

    are_refused = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.are_refused and event == "subprocess.Popen":
            command = [os.fsdecode(arguments[0]), *map(os.fsdecode, arguments[1])]
            if any(Path(word).name.startswith(PYTHON) for word in command[:3]):
                raise AssertionError(f"mark this test slow: it starts {command}")


class Tree:
    """Sees what is read of the working tree, and refuses it while it ``is_refused``."""

    is_refused = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.is_refused:
            return
        if event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], str | bytes | os.PathLike):
            path = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100  # pathlib follows links
            inside = path.removeprefix(ROOT)
            if inside != path and inside.partition(os.sep)[0] not in CODE:
                raise AssertionError(f"add this test to TREE of tests/plugin.py: it reads {path}")
        elif event in ("socket.connect", "socket.bind"):
            address = arguments[1]
            if isinstance(address, tuple) and address[1] in USUAL_PORTS:
                raise AssertionError(f"add this test to TREE of tests/plugin.py: it uses port {address[1]}")


processes, tree = Processes(), Tree()
for _each in (processes, tree):
    sys.addaudithook(_each)


def _is_slow(item: pytest.Item) -> bool:
    return item.get_closest_marker("slow") is not None
