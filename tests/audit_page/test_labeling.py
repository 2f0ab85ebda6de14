"""The page of `darkroom inbox` in a browser: people label by keyboard, and the pipeline trains on what they labeled."""

import shutil
from contextlib import ExitStack

import numpy as np
import pytest
from playwright.sync_api import expect
from tests import inbox_project
from tests.contrast import LOWEST_CONTRAST
from tests.inbox_project import picture, put
from tests.offline_pages import PHONE, opening, press

from darkroom.inbox.acceptance import read_decisions
from darkroom.inbox.page.write import Asked, write_page
from darkroom.inbox.store import read_inbox

HARMFUL = ("</script><script>alert(1)</script>", '<img src=x onerror="alert(1)">', 'a "quoted", b', "new\nline")
HOSTILE = [*HARMFUL, *(f"class {number}" for number in range(20))]


@pytest.fixture
def open_file(browser):
    """Open a page from the disk. Afterwards: nothing else was asked for, and no script failed."""
    with ExitStack() as stack:
        yield lambda path, **options: stack.enter_context(opening(browser, path))(**options)


@pytest.fixture
def hostile(tmp_path):
    """A page of three pictures, whose classes have names that are no names."""
    for number in range(3):
        put(tmp_path, picture(number), received=f"2026-01-0{number + 1}T00:00:00+00:00")
    kept, _ = read_inbox(tmp_path / "data/inbox")
    scores = {label: 1 / (2 + number) for number, label in enumerate(HOSTILE)}
    asked = [Asked.of(each, scores, alike=()) for each in kept]
    write_page(tmp_path / "index.html", asked, classes=HOSTILE, who="Ann", total=9)
    return tmp_path / "index.html", [each.record.digest for each in kept]


def save(page, target):
    with page.expect_download() as downloading:
        press(page, "s")
    assert downloading.value.suggested_filename == "inbox.csv"
    downloading.value.save_as(target)
    return read_decisions(target)


def test_labels_by_keyboard_reach_the_train_split(
    prepare_once, empty_store, tmp_path, monkeypatch, darkroom, open_file
):
    prepared = prepare_once("inbox_project", inbox_project.fill)
    root = tmp_path / "project"
    shutil.copytree(prepared, root)
    monkeypatch.chdir(root)
    digests = [put(root, picture(1000 + number), label="fox" if number == 2 else None) for number in range(3)]
    # Of two that show the same one is asked about, and the other one goes with it.
    twin = put(root, np.clip(picture(1000).astype(int) + 3, 0, 255).astype(np.uint8))
    assert darkroom("inbox")[0] == 0
    page = open_file(root / "reports/inbox/index.html")
    page.locator("#who").fill("Ann")
    page.locator("h1").click()

    press(page, "ArrowDown", "1", "2", "d")
    expect(page.locator("#progress")).to_have_text("3 of 3 pictures decided (4 in the inbox); 3 decisions not saved")
    shown = page.locator(".finding").nth(1).locator("button bdi").all_text_contents()[1]
    found = save(page, tmp_path / "inbox.csv")
    expect(page.locator("#progress")).to_have_text("3 of 3 pictures decided (4 in the inbox)")

    (alike,) = [each for each in found if each.decision == "alike"]
    assert alike.digest in {twin, digests[0]}
    found = [each for each in found if each.decision != "alike"]
    assert [(each.decision, each.label, each.who) for each in found] == [
        ("label", "fox", "Ann"), ("label", shown, "Ann"), ("discard", "", "Ann"),
    ]  # fmt: skip
    assert darkroom("inbox", "--accept", str(tmp_path / "inbox.csv"))[0] == 0
    assert read_inbox(root / "data/inbox") == ([], [])
    for stage in ("download", "preprocess"):
        assert darkroom(stage)[0] == 0
    listed = (root / "data/processed/folder/files.csv").read_text().splitlines()
    for each in found[:2]:
        (line,) = [line for line in listed if each.digest in line]
        assert line.startswith("train,")
        assert f",{each.label}," in line


def test_any_class_is_chosen_by_keyboard_and_an_undone_decision_is_not_saved(hostile, open_file, tmp_path):
    path, digests = hostile
    page = open_file(path)
    press(page, "ArrowDown", "l")
    page.keyboard.type("class 19")
    press(page, "Enter", "3", "1", "ArrowUp", "ArrowUp", "ArrowDown", "ArrowDown", "u")
    expect(page.locator("#progress")).to_have_text("2 of 3 pictures decided (9 in the inbox); 2 decisions not saved")
    found = save(page, tmp_path / "inbox.csv")
    assert [(each.digest, each.label) for each in found] == [(digests[0], "class 19"), (digests[1], HARMFUL[2])]


def test_without_a_name_it_asks_for_one_and_saves_nothing(hostile, open_file):
    page = open_file(hostile[0])
    page.locator("#who").fill(" ")
    page.locator("h1").click()
    press(page, "ArrowDown", "1", "s")
    expect(page.locator("#spoken")).to_have_text("Not saved: fill in who labeled them")
    expect(page.locator("#who")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_on_a_phone_and_names_are_text(hostile, open_file, scheme):
    page = open_file(hostile[0], viewport=PHONE, has_touch=True, color_scheme=scheme)
    expect(page.get_by_text(HARMFUL[0]).first).to_be_visible()
    page.get_by_role("button", name="Discard").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    lowest, text = page.evaluate(LOWEST_CONTRAST)
    assert lowest >= 4.5, text
