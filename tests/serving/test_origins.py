"""Under which names the server answers, and what pages of other sites may make a browser send."""

import pytest
from tests.serving.client import TestClient
from tests.serving.fakes import png

from darkroom.serving.app import make_app

FILES = {"images": png(20)}
OURS = ("localhost", "LOCALHOST:8000", "app.localhost", "localhost.", "127.0.0.1", "127.0.0.1:8000", "[::1]:8000",
        "192.168.0.7", "shades.example.com:8000", "a.b.example.org")  # fmt: skip
OTHERS = ("attacker.example", "attacker.example:8000", "localhost.attacker.example", "127.0.0.1.nip.io", "example.com",
          "example.org", "shades.example.com.attacker.example", "user@localhost", ":8000", "a" * 5000,
          "[::1].attacker.example", "localhost:x.attacker.example")  # fmt: skip


@pytest.fixture
def client(make_service):
    service = make_service(trusted_hosts=["*.example.org"])
    with TestClient(make_app(service, host="shades.example.com")) as client:
        yield client


@pytest.mark.parametrize("host", OURS)
def test_it_answers_under_its_own_names(client, host):
    for path in ("/", "/v1/model/gallery", "/metrics"):
        assert client.get(path, headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", OTHERS)
def test_a_page_whose_name_was_led_here_reads_nothing(client, host):
    for path in ("/", "/v1/model/gallery", "/metrics", "/openapi.json", "/static/main.js"):
        refused = client.get(path, headers={"host": host})
        assert refused.status_code == 421
        assert "serve.trusted_hosts" in refused.json()["detail"] or len(host) > 300
    assert client.post("/v1/predict", files=FILES, headers={"host": host}).status_code == 421


def test_any_name_may_be_allowed(make_service):
    with TestClient(make_app(make_service(trusted_hosts=["*"]))) as client:
        assert client.get("/v1/model", headers={"host": "anything.example"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "same-origin", "origin": "http://localhost"},
        {"sec-fetch-site": "none"},
        {"origin": "http://localhost"},
        {"origin": "http://127.0.0.1:8000", "host": "127.0.0.1:8000"},
        {"origin": "https://shades.example.com", "host": "127.0.0.1:8000"},
    ],
)
def test_programs_and_its_own_page_may_send_pictures(client, headers):
    assert client.post("/v1/predict", files=FILES, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": "http://localhost:3000"},
        {"sec-fetch-site": "cross-site", "origin": "http://localhost"},
        {"origin": "http://attacker.example"},
        {"origin": "http://localhost:3000"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://["},
        {"origin": "https://shades.example.com:8443"},
    ],
)
def test_pages_of_other_sites_send_nothing_and_fill_no_drift_watch(client, headers):
    refused = client.post("/v1/predict", files=FILES, headers=headers)
    assert refused.status_code == 403
    assert refused.json() == {"detail": "requests from pages of other sites are refused"}
    assert client.get("/v1/drift").json()["images"] == 0
    assert client.get("/v1/model", headers=headers).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "192.168.0.7", "localhost"])
@pytest.mark.parametrize("origin", ["http://{}:9999", "http://{}"])
def test_pages_of_other_ports_of_the_address_where_it_listens_send_nothing(make_service, host, origin):
    headers = {"host": f"{host}:8000", "origin": origin.format(host)}
    with TestClient(make_app(make_service(), host=host)) as client:
        assert client.post("/v1/predict", files=FILES, headers=headers).status_code == 403
