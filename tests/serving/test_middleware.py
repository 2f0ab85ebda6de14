"""Who may ask the server, what its log says, and what a browser may load."""

import logging
import re

import pytest
from tests.serving.client import TestClient
from tests.serving.fakes import png

from darkroom.serving.app import make_app

KEY = "correct horse battery"
FILES = {"images": ("private-name.png", png(20), "image/png")}
PROTECTED = ("/v1/model", "/v1/model/gallery", "/v1/model/confusion", "/v1/model/report", "/v1/drift", "/metrics")
STRANGERS = (
    {},
    {"x-api-key": ""},
    {"x-api-key": KEY[:-1]},
    {"x-api-key": "ключ".encode()},
    {"authorization": f"Basic {KEY}"},
    {"authorization": "Bearer"},
)
OPEN = ("/", "/healthz", "/readyz", "/docs", "/openapi.json")


@pytest.fixture
def guarded(service):
    with TestClient(make_app(service, KEY)) as client:
        yield client


@pytest.mark.parametrize("headers", STRANGERS)
def test_without_the_key_nothing_is_told(guarded, headers):
    for path in PROTECTED:
        refused = guarded.get(path, headers=headers)

        assert refused.status_code == 401, path
        assert refused.headers["www-authenticate"] == "Bearer"
        assert "Authorization: Bearer KEY" in refused.json()["detail"]


@pytest.mark.parametrize(
    "headers", [{"x-api-key": KEY}, {"authorization": f"Bearer {KEY}"}, {"authorization": f"bearer {KEY}"}]
)
def test_with_the_key_everything_is_answered(guarded, headers):
    assert [guarded.get(path, headers=headers).status_code for path in PROTECTED] == [200] * len(PROTECTED)
    assert guarded.post("/v1/predict", files=FILES, headers=headers).status_code == 200


def test_a_picture_without_the_key_is_not_answered(guarded):
    assert guarded.post("/v1/predict", files=FILES).status_code == 401


@pytest.mark.parametrize("path", OPEN)
def test_probes_and_the_page_itself_need_no_key(guarded, path):
    assert guarded.get(path).status_code == 200


def test_the_page_of_the_api_knows_of_the_key(guarded, client):
    assert guarded.get("/openapi.json").json()["security"] == [{"key": []}]
    assert "security" not in client.get("/openapi.json").json()


def test_each_request_is_a_line_without_what_was_sent(client, caplog):
    caplog.set_level(logging.INFO, "darkroom.serving")
    client.post("/v1/predict?top_k=1", files=FILES)
    client.get("/v1/nothing%0Aforged%20line")

    first, second = (record.getMessage() for record in caplog.records if record.name == "darkroom.serving.middleware")
    assert re.fullmatch(r"testclient POST /v1/predict 200 \d+\.\d ms", first)
    assert re.fullmatch(r"testclient GET /v1/nothing%0Aforged%20line 404 \d+\.\d ms", second)


def test_paths_that_somebody_tries_do_not_fill_the_counters(client):
    for number in range(20):
        client.get(f"/try/{number}")

    told = client.get("/metrics").text
    assert 'darkroom_requests_total{path="other",status="404"} 20.0' in told
    assert "/try/" not in told


@pytest.mark.parametrize("path", OPEN)
def test_a_browser_loads_nothing_from_elsewhere(client, path):
    answer = client.get(path)

    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    if path in ("/", "/docs"):
        assert not re.search(r"""(src|href)=["']?(https?:)?//""", answer.text)


def test_the_page_of_the_api_comes_with_its_scripts(client):
    page = client.get("/docs")
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)

    assert len(loaded) >= 2
    assert [client.get(path).status_code for path in loaded] == [200] * len(loaded)
