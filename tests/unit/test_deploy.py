"""The server of a team: its containers, which no test here can start, and what finds PostgreSQL without them."""

import re
import subprocess
from pathlib import Path

import pytest
from deploy import postgresql
from deploy.postgresql import PostgreSQL, programs
from ruamel.yaml import YAML

from darkroom.errors import TrackingError

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?P<rest>[^}]*)\}")


@pytest.fixture(scope="module")
def services():
    return YAML(typ="safe").load(DEPLOY / "compose.yaml")["services"]


def variables():
    return {found["name"]: found["rest"] for found in VARIABLE.finditer((DEPLOY / "compose.yaml").read_text())}


def example():
    lines = (DEPLOY / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


# --- the containers ----------------------------------------------------------------------------------


def test_the_example_names_every_variable_and_no_other():
    assert example().keys() == variables().keys()


def test_a_password_has_no_default_and_without_one_nothing_starts():
    secrets = {name: rest for name, rest in variables().items() if re.search("PASSWORD|SECRET|KEY", name)}
    assert len(secrets) == 6
    for name, rest in secrets.items():
        assert rest.startswith(":?"), name
        assert example()[name] == ""


def test_no_service_is_given_a_password_that_is_written_down(services):
    for service in services.values():
        for key, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|(?<!_PUBLIC)_KEY", key):
                assert VARIABLE.fullmatch(value), key
            assert not re.search(r"://[^/]*:[^/]*@", value), f"{key}: an address with a password"


def test_ports_are_bound_to_loopback_and_that_of_the_files_to_none(services):
    published = {name: service.get("ports", []) for name, service in services.items()}
    assert published["s3"] == []
    for port in [*published["postgres"], *published["mlflow"]]:
        assert port.startswith("${BIND:-127.0.0.1}:")
    assert example()["BIND"] == "127.0.0.1"


def test_every_service_is_watched_started_again_and_pinned(services):
    for name, service in services.items():
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert service["restart"] == "unless-stopped", name
        assert re.search(r":v?\d+\.\d+", service["image"]), name


def test_what_is_kept_lies_in_volumes(services):
    declared = YAML(typ="safe").load(DEPLOY / "compose.yaml")["volumes"].keys()
    mounted = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])}
    assert declared <= mounted
    for place in mounted - declared:
        assert (DEPLOY / place).exists(), place


def test_mlflow_asks_for_passwords_and_files_go_through_it(services):
    assert {"--app-name=basic-auth", "--serve-artifacts", "--artifacts-destination=s3://mlflow"} <= {
        *services["mlflow"]["command"]
    }
    assert "mkdir -p /data/mlflow" in services["s3"]["entrypoint"][-1]


def pinned(path):
    """The packages in a lock file with their versions: some have one for older Pythons and one for newer."""
    return set(re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / path).read_text(), re.MULTILINE))


def test_the_image_holds_the_versions_that_are_tested(services):
    locked, image = pinned("requirements.lock"), pinned("deploy/requirements.lock")
    names = {name for name, _ in locked}
    common = {(name, version) for name, version in image if name in names}
    assert {"mlflow", "psycopg2-binary", "sqlalchemy"} <= {name for name, _ in common}
    assert common <= locked
    assert services["mlflow"]["image"] == f"darkroom/mlflow:{dict(locked)['mlflow']}"


@pytest.mark.parametrize("path", ["Dockerfile", "deploy/Dockerfile"])
def test_an_image_is_based_on_a_digest_and_installs_by_hash(path):
    text = (ROOT / path).read_text()
    assert re.search(r"^FROM [\w:.-]+@sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    for command in re.findall(r"pip install .*", text):
        assert "--require-hashes" in command or "--no-deps --no-build-isolation ." in command


def test_git_ignores_what_holds_passwords():
    ignored = subprocess.run(
        ["git", "check-ignore", "deploy/.env", ".server/password"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ignored.stdout.split() == ["deploy/.env", ".server/password"]


# --- without containers ------------------------------------------------------------------------------


def fake(place, version):
    place.mkdir(parents=True)
    (place / "initdb").write_text(f"#!/bin/sh\necho 'initdb (PostgreSQL) {version} (Debian)'\n")
    (place / "initdb").chmod(0o755)
    place.chmod(0o755)
    return place


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Two PostgreSQL; whoever runs the tests runs them."""
    monkeypatch.setattr(postgresql, "other_owner", lambda: None)
    found = [fake(tmp_path / "17", "17.2"), fake(tmp_path / "15", "15.9")]
    monkeypatch.setattr(postgresql, "_places", lambda: [tmp_path / "gone", *found])
    return found


def test_the_first_postgresql_that_runs_is_taken(places):
    assert programs() == places[0]


def test_data_of_an_older_postgresql_is_given_that_one(places, tmp_path):
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("15\n")
    assert PostgreSQL(tmp_path, 1, "x")._programs == places[1]


def test_data_of_a_postgresql_that_is_gone_is_one_line(places, tmp_path):
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("12\n")
    with pytest.raises(TrackingError, match=r"^PostgreSQL 12, which has made the data, is not installed here; .*\Z"):
        PostgreSQL(tmp_path, 1, "x")


def test_no_postgresql_is_one_line_that_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(postgresql, "_places", list)
    with pytest.raises(TrackingError, match=r"^PostgreSQL is not installed here; .*apt-get install postgresql.*\Z"):
        programs()


def test_a_directory_that_cannot_be_set_up_is_one_line(tmp_path):
    try:
        made = PostgreSQL(tmp_path, 1, "")  # initdb takes no empty password
    except TrackingError as problem:
        pytest.skip(str(problem))
    with pytest.raises(TrackingError, match=r"^initdb cannot set up .*\Z"):
        made.start()
    assert not made.data.exists()


# --- the image of the server --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def image():
    """The instructions of the Dockerfile as (name, rest), in order."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line and not line.startswith("#")]


def test_the_server_in_the_image_has_no_root_rights_and_is_watched(image):
    names = [name for name, _ in image]
    assert dict(image)["USER"] not in ("root", "0")
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert "/readyz" in dict(image)["HEALTHCHECK"]
    assert dict(image)["ENTRYPOINT"] == '["darkroom", "serve"]'


def test_the_image_holds_what_is_locked_and_takes_all_it_copies_from_the_context(image):
    assert "--require-hashes --requirement requirements-serve.lock" in dict(image)["RUN"]
    serving, locked = pinned("requirements-serve.lock"), pinned("requirements.lock")
    assert {"torch", "fastapi", "onnxruntime", "setuptools"} <= dict(serving).keys()
    assert serving <= locked
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {name for kind, rest in image if kind == "COPY" for name in rest.split()[:-1]}
    assert copied == sent
    assert all((ROOT / name).exists() for name in copied)


def test_nothing_else_than_what_is_copied_is_sent_to_the_builder():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert next(line for line in lines if not line.startswith("#")) == "*"
