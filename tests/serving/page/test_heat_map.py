"""The switch for the heat map: it asks once more, lays the map over what the model saw, and stays as it was left."""

import numpy as np
from playwright.sync_api import expect
from tests.serving.page.browser_actions import label, upload
from tests.serving.page.conftest import PHONE
from tests.serving.page.served import made_up, serve
from tests.serving.page.strokes import png

GRAY = png(np.full((8, 8), 100, np.uint8))


def switch(page):
    return page.get_by_role("button", name="Heat map")


def test_the_switch_shows_the_heat_map_and_keeps_it_for_the_next_picture(served, open_page):
    page = open_page(served)
    page.locator(".tile").first.click()
    heat = page.locator(".heat")

    expect(switch(page)).to_have_attribute("aria-pressed", "false")
    expect(heat).to_have_count(0)
    switch(page).focus()
    page.keyboard.press("Enter")

    expect(heat).to_be_visible()
    expect(switch(page)).to_have_attribute("aria-pressed", "true")
    expect(switch(page)).to_be_focused()
    expect(heat).to_have_attribute("alt", f"Heat map: where it speaks for {label(page).text_content()}")
    over, below = heat.bounding_box(), page.locator(".seen-image").bounding_box()
    assert {side: abs(over[side] - below[side]) <= 2 for side in over} == dict.fromkeys(over, True)

    page.locator(".tile").nth(5).click()
    expect(heat).to_be_visible()
    switch(page).click()
    expect(heat).to_be_hidden()
    expect(switch(page)).to_have_attribute("aria-pressed", "false")


def test_a_line_says_why_there_is_no_heat_map(open_page, monkeypatch):
    monkeypatch.setattr("darkroom.explanation.explainer._seconds", lambda run: 1e6)
    logits = np.array([[1.0, 0.0]], np.float32)
    loaded = made_up(lambda images: np.repeat(logits, len(images), 0), classes=("ant", "bee"), shape=(1, 8, 8))
    with serve(loaded) as served:
        page = open_page(served, viewport=PHONE)
        upload(page, GRAY)
        switch(page).click()

        expect(page.locator(".heat-line")).to_contain_text("heat maps: one would take")
        expect(label(page)).to_have_text("ant")
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
