"""A Chromium and a trained model for the tests of the page."""

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright
from tests.serving.page.served import Served, serve, train_on_digits
from tests.tracking_server.browser import FLAGS, chromium

from darkroom.serving.loaded_model import LoadedModel

CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
PHONE = {"width": 360, "height": 740}
Open = Callable[..., Page]

expect.set_options(timeout=20_000)  # for a broken page; nothing is measured


# Not for the session: Playwright's event loop runs as long, and then no other test could run one of its own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if chromium() is None:
        pytest.skip("there is no Chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=[*FLAGS, *CAMERA])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def digits() -> LoadedModel:
    return train_on_digits()


@pytest.fixture
def served(digits: LoadedModel) -> Iterator[Served]:
    with serve(digits) as served:
        yield served


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Open a server's page. Afterwards: nothing was asked of another address, and no script failed."""
    contexts, asked, failed = [], [], []

    def open_page(served: Served, **options: object) -> Page:
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("request", lambda request: asked.append((request, served.address)))
        page.on("pageerror", lambda problem: failed.append(problem))
        page.on("console", lambda message: failed.append(message.text) if is_refusal(message.text) else None)
        page.goto(served.address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not [request.url for request, address in asked if not belongs(request, address)]
    assert not failed


def belongs(request: Request, address: str) -> bool:
    return urlsplit(request.url).scheme in {"data", "blob"} or request.url.startswith(f"{address}/")


def is_refusal(text: str) -> bool:
    """Of something that the page's own policy does not let it do."""
    return "Content Security Policy" in text
