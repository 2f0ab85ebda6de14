"""The page of the data audit in a browser: people decide, save, and the pipeline reads what they saved."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from tests.contrast import LOWEST_CONTRAST
from tests.offline_pages import DESK, PHONE, Open, opening, press
from tests.unit.audit.pictures import Noise, digest

from darkroom.audit.cached_images import CachedImages
from darkroom.audit.findings import Finding, ImageRef
from darkroom.audit.page.write import write_page
from darkroom.data.cache import DatasetCard
from darkroom.datasets.fixes import Fix, read_fixes, write_fixes

HARMFUL = (
    "</script><script>alert(1)</script>",
    '<img src=x onerror="alert(1)">',
    'a "quoted", b',
    " =1+1 ",
    "new\nline",
)
NOISE = Noise(("cat", "dog", "fox"))


@pytest.fixture
def open_page(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Write a page and open it. Afterwards: nothing else was asked for, no script failed, and no dialog was opened."""
    path = tmp_path / "index.html"

    with opening(browser, path) as open_file:

        def open_page(findings=(), images=NOISE, *, fixes=(), who="Ann", warnings=(), **options) -> Page:
            write_page(
                path,
                findings,
                images,
                classes=images.classes,
                fixes=fixes,
                who=who,
                dataset="folder",
                warnings=warnings,
            )
            return open_file(**options)

        yield open_page


def saved(page, tmp_path, how="key"):
    """Save, and read what was saved."""
    with page.expect_download() as downloading:
        press(page, "s") if how == "key" else page.get_by_role("button", name="Save fixes.csv").click()
    assert downloading.value.suggested_filename == "fixes.csv"
    target = tmp_path / "fixes.csv"
    downloading.value.save_as(target)
    return read_fixes(target)


def focused(page):
    """The position of the finding that has the focus."""
    return page.evaluate("[...document.querySelectorAll('.finding')].indexOf(document.activeElement)")


def fix(row, decision, new="", given="cat"):
    return Fix(digest(row), f"{given}/{row}.png", given, decision, new, "Bob", "2026-11-28T12:00:00Z")


@pytest.fixture
def folder(project, darkroom):
    """A project with 40 images of three classes, preprocessed."""
    root = project(dataset__name="folder")
    for number in range(60):
        path = root / "data" / "folder" / ("cat", "dog", "fox")[number % 3] / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        picture = Image.new("L", (28, 28), 4 * number)
        picture.putpixel((0, 0), 255 - 4 * number)
        picture.save(path)
    for stage in ("download", "preprocess"):
        assert darkroom(stage)[0] == 0
    return root


def listed(root):
    with (root / "data" / "processed" / "folder" / "files.csv").open(newline="") as opened:
        return list(csv.DictReader(opened))


def finding_of(row, score):
    """A finding about a row of files.csv."""
    return Finding(
        "label", ImageRef(row["split"], int(row["row"])), row["file"], row["digest"], row["class"], "", score
    )


def test_three_decisions_by_keyboard_are_applied_by_the_pipeline(folder, darkroom, open_page, tmp_path):
    directory = folder / "data" / "processed" / "folder"
    before = [row for row in listed(folder) if row["split"] == "train" and row["class"] == "cat"][:3]
    findings = [finding_of(row, 1 - number / 10) for number, row in enumerate(before)]
    images = CachedImages(directory)
    images.classes = DatasetCard.read(directory).classes
    page = open_page(findings, images)

    press(page, "ArrowDown", "d", "r", "f", "Enter", "m", "Enter")
    expect(page.locator("#progress")).to_have_text("3 of 3 findings decided; 3 decisions not saved")
    found = saved(page, tmp_path)
    expect(page.locator("#progress")).to_have_text("3 of 3 findings decided")

    assert [(each.file, each.given, each.decision, each.new, each.who) for each in found] == [
        (before[0]["file"], "cat", "drop", "", "Ann"),
        (before[1]["file"], "cat", "relabel", "fox", "Ann"),
        (before[2]["file"], "cat", "move", "val", "Ann"),
    ]
    (tmp_path / "fixes.csv").replace(folder / "data" / "fixes.csv")
    code, _, errors = darkroom("preprocess")
    assert code == 0
    assert "folder: data/fixes.csv: 1 image dropped, 1 relabeled, 1 moved" in errors.splitlines()
    after = {row["file"]: (row["class"], row["split"]) for row in listed(folder)}
    assert [after.get(row["file"]) for row in before] == [None, ("fox", "train"), ("cat", "val")]


def test_the_keys_walk_over_the_findings_of_all_kinds(open_page):
    images = Noise(("cat", "dog"))
    page = open_page([images.finding(0), images.finding(1), images.finding(2, "dark")], images)
    press(page, "ArrowDown")
    assert focused(page) == 0
    press(page, "ArrowDown", "ArrowDown")
    assert focused(page) == 2
    press(page, "ArrowDown")
    assert focused(page) == 2
    press(page, "ArrowUp", "k")
    assert focused(page) == 2
    expect(page.locator(".finding").nth(1).locator(".state")).to_contain_text("Decided: keep")
    press(page, "ArrowUp", "u")
    assert focused(page) == 1
    expect(page.locator(".finding").nth(1).locator(".state")).to_be_hidden()


