"""A Chromium for the pages that people decide on."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect
from tests.offline_pages import launched

expect.set_options(timeout=20_000)  # for a broken page; nothing is measured


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser
