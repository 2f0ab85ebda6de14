"""The lock files: every file that may be installed, by its hash, wherever it is fetched from."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-serve.lock", "deploy/requirements.lock")


def entries(path):
    """Each requirement with the lines that belong to it."""
    lines = [line for line in (ROOT / path).read_text().splitlines() if not line.lstrip().startswith("#")]
    return re.split(r"\n(?=\S)", "\n".join(lines))


@pytest.mark.parametrize("path", LOCKS)
def test_every_package_has_a_version_and_hashes(path):
    found = entries(path)
    assert len(found) > 50
    for entry in found:
        assert re.match(r"[\w.-]+==[\w.+!]+", entry), entry
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), entry


@pytest.mark.parametrize("path", LOCKS)
def test_no_address_is_written_down(path):
    assert not re.search(r"://|index-url|find-links", (ROOT / path).read_text())


def test_what_the_project_needs_is_locked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    locked = {entry.partition("==")[0] for entry in entries("requirements.lock")}
    assert {canonicalize_name(Requirement(each).name) for each in needed} - {"darkroom"} <= locked


def test_make_installs_by_hash_alone_and_takes_nothing_of_the_last_week():
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    installed = [line for line in makefile.splitlines() if re.search(r"pip install .*(requirement|==)", line)]
    assert installed
    for command in installed:
        assert len(re.findall("pip install", command)) == len(re.findall("--require-hashes", command)), command
    assert re.search(r'COMPILE := uv pip compile .*--generate-hashes .*--exclude-newer "1 week"', makefile)


def test_the_environment_that_mlflow_makes_holds_nothing_without_a_hash():
    # One requirement without a hash beside the lock file, such as the project's directory, and pip refuses them all.
    environment = YAML(typ="safe", pure=True).load(ROOT / "python_env.yaml")
    assert environment["dependencies"] == ["-r requirements.lock"]
