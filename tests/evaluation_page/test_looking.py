"""The report of an evaluation in a browser: people look for the reasons of its mistakes."""

import re
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from tests.contrast import LOWEST_CONTRAST
from tests.offline_pages import DESK, PHONE, launched, opening, press
from tests.unit.evaluation.made_up_report import evaluation, write

from darkroom.evaluation.page import pictures
from darkroom.evaluation.slices import Slice

THREE = ("cat", "dog", "fox")
MANY = tuple(f"a rather long name of class {row}" for row in range(100))
HARMFUL = ("</script><script>alert(1)</script>", '<img src=x onerror="alert(1)">', "\u202eright to left", "x" * 200)
CURVES = {
    "epoch": [1, 2, 3], "train_loss": [1.0, 0.6, 0.4], "val_loss": [0.9, 0.7, 0.8],
    "train_accuracy": [0.5, 0.7, 0.8], "val_accuracy": [0.6, 0.7, 0.65], "best": 2,
}  # fmt: skip

expect.set_options(timeout=20_000)  # for a broken page; nothing is measured


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture
def open_report(browser, tmp_path):
    """Write a report of a made-up evaluation and open it."""
    path = tmp_path / "index.html"
    with opening(browser, path) as open_file:

        def open_report(classes=THREE, *, browsing=None, **options) -> Page:
            write(path, classes, **options)
            return open_file(**(browsing or {}))

        yield open_report


def tiles(page):
    return page.locator(".tile")


def focused(page):
    """The position of the image that has the focus."""
    return page.evaluate("[...document.querySelectorAll('.tile')].indexOf(document.activeElement)")


def fact(page, title):
    return page.locator("dl > div", has_text=title).locator("dd").inner_text()


def test_a_cell_of_the_matrix_opens_its_images_by_keyboard(open_report):
    found, _ = evaluation(THREE)
    page = open_report()
    page.locator("#matrix td[tabindex='0']").focus()
    press(page, "ArrowDown", "ArrowRight", "ArrowRight")
    expect(page.locator("#cell")).to_have_text(re.compile(rf"dog: {found.confusion[1, 2]} images? .* taken for fox"))
    press(page, "Enter")
    expect(tiles(page)).to_have_count(int(found.confusion[1, 2]))
    for name in tiles(page).all():
        assert name.locator("bdi").all_text_contents() == ["dog", "fox"]
    assert focused(page) == 0
    assert [page.locator(f"#{each}").input_value() for each in ("actual", "predicted", "which")] == ["1", "2", "all"]


def test_every_cell_shows_its_count(open_report):
    found, _ = evaluation(THREE)
    cells = open_report().locator("#matrix tbody td").all_text_contents()
    assert np.reshape([int(text or 0) for text in cells], (3, 3)).tolist() == found.confusion.tolist()


@pytest.mark.parametrize(("order", "title"), [("loss", "Loss"), ("doubt", "Doubt"), ("energy", "Energy")])
def test_the_images_are_sorted_as_they_are_asked_for(open_report, order, title):
    page = open_report(count=30)
    page.get_by_label("Show", exact=False).select_option("all")
    page.get_by_label("Sort by").select_option(order)
    tiles(page).first.click()
    values = []
    for _ in range(30):
        values.append(float(re.match(r"[-\d.]+", fact(page, title))[0]))
        press(page, "ArrowRight")
    assert len(set(values)) > 20
    assert values == sorted(values, reverse=True)


def test_an_image_shows_what_it_was_taught_by_and_gives_the_focus_back(open_report):
    page = open_report()
    tiles(page).nth(2).focus()
    press(page, "Enter")
    expect(page.get_by_role("heading", name="It was taught by these")).to_be_visible()
    near = page.locator(".neighbors figure")
    expect(near).to_have_count(pictures.NEIGHBORS)
    likeness = [float(text.removeprefix("alike ")) for text in near.locator(".small").all_text_contents()]
    assert likeness == sorted(likeness, reverse=True)
    press(page, "ArrowRight", "Escape")
    expect(page.locator("#detail")).to_be_hidden()
    assert focused(page) == 3


def test_the_arrow_keys_walk_over_the_images(open_report):
    page = open_report()
    page.get_by_label("Show", exact=False).select_option("all")
    tiles(page).first.focus()
    columns = page.evaluate("getComputedStyle(document.getElementById('grid')).gridTemplateColumns.split(' ').length")
    press(page, "ArrowRight", "ArrowDown")
    assert focused(page) == 1 + columns
    press(page, "ArrowUp", "ArrowLeft", "ArrowLeft")
    assert focused(page) == 0
    press(page, "End", "ArrowRight")  # the next ones are shown then
    assert focused(page) == 60
    expect(tiles(page)).to_have_count(120)
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()


