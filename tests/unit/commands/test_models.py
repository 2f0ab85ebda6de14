"""`darkroom models` on the registry: everything in 80 columns, whatever the versions lack."""

import re

import pytest
from rich.console import Console

from darkroom.commands import models
from darkroom.config import load
from darkroom.config.settings import Tracking
from darkroom.promotion.aliases import change_champion
from darkroom.promotion.history import Entry, History, Kind
from darkroom.tracking.runs import WEIGHTS_TAG
from darkroom.tracking.tracker import connect
from darkroom.workspace import Workspace

NAME = "darkroom-digits"
FINGERPRINT = "37c1bf9783ab" + "0" * 52
TAGS = {
    "test.accuracy": "0.866667",
    "test.accuracy_low": "0.827652",
    "test.accuracy_high": "0.897938",
    "darkroom.fingerprint": FINGERPRINT,
    "darkroom.registered_by": "ada",
    "gate.verdict": "passed",
}


@pytest.fixture
def client(project):
    project()
    return connect(Tracking(), Workspace().spools).client


@pytest.fixture
def shown(capsys, monkeypatch):
    """What the listing prints on a terminal of so many columns, as lines."""

    def show(columns=80):
        monkeypatch.setattr(models, "output", Console(width=columns, highlight=False, soft_wrap=True, markup=False))
        models.run(load(Workspace().params), Workspace())
        return [line.rstrip() for line in capsys.readouterr().out.splitlines()]

    return show


@pytest.fixture
def add(client):
    def add(*aliases, **tags):
        if not client.search_registered_models():
            client.create_registered_model(NAME)
        version = client.create_model_version(NAME, "/nowhere", tags=tags)
        for alias in aliases:
            client.set_registered_model_alias(NAME, alias, version.version)

    return add


def test_a_version_is_shown_with_all_that_a_choice_needs(shown, add):
    add("champion", "challenger", "previous", **TAGS)
    text = "\n".join(shown())
    for expected in (
        "challenger",
        "champion",
        "previous",
        "0.8667",
        "0.8277 to 0.8979",
        "37c1bf9783ab",
        "ada",
        "passed",
    ):
        assert expected in text
    assert re.search(r"\d{4}-\d\d-\d\d", text)


def test_it_fits_into_80_columns_without_cutting_anything_off(shown, add):
    add(
        "champion",
        "challenger",
        "previous",
        **TAGS | {"gate.verdict": "refused: better, class_drop, calibration, size"},
    )
    lines = shown()
    assert max(map(len, lines)) <= 80
    assert "…" not in "\n".join(lines)
    assert all(
        word in "\n".join(lines) for word in ("better,", "class_drop,", "calibration,", "size", "0.8277 to 0.8979")
    )


def test_the_newest_version_comes_first(shown, add):
    add(**TAGS | {"test.accuracy": "0.1"})
    add("champion", **TAGS | {"test.accuracy": "0.2"})
    text = "\n".join(shown())
    assert text.index("0.2000") < text.index("0.1000")


def test_a_version_with_few_tags_is_shown_with_what_it_has(shown, add):
    add("champion", **{"test.accuracy": "0.9"})
    (line,) = [line for line in shown() if "0.9000" in line]
    assert line.split()[:3] == ["1", "champion", "0.9000"]
    assert line.endswith("not judged")


def test_a_version_without_any_tags_is_shown(shown, add):
    add("champion")
    assert any(line.split()[:3] == ["1", "champion", "-"] for line in shown())


def test_without_a_champion_it_says_how_to_get_one(shown, add):
    add("challenger", **TAGS)
    assert shown()[-1].startswith("None of them is champion; `darkroom promote VERSION`")
    add("champion", **TAGS)
    assert "None of them" not in "\n".join(shown())


def test_an_alias_that_the_history_has_left_behind_is_moved_first(shown, add, client):
    for _ in range(2):
        add(**TAGS | {WEIGHTS_TAG: "a"})
    for version in ("1", "2"):
        entries = History(client, NAME).read()
        change_champion(client, NAME, Entry(Kind.FORCED, version, "a", "b", "ada", champion=version), entries)
    client.set_registered_model_alias(NAME, "champion", "1")
    assert any(line.split()[:2] == ["2", "champion"] for line in shown())


def test_without_versions_it_says_how_to_get_one(shown, client):
    assert shown() == [f"{NAME}: no version registered yet; `dvc repro` trains and registers a model"]


def test_looking_makes_no_store(shown, project):
    root = project()
    (root / "mlflow.db").unlink()
    assert shown() == [f"{NAME}: no version registered yet; `dvc repro` trains and registers a model"]
    assert not (root / "mlflow.db").exists()
