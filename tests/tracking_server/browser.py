"""MLflow's page in a real browser, for tests and for pictures in the documentation."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from deploy.tracking_server import Server
from playwright.sync_api import Page, sync_playwright

from darkroom.tracking.runs import MODEL_TRAINING

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SIZE = {"width": 1400, "height": 900}
# MLflow keeps it in the browser that it has shown its assistant for language models once.
CHOSEN = 'localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");'


def chromium() -> str | None:
    """The system's Chromium, if it has one."""
    return next((found for program in PROGRAMS if (found := shutil.which(program))), None)


@contextmanager
def open_page(server: Server, address: str = "/#/models") -> Iterator[Page]:
    """A page of the server for model training, signed in, in the system's Chromium.

    For a picture: ``with open_page(server, "/#/models") as page: page.screenshot(path="models.png")``.
    """
    login = {
        "username": server.environment["MLFLOW_TRACKING_USERNAME"],
        "password": server.environment["MLFLOW_TRACKING_PASSWORD"],
    }
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        page = browser.new_page(http_credentials=login, viewport=SIZE)
        page.set_default_timeout(60_000)  # for a broken page; nothing is measured
        page.add_init_script(CHOSEN)
        page.goto(f"{server.address}{address}{MODEL_TRAINING}")
        try:
            yield page
        finally:
            browser.close()