def test_the_focus_is_seen_and_the_buttons_are_buttons(open_page):
    images = Noise(("cat", "dog"))
    page = open_page([images.finding(0, suggested="dog")], images)
    press(page, "ArrowDown")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert float(outline.removesuffix("px")) >= 2
    press(page, "Tab")
    expect(page.get_by_role("button", name="Keep")).to_be_focused()
    press(page, "Tab", "Enter")
    expect(page.get_by_role("button", name="Drop")).to_have_attribute("aria-pressed", "true")
    press(page, "Tab", "Space")
    expect(page.get_by_role("button", name="Relabel")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name="Drop")).to_have_attribute("aria-pressed", "false")
    expect(page.locator(".state")).to_contain_text("relabel to dog")


def test_the_suggested_class_is_chosen_already_and_else_none(open_page):
    images = Noise(("cat", "dog", "fox"))
    page = open_page([images.finding(0, score=0.9, suggested="fox"), images.finding(3, score=0.8)], images)
    press(page, "ArrowDown", "r", "Enter")
    expect(page.locator(".finding").nth(0).locator(".state")).to_contain_text("relabel to fox")
    assert focused(page) == 1
    press(page, "r", "Enter")  # nothing is chosen yet
    expect(page.locator(".finding").nth(1).locator(".state")).to_be_hidden()
    press(page, "d", "Escape")  # in the list of classes a letter is one of their names
    assert focused(page) == 1
    press(page, "r", "Enter")
    expect(page.locator(".finding").nth(1).locator(".state")).to_contain_text("relabel to dog")


def test_of_a_hundred_classes_each_can_be_chosen(open_page, tmp_path):
    images = Noise(tuple(f"a rather long name of class {row}" for row in range(100)))
    page = open_page([images.finding(row, score=1 - row / 1000) for row in range(50)], images)
    page.get_by_label("New class").first.focus()
    page.get_by_label("New class").first.select_option("a rather long name of class 77")
    press(page, "Enter")
    (found,) = saved(page, tmp_path)
    assert (found.given, found.decision, found.new) == (images.classes[0], "relabel", images.classes[77])


def test_what_was_decided_before_is_shown_undone_and_saved_again(open_page, tmp_path):
    images = Noise(("cat", "dog"))
    gone = Fix("f" * 32, "dog/gone.png", "dog", "drop", "", "Bob", "2026-11-28T12:00:00Z")
    before = [fix(0, "keep"), gone, fix(2, "relabel", "dog")]
    page = open_page([images.finding(0, score=0.9), images.finding(4, score=0.8)], images, fixes=before)
    expect(page.locator("#progress")).to_have_text("1 of 2 findings decided")
    expect(page.get_by_role("button", name="Save fixes.csv")).to_be_disabled()
    first = page.locator(".finding", has_text="cat/0.png")
    expect(first.locator(".state")).to_contain_text("keep by Bob, 2026-11-28T12:00:00Z, in data/fixes.csv")

    page.get_by_role("button", name="Undo: dog/gone.png").click()
    page.get_by_role("button", name="Undo: cat/2.png").click()
    page.get_by_role("button", name="Restore: cat/2.png").click()
    first.get_by_role("button", name="Drop").click()
    expect(page.locator("#progress")).to_have_text("1 of 2 findings decided; 2 decisions not saved")
    expect(page.locator("#earlier li", has_text="cat/0.png")).to_contain_text("now: drop")
    page.locator(".finding", has_text="cat/4.png").get_by_role("button", name="Keep").click()
    found = saved(page, tmp_path, "button")
    assert [(each.digest, each.decision, each.who) for each in found] == [
        (digest(0), "drop", "Ann"), (digest(2), "relabel", "Bob"), (digest(4), "keep", "Ann"),
    ]  # fmt: skip
    assert found[1] == before[2]


def test_undo_goes_back_to_what_was_decided_before(open_page):
    images = Noise(("cat", "dog"))
    page = open_page([images.finding(0)], images, fixes=[fix(0, "keep")])
    press(page, "ArrowDown", "d", "u")
    expect(page.locator(".state")).to_contain_text("Decided: keep by Bob")
    expect(page.locator("#progress")).to_have_text("1 of 1 finding decided")
    press(page, "u")
    expect(page.locator("#progress")).to_have_text("0 of 1 finding decided; 1 decision not saved")


def test_an_image_in_two_findings_is_decided_once(open_page, tmp_path):
    images = Noise(("cat", "dog"))
    page = open_page([images.finding(0), images.finding(0, "dark")], images)
    press(page, "ArrowDown", "d")
    expect(page.locator(".state:visible")).to_have_count(2)
    assert len(saved(page, tmp_path)) == 1


