"""The clones that tests work in are fresh ones, whatever someone has done in this working tree."""

from tests import defaults
from tests.clone import copy_project

from darkroom.datasets.fixes import read_fixes


def test_a_clone_has_the_code_of_this_tree_and_nothing_that_a_user_adds(tmp_path):
    clone = copy_project(tmp_path, train__epochs=3)
    root = clone.root

    defaults.write_params(tmp_path, train__epochs=3)
    assert (root / "params.yaml").read_text() == (tmp_path / "params.yaml").read_text()
    assert {path.name for path in (root / "recipes").glob("*.yaml")} == {path.name for path in defaults.recipes()}
    assert [path.name for path in (root / "data" / "folder").iterdir()] == ["README.md"]
    assert read_fixes(root / "data" / "fixes.csv") == []
    assert not (root / "dvc.lock").exists()
    assert clone.run("git", "status", "--porcelain").stdout == ""
    for path in (defaults.ROOT / "src").rglob("*.py"):
        assert (root / path.relative_to(defaults.ROOT)).read_bytes() == path.read_bytes()
