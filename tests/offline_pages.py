"""Pages that are one file, in Chromium."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from tests.tracking_server.browser import FLAGS, chromium

PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 900}
Open = Callable[..., Page]


@contextmanager
def launched() -> Iterator[Browser]:
    """The system's Chromium; without one the test is skipped."""
    if chromium() is None:
        pytest.skip("there is no Chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def opening(browser: Browser, path: Path) -> Iterator[Open]:
    """Opens the file at ``path``. Afterwards: nothing else was asked for, and no script failed."""
    contexts, asked, failed = [], [], []

    def open_file(**options: Any) -> Page:
        context = browser.new_context(**({"viewport": DESK} | options))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)  # for a broken page; nothing is measured
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda problem: failed.append(problem))
        page.on("console", lambda message: failed.append(message.text))
        page.goto(path.as_uri())
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert not [address for address in asked if not address.startswith(("data:", "blob:", path.as_uri()))]
    assert not failed


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)