def test_harmful_names_are_shown_as_text_and_come_back_as_they_are(open_page, tmp_path):
    images = Noise(HARMFUL)
    findings = [images.finding(row, suggested=HARMFUL[row - 1], neighbors=[row + 1]) for row in range(len(HARMFUL))]
    page = open_page(findings, images, who=HARMFUL[0])
    for name in HARMFUL:
        expect(page.locator(".tags b").filter(has_text=name.strip()).first).to_be_visible()
    press(page, "ArrowDown", *("r", "Enter") * len(HARMFUL))
    found = saved(page, tmp_path)
    assert [(each.given, each.new, each.who) for each in found] == [
        (HARMFUL[row], HARMFUL[row - 1], HARMFUL[0]) for row in range(len(HARMFUL))
    ]
    assert [each.file for each in found] == [finding.file for finding in findings]


def test_who_decided_is_asked_for(open_page, tmp_path):
    images = Noise(("cat", "dog"))
    page = open_page([images.finding(0)], images, who="")
    press(page, "ArrowDown", "d", "s")
    expect(page.get_by_label("Decided by")).to_be_focused()
    expect(page.locator("#spoken")).to_have_text("Not saved: fill in who decided")
    page.keyboard.type("skd")  # no keys of the page while something is typed
    expect(page.locator(".state")).to_contain_text("Decided: drop")
    assert [each.who for each in saved(page, tmp_path, "button")] == ["skd"]


@pytest.mark.parametrize("how", ["unsaved", "saved", "undone"])
def test_leaving_asks_if_decisions_are_not_saved(open_page, tmp_path, how):
    images = Noise(("cat", "dog"))
    page = open_page([images.finding(0)], images)
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    press(page, "ArrowDown", "d")
    if how == "saved":
        saved(page, tmp_path)
    elif how == "undone":
        press(page, "u")
    page.reload()
    assert asked == (["beforeunload"] if how == "unsaved" else [])


def test_nothing_found_is_said(open_page):
    page = open_page()
    expect(page.get_by_text("Nothing suspicious was found.")).to_be_visible()
    expect(page.get_by_role("button")).to_have_count(0)


def test_earlier_decisions_can_be_undone_where_nothing_is_found(open_page, tmp_path):
    page = open_page(fixes=[fix(0, "drop")])
    page.get_by_role("button", name="Undo: cat/0.png").click()
    assert saved(page, tmp_path) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 224, 300)], ids=["small", "photographs"])
def test_it_fits_and_can_be_read(open_page, scheme, size, shape):
    images = Noise(("cat", "a rather long name of a class " * 4, "x" * 100), shape)
    findings = [images.finding(row, suggested="cat", neighbors=range(row + 1, row + 7)) for row in range(4)]
    page = open_page(findings, images, fixes=[fix(0, "keep")], viewport=size, color_scheme=scheme)
    press(page, "ArrowDown", "d")
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    contrast, text = page.evaluate(LOWEST_CONTRAST)
    assert contrast >= 4.5, text


def test_a_finding_has_its_picture_neighbors_and_reason(open_page):
    images = Noise(("cat", "dog"))
    page = open_page([images.finding(1, split="test", suggested="cat", neighbors=[2, 3])], images)
    found = page.locator(".finding")
    expect(found).to_contain_text("a reason")
    expect(found.locator(".tags")).to_have_text("label dogsuggested catsplit testscore 0.50")
    expect(found.locator("figcaption")).to_have_text(["cattrain", "dogtrain"])
    sizes = "[...document.querySelectorAll('.finding img')].map((image) => image.naturalWidth)"
    page.wait_for_function(f"{sizes}.every(Boolean)")
    assert page.evaluate(sizes) == [28, 28, 28]
    expect(found.locator(".picture img")).to_have_class("pixels")


def test_the_rest_of_many_findings_is_counted(open_page):
    images = Noise(("cat", "dog"))
    page = open_page([images.finding(row, score=row / 1000) for row in range(310)], images)
    expect(page.locator(".finding")).to_have_count(300)
    expect(page.get_by_text("The first 300 of 310 findings; findings.json has all")).to_be_visible()
    expect(page.locator("#progress")).to_have_text("0 of 300 findings decided (310 in all)")
    expect(page.locator(".finding").first).to_contain_text("309.png")


def test_what_a_fix_has_relabeled_is_decided_by_its_label_of_before(open_page, tmp_path):
    images = Noise(("cat", "dog"))
    before = [fix(1, "relabel", "dog")]
    page = open_page([images.finding(1)], images, fixes=before)  # it is labeled dog by then
    expect(page.locator(".state")).to_contain_text("Decided: relabel to dog by Bob")
    press(page, "ArrowDown", "k")
    write_fixes(tmp_path / "expected.csv", before)
    (found,) = saved(page, tmp_path)
    assert (found.given, found.decision) == ("cat", "keep")


def test_warnings_about_the_dataset_come_first_and_as_text(open_page: Open) -> None:
    page = open_page(warnings=(f"cat can be told from the {HARMFUL[1]} of the files alone",))
    assert page.locator("#warnings li").all_inner_texts() == [
        f"cat can be told from the {HARMFUL[1]} of the files alone"
    ]
    assert not open_page().locator("#warnings").is_visible()
