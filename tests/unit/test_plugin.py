"""The tests' own rules: what is slow says so, and what is long runs only when asked for."""

import sys
from types import SimpleNamespace

import pytest
from tests import plugin
from tests.plugin import TESTS, Processes, Scheduling, Tree


class Item:
    """A test of a file, with marks and fixtures."""

    def __init__(self, file, *marks, fixturenames=()):
        self.path = TESTS / file
        self.fixturenames = fixturenames
        self.marks = set(marks)

    def get_closest_marker(self, name):
        return name if name in self.marks else None

    def add_marker(self, name):
        self.marks.add(name)


def collect(*items, long=False):
    """The tests that run, in their order, and those that do not."""
    deselected = []
    config = SimpleNamespace(
        getoption=lambda name: long, hook=SimpleNamespace(pytest_deselected=lambda items: deselected.extend(items))
    )
    kept = list(items)
    plugin.pytest_collection_modifyitems(config, kept)
    return kept, deselected


@pytest.mark.parametrize(
    "file", ["pipeline/test_repro.py", "tracking_server/test_race.py", "unit/search/executors/test_ray.py"]
)
def test_what_runs_processes_by_its_directory_is_slow(file):
    item = Item(file)
    collect(item, Item("unit/test_cli.py"))

    assert item.marks == {"slow"}


def test_what_needs_a_pipeline_is_slow():
    item = Item("unit/test_cli.py", fixturenames=("project", "evaluated_once"))
    collect(item)

    assert item.marks == {"slow"}


def test_files_with_slow_tests_come_first_and_stay_together():
    files = ["unit/a.py", "unit/b.py", "unit/c.py", "unit/b.py"]
    items = [Item(file, *marks) for file, marks in zip(files, ((), ("slow",), (), ()), strict=True)]

    kept, _ = collect(*items)

    assert [item.path.stem for item in kept] == ["b", "b", "a", "c"]


def test_the_files_of_few_tests_come_last():
    kept, _ = collect(Item("unit/a.py"), Item("unit/b.py"), Item("unit/b.py"), Item("unit/c.py", "slow"))

    assert [item.path.stem for item in kept] == ["c", "b", "b", "a"]


@pytest.mark.parametrize(
    ("file", "is_run"),
    [("unit/test_docs.py", True), ("unit/evaluation/test_metrics.py", False), ("pipeline/test_repro.py", False)],
)
def test_what_may_read_the_working_tree_is_also_run_in_an_edited_one(file, is_run):
    item = Item(file)
    collect(item)

    assert ("tree" in item.marks) is is_run


@pytest.mark.parametrize(
    ("place", "marks", "is_left_out"),
    [
        ("unit/evaluation", "tree", True),
        ("unit/evaluation", "not slow", False),
        ("unit/test_cli.py", "tree", True),
        ("unit/test_docs.py", "tree", False),
        ("unit", "tree", False),
        ("", "tree", False),
    ],
)
def test_what_reads_no_working_tree_is_not_imported_in_an_edited_one(place, marks, is_left_out):
    config = SimpleNamespace(getoption=lambda name: marks)

    assert bool(plugin.pytest_ignore_collect(TESTS / place, config)) is is_left_out


def test_what_is_long_runs_when_asked_for():
    short, long = Item("unit/a.py"), Item("unit/a.py", "long")

    assert collect(short, long) == ([short], [long])
    assert collect(short, long, long=True) == ([short, long], [])


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-m", "darkroom", "train"], ["/a/.venv/bin/darkroom", "train"], ["dvc", "repro"],
        ["/usr/bin/env", "mlflow", "run", "."], [b"python3", b"-c", b""],
    ],
)  # fmt: skip
def test_python_is_refused_to_a_test_that_is_not_slow(command):
    processes = Processes()
    processes("subprocess.Popen", (command[0], command, None, None))

    processes.are_refused = True
    with pytest.raises(AssertionError, match=r"^mark this test slow: it starts \["):
        processes("subprocess.Popen", (command[0], command, None, None))


def test_other_programs_are_not_refused():
    processes = Processes()
    processes.are_refused = True

    processes("subprocess.Popen", ("git", ["git", "status"], None, None))
    processes("open", ("python", "r", 0))


@pytest.mark.parametrize(
    ("event", "arguments"),
    [
        ("open", ("params.yaml", "r", 0)),
        ("open", (TESTS.parent / "docs" / "index.md", "r", 0)),
        ("os.listdir", (str(TESTS.parent / "recipes"),)),
        ("os.scandir", (b"data/folder",)),
        ("socket.connect", (None, ("127.0.0.1", 5000))),
        ("socket.bind", (None, ("127.0.0.1", 8080))),
    ],
)
def test_the_working_tree_is_refused_to_a_test_that_is_not_run_in_an_edited_one(event, arguments, monkeypatch):
    monkeypatch.chdir(TESTS.parent)
    tree = Tree()
    tree(event, arguments)

    tree.is_refused = True
    with pytest.raises(AssertionError, match=r"^add this test to TREE of .*: it (reads /|uses port \d)"):
        tree(event, arguments)


def test_code_and_what_is_elsewhere_are_not_refused(tmp_path):
    tree = Tree()
    tree.is_refused = True

    tree("open", (str(TESTS / "conftest.py"), "r", 0))
    tree("open", (str(tmp_path / "params.yaml"), "r", 0))
    tree("open", (3, "r", 0))
    tree("socket.connect", (None, ("127.0.0.1", 50001)))


@pytest.mark.parametrize(
    ("test", "scope"),
    [
        ("tests/unit/test_cli.py::test_a[x::y]", "tests/unit/test_cli.py"),
        ("tests/tracking_server/test_page.py::test_a", "tests/tracking_server/"),
        ("tests/tracking_server/test_race.py::test_b", "tests/tracking_server/"),
    ],
)
def test_one_worker_runs_a_file_and_what_shares_a_server(test, scope):
    assert Scheduling._split_scope(object.__new__(Scheduling), test) == scope


@pytest.mark.parametrize("place", plugin.SLOW + plugin.TREE)
def test_what_is_listed_is_there(place):
    assert (plugin.TESTS / place).exists()
