"""Behind a proxy: the path that it has put before the server's own, who is believed, and what probes ask."""

import logging
import re
from urllib.parse import urljoin

import pytest
from starlette import testclient
from tests.serving.client import TestClient
from tests.serving.fakes import png

from darkroom.config.settings import Serve
from darkroom.serving.app import make_app

# That most proxies keep a connection that nobody uses: nginx and the load balancers of AWS among them.
PROXY_SECONDS = 60
PREFIX = "/models/digits"
LINK = re.compile(r"""(?:src|href|url)(?:=|: )["']([^"'#]+)["']""")


def client_of(service, address="127.0.0.1"):
    return testclient.TestClient(make_app(service), base_url="http://localhost", client=(address, 50_000))


def links(client, path, asked, **options):
    """The addresses to which a page leads that a browser has got from ``path`` of the server, asking for ``asked``."""
    page = client.get(path, **options)
    assert page.status_code == 200
    return [urljoin(asked, link) for link in LINK.findall(page.text) if not link.startswith("data:")]


def test_a_connection_is_kept_for_longer_than_a_proxy_keeps_it():
    # Else the proxy sends a request to a connection that is being closed, and its client gets a 502.
    assert Serve().keep_alive_seconds > PROXY_SECONDS


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_links_lead_back_where_a_proxy_takes_its_path_away_and_says_nothing(client, path):
    found = links(client, path, PREFIX + path)
    assert len(found) >= 4
    for link in found:
        assert link.startswith(f"{PREFIX}/")
        assert client.get(link.removeprefix(PREFIX)).status_code == 200, link


@pytest.mark.parametrize("asked", [PREFIX, f"{PREFIX}/", f"{PREFIX}/docs"])
@pytest.mark.parametrize("way", ["setting", "header"])
def test_links_lead_back_where_a_proxy_leaves_its_path(make_service, asked, way):
    service = make_service(root_path=f"{PREFIX}/") if way == "setting" else make_service()
    options = {} if way == "setting" else {"headers": {"x-forwarded-prefix": PREFIX}}
    with client_of(service) as client:
        found = links(client, asked, asked, **options)
        assert len(found) >= 4
        for link in found:
            assert link.startswith(f"{PREFIX}/")
            assert client.get(link, **options).status_code == 200, link
        assert client.post(f"{PREFIX}/v1/predict", files={"images": png(20)}, **options).status_code == 200


def test_a_page_without_the_slash_at_the_end_of_the_proxys_path_has_its_links_too(make_service):
    with client_of(make_service()) as client:
        found = links(client, "/", PREFIX, headers={"x-forwarded-prefix": PREFIX})
    assert all(link.startswith(f"{PREFIX}/") for link in found)


def test_the_apis_description_leads_back_too(client):
    (server,) = client.get("/openapi.json").json()["servers"]
    assert urljoin(f"{PREFIX}/openapi.json", server["url"]) == f"{PREFIX}/"


@pytest.mark.parametrize("said", ['/"><script>', "//attacker.example", "/a b", "models", "https://attacker.example"])
def test_a_prefix_that_is_no_path_is_none(make_service, said):
    with client_of(make_service()) as client:
        assert client.get("/", headers={"x-forwarded-prefix": said}).text == client.get("/").text


def test_only_trusted_proxies_are_believed(make_service, caplog):
    caplog.set_level(logging.INFO, "darkroom.serving")
    service = make_service(trusted_proxies=["10.0.0.0/8"])
    said = {"x-forwarded-prefix": PREFIX, "x-forwarded-for": "192.0.2.1"}
    for address, is_believed in (("10.1.2.3", True), ("127.0.0.1", False)):
        caplog.clear()
        with client_of(service, address) as client:
            found = client.get("/", headers=said).text
        assert (PREFIX in found) == is_believed
        assert caplog.records[-1].getMessage().startswith(f"{'192.0.2.1' if is_believed else address} GET / 200")


@pytest.mark.parametrize("before", ["", PREFIX, PREFIX + PREFIX, f"{PREFIX}/"])
def test_no_prefix_leads_around_the_key(make_service, before):
    with TestClient(make_app(make_service(root_path=PREFIX), "a key")) as client:
        assert client.get(f"{before}/v1/model").status_code in (401, 404)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("root_path", "models"),
        ("root_path", "/a b"),
        ("root_path", "//a"),
        ("trusted_proxies", ["proxy"]),
        ("trusted_proxies", ["10.0.0.1/8"]),
    ],
)
def test_what_is_no_path_and_no_network_is_refused_as_a_setting(make_service, setting, value):
    with pytest.raises(ValueError, match=setting):
        make_service(**{setting: value})


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics", "/docs", "/v1/model", "/static/main.js"])
def test_who_asks_for_the_head_alone_gets_it(client, path):
    whole, head = client.get(path), client.head(path)
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["content-type"] == whole.headers["content-type"]


def test_a_prediction_has_no_head(client):
    assert client.head("/v1/predict").status_code == 405