def test_without_the_train_images_the_report_says_so(open_report):
    page = open_report(train=0)
    tiles(page).first.click()
    expect(page.get_by_text("The train images are not on the machine that evaluated")).to_be_visible()


def test_images_that_the_file_does_not_hold_are_counted(open_report, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_SHOWN", 20)
    monkeypatch.setattr(pictures, "NEIGHBOR_BYTES", 0)
    page = open_report()
    page.get_by_label("Show", exact=False).select_option("all")
    expect(page.locator("#shown")).to_have_text(
        "20 images. 100 more are not in this file; predictions.csv lists all of them."
    )
    tiles(page).first.click()
    expect(page.get_by_text("no room in this file for the train images")).to_be_visible()


def test_what_there_is_no_data_of_has_no_place(open_report):
    page = open_report()
    for section in ("sets", "slices", "curves", "heat-maps", "robustness"):
        expect(page.locator(f"#{section}")).to_be_hidden()
        expect(page.locator(f"nav a[href='#{section}']")).to_be_hidden()
    worse = [Slice("camera", "old", 40, 0.5, 0.35, 0.65, 1e-6, 1e-4)]
    sets = np.arange(120)[:, None] % 3 == np.arange(3)
    page = open_report(slices=worse, sets=sets, curves=CURVES, warnings=["a warning"], notes=["a note"])
    expect(page.locator("#sets-table tbody tr")).to_have_text("1120100.00 %")
    expect(page.locator("#slices-table tbody tr")).to_have_text("▼ camera old4050.00 %35.00 % to 65.00 %")
    expect(page.locator("#curves svg")).to_have_count(2)
    expect(page.locator("#warnings")).to_have_text("a warning")
    tiles(page).first.click()
    assert fact(page, "Prediction set") in THREE


def test_it_holds_the_figures_that_were_drawn(open_report, tmp_path):
    for name, height in (("explained_mistakes", 200), ("class_maps", 300)):
        Image.new("RGB", (1300, height), "white").save(tmp_path / f"{name}.png")
    page = open_report(figures=tmp_path, browsing={"viewport": PHONE})
    (tmp_path / "class_maps.png").unlink()
    drawn = page.locator("#heat-maps img")
    expect(drawn).to_have_count(2)
    assert drawn.evaluate_all("all => all.map(each => each.naturalHeight)") == [200, 300]
    expect(page.locator("nav a[href='#heat-maps']")).to_be_visible()
    expect(page.locator("#robustness")).to_be_hidden()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_a_class_of_the_table_opens_its_images(open_report):
    page = open_report()
    page.locator("#classes-table").get_by_role("button", name="fox").click()
    expect(tiles(page)).to_have_count(40)
    assert set(page.locator(".tile .name:not(.answer)").all_text_contents()) == {"fox"}


def test_names_are_never_markup(open_report):
    page = open_report(HARMFUL, warnings=[HARMFUL[1]])
    tiles(page).first.click()
    assert page.locator("img[src=x]").count() == 0
    assert page.locator("#matrix thead th").all_text_contents() == list(HARMFUL)


def test_of_more_classes_than_a_matrix_can_show_the_mistakes_are_listed(open_report):
    page = open_report(tuple(f"class {row}" for row in range(200)), count=400)
    expect(page.locator("#matrix")).to_contain_text("confusion_matrix.csv has it")
    page.locator(".worst button").first.click()
    expect(tiles(page).first).to_be_focused()


@pytest.mark.parametrize("classes", [THREE, MANY, HARMFUL], ids=["3", "100", "harmful"])
def test_it_fits_and_can_be_read(open_report, classes):
    page = open_report(classes, count=500, browsing={"viewport": PHONE}, notes=["a note"], curves=CURVES)
    for size in (PHONE, DESK):
        page.set_viewport_size(size)
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    cells = page.locator("#matrix tbody td")
    expect(cells).to_have_count(len(classes) ** 2)
    page.locator("#matrix td.mistake").first.click()
    expect(tiles(page).first).to_be_focused()
    press(page, "Enter")
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.getElementById('detail').scrollWidth") <= PHONE["width"]
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        contrast, text = page.evaluate(LOWEST_CONTRAST)
        assert contrast >= 4.5, (scheme, text)
