"""What the documentation names exists: files, headings, commands, make targets."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from tests.unit.test_imports import LAYERS

from darkroom.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page for pattern in ("*.md", "docs/*.md", "benchmarks/*.md", "data/*/*.md") for page in ROOT.glob(pattern)
)
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A path in backticks is one of the repository if it begins like one, or ends like its code.
PATH = re.compile(r"(?:src|tests|docs|benchmarks|deploy|recipes|\.ci|\.github)/[\w./*-]*|[\w./*-]+\.(?:py|sh)")
CODE = [path.as_posix() for folder in ("src", "tests", "benchmarks", "deploy") for path in (ROOT / folder).rglob("*.*")]


def text_of(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def spans(page: Path) -> list[str]:
    """What stands in backticks, on one line or broken over two."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text_of(page))]


def code(page: Path) -> Iterator[str]:
    """Whatever a reader may type: what stands in backticks, and the lines of code blocks."""
    yield from spans(page)
    for _, block in FENCE.findall(page.read_text(encoding="utf-8")):
        yield from block.splitlines()


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def is_there(path: str) -> bool:
    if any(ROOT.glob(path.rstrip("/"))):
        return True
    return path.endswith((".py", ".sh")) and any(each.endswith(f"/{path}") for each in CODE)


def test_the_pages_are_found() -> None:
    assert {ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "docs" / "index.md"} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)) if "://" not in link]
    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_path_in_backticks_exists(page: Path) -> None:
    paths = [span for span in spans(page) if PATH.fullmatch(span)]

    assert not [path for path in paths if not is_there(path)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_exists(page: Path) -> None:
    commands = typer.main.get_command(app).commands
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for line in code(page):
        for command in re.findall(r"(?:^|[&;] |=\S+ )darkroom ([a-z][a-z-]*)", line):
            assert command in commands, line
        if made := re.match(r"make ((?:[a-z-]+(?: |$))+)", line):
            assert set(made[1].split()) <= set(targets), line
        for module in re.findall(r"python -m ((?:benchmarks|deploy)[\w.]*)", line):
            path = ROOT / module.replace(".", "/")
            assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_code_block_names_its_language(page: Path) -> None:
    assert all(language for language, _ in FENCE.findall(page.read_text(encoding="utf-8")))


def test_the_index_leads_to_every_page() -> None:
    index = ROOT / "docs" / "index.md"
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", index.read_text(encoding="utf-8")))

    assert linked == {page.name for page in index.parent.glob("*.md")} - {"index.md"}


def test_the_readme_lists_every_package() -> None:
    layout = next(block for _, block in FENCE.findall((ROOT / "README.md").read_text("utf-8")) if "src/" in block)
    listed = re.findall(r"^  ([\w.]+)", layout, re.MULTILINE)
    source = ROOT / "src" / "darkroom"
    units = {path.name for path in source.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}

    assert set(listed) == units - {"__init__.py", "__main__.py"}


def test_the_layers_are_those_that_the_tests_hold() -> None:
    rows = re.findall(r"^\| [^|]+ \| ((?:`\w+(?:\.py)?`(?:, )?)+) \|$", text_of(ROOT / "CONTRIBUTING.md"), re.MULTILINE)
    told = [set(re.findall(r"`(\w+)(?:\.py)?`", row)) for row in reversed(rows)]

    assert told == [set(row) for row in LAYERS if row != ("__main__",)]
