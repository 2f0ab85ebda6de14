"""What people see: MLflow's page on the server, in a real browser."""

import pytest
from playwright.sync_api import expect
from tests.tracking_server.browser import chromium, open_page

pytestmark = pytest.mark.skipif(chromium() is None, reason="there is no Chromium on this machine")
MODEL = "darkroom-digits"
expect.set_options(timeout=60_000)  # for a broken page; nothing is measured


@pytest.fixture
def champion(team, client):
    return client.get_model_version_by_alias(MODEL, "champion")


def test_the_registered_model_is_listed_with_its_champion(team, champion):
    with open_page(team.server, f"/#/models/{MODEL}") as page:
        row = page.get_by_role("row").filter(has_text=f"Version {champion.version}").first
        expect(row).to_be_visible()
        expect(row.get_by_text("champion")).to_be_visible()


def test_the_page_of_a_version_shows_its_verdict_and_accuracy(team, champion):
    with open_page(team.server, f"/#/models/{MODEL}/versions/{champion.version}") as page:
        for tag in ("gate.verdict", "test.accuracy"):
            row = page.get_by_role("row").filter(has=page.get_by_text(tag, exact=True))
            row.scroll_into_view_if_needed()
            expect(row).to_be_visible()
            expect(row).to_contain_text(champion.tags[tag])


def test_the_page_of_a_run_shows_its_metrics(team, client, champion):
    run = client.get_run(champion.run_id)
    with open_page(team.server, f"/#/experiments/{run.info.experiment_id}/runs/{champion.run_id}") as page:
        expect(page.get_by_text("test/accuracy", exact=True)).to_be_visible()
        expect(page.get_by_text("train.lr", exact=True)).to_be_visible()
        description = page.get_by_text(f"Test accuracy {run.data.metrics['test/accuracy']:.4f}")
        expect(description).to_be_visible()
        with page.context.expect_page() as opened:
            page.get_by_role("link", name="Confusion matrix").click()
        expect(opened.value.get_by_text("evaluate/confusion_matrix.png", exact=True)).to_be_visible()
        expect(opened.value.get_by_role("link", name="Models", exact=True)).to_be_visible()


def test_the_models_tab_shows_what_each_model_is_and_what_it_reached_on_which_data(team, client, champion):
    run = client.get_run(champion.run_id)
    with open_page(team.server, f"/#/experiments/{run.info.experiment_id}/models") as page:
        model = page.get_by_role("row").filter(
            has_text=client.get_logged_model(champion.source.removeprefix("models:/")).name
        )
        expect(model.first).to_be_visible()
        expect(page.get_by_role("link", name=run.info.run_name)).to_be_visible()
        expect(page.get_by_role("link", name=MODEL).first).to_be_visible()
        digest = run.inputs.dataset_inputs[0].dataset.digest
        expect(page.get_by_text(f"digits (#{digest})").first).to_be_visible()
        column = page.get_by_role("columnheader", name="test/accuracy", exact=True)
        column.scroll_into_view_if_needed()
        expect(column).to_be_visible()
        expect(page.get_by_text(str(run.data.metrics["test/accuracy"])[:6]).first).to_be_visible()
