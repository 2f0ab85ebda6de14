"""The challenger on live traffic: what it is given, what is counted and kept of it, and what nobody notices of it."""

import json
import threading
from hashlib import blake2b

import numpy as np
import pytest
from tests.serving.client import TestClient
from tests.serving.fakes import brightness, make_loaded, png, sets_of
from tests.unit.refusals import refused
from tests.wait import wait_until

from darkroom.errors import ServingError
from darkroom.inbox.store import read_inbox
from darkroom.serving import disagreements, schemas, shadow
from darkroom.serving.app import make_app
from darkroom.serving.disagreements import Disagreement, DisagreementLog, check_log

DARK, BRIGHT = png(20), png(240)


def contrary(images):
    """Answers bright for dark and dark for bright."""
    return brightness(images)[:, ::-1]


@pytest.fixture(autouse=True)
def no_rest(monkeypatch):
    monkeypatch.setattr(shadow, "REST", 0)
    monkeypatch.setattr(shadow, "LOOK_SECONDS", 0.0)


@pytest.fixture
def shadowed(make_service):
    """A service whose challenger answers every request too, with the opposite."""
    service = make_service(shadow=1.0)
    service.show_challenger(make_loaded("2", infer=contrary), None)
    return service


@pytest.fixture
def asked(shadowed):
    with TestClient(make_app(shadowed)) as asked:
        yield asked


def ask(client, *contents, query=""):
    answer = client.post(f"/v1/predict{query}", files=[("images", each) for each in contents])
    assert answer.status_code == 200
    return answer.json()


def report(client):
    return schemas.Shadow.model_validate(client.get("/v1/shadow").json())


def wait_for(client, **counts):
    """The report, as soon as it has these counts."""

    def found():
        told = report(client)
        return told if {name: getattr(told, name) for name in counts} == counts else None

    return wait_until(found, f"the challenger was counted: {counts}")


def test_the_champion_answers_and_the_challenger_is_counted_and_its_other_answers_are_kept(asked):
    found = ask(asked, DARK, BRIGHT)
    assert (found["version"], found["challenger"]) == ("1", None)
    assert [each["label"] for each in found["predictions"]] == ["dark", "bright"]
    ask(asked, DARK)

    told = wait_for(asked, images=3)
    assert (told.name, told.champion.version, told.challenger.version) == ("shades", "1", "2")
    assert (told.different, told.failed, told.dropped, told.share) == (3, 0, 0, 1.0)
    kept = {each.digest: (each.champion, each.challenger) for each in told.disagreements}
    digests = [blake2b(bytes([shade]) * 16, digest_size=16).hexdigest() for shade in (20, 240)]  # of 4x4 pixels
    assert kept == {digests[0]: ("dark", "bright"), digests[1]: ("bright", "dark")}
    assert len(told.disagreements) == 2  # the same picture is one
    metrics = asked.get("/metrics").text.splitlines()
    for line in (
        'darkroom_shadow_images_total{challenger="2",champion="1",outcome="different"} 3.0',
        'darkroom_shadow_seconds_count{challenger="2",champion="1"} 3.0',
        "darkroom_shadow_dropped_total 0.0",
        'darkroom_predictions_total{label="dark",version="1"} 2.0',
    ):
        assert line in metrics
    assert not any('darkroom_predictions_total{label="bright",version="2"}' in line for line in metrics)


def test_pictures_with_two_answers_are_put_into_the_inbox_by_the_digest_that_is_listed(make_service, tmp_path):
    service = make_service(shadow=1.0, inbox=str(tmp_path / "inbox"))
    service.show_challenger(make_loaded("2", infer=contrary), None)
    with TestClient(make_app(service)) as client:
        ask(client, DARK)
        (listed,) = wait_for(client, images=1).disagreements
        kept = wait_until(lambda: read_inbox(tmp_path / "inbox")[0], "the picture was kept")
        service.show_challenger(make_loaded("3"), None)
        ask(client, BRIGHT)
        wait_for(client, images=1)  # with equal answers
    (record,) = [each.record for each in kept]
    assert (record.digest, record.reason) == (listed.digest, "disputed")
    assert (record.version, record.answer, record.label) == ("1", "dark", None)
    assert len(read_inbox(tmp_path / "inbox")[0]) == 1


def test_the_sizes_of_both_prediction_sets_are_of_the_same_pictures(make_service):
    service = make_service(make_loaded(sets=sets_of(0.0)), shadow=1.0)  # every label is in the champion's
    service.show_challenger(make_loaded("2", sets=sets_of(2.0)), None)  # and none in the challenger's
    with TestClient(make_app(service)) as client:
        assert report(client).champion.set_size is None  # of no picture yet
        ask(client, DARK, BRIGHT)
        told = wait_for(client, images=2)
        assert (told.champion.set_size, told.challenger.set_size) == (2.0, 0.0)
        service.show_challenger(make_loaded("3"), None)  # a version without sets
        ask(client, DARK)
        told = wait_for(client, images=1)
        assert (told.champion.set_size, told.challenger.set_size) == (None, None)


def test_equal_answers_are_counted_and_not_kept(shadowed, asked):
    shadowed.show_challenger(make_loaded("2"), None)
    ask(asked, DARK, BRIGHT)
    assert wait_for(asked, images=2).different == 0
    assert report(asked).disagreements == []


def test_it_sees_a_picture_as_the_request_wants_it(shadowed, asked):
    shadowed.show_challenger(make_loaded("2"), None)
    ask(asked, DARK, query="?invert=true")
    assert wait_for(asked, images=1).different == 0  # both have seen the negative


def test_without_a_challenger_nothing_happens(shadowed, asked):
    shadowed.show_challenger(None, None)
    ask(asked, DARK)
    told = report(asked)
    assert (told.challenger, told.images, told.dropped) == (None, 0, 0)


def test_without_the_setting_nothing_is_given_to_it(make_service):
    service = make_service()
    service.show_challenger(make_loaded("2"), None)
    with TestClient(make_app(service)) as client:
        ask(client, DARK)
        told = client.get("/v1/shadow")
        assert told.status_code == 404
        assert told.json()["detail"] == "serve.shadow is 0: the challenger is not given live traffic"
        assert 'outcome="' not in client.get("/metrics").text


def test_a_share_of_the_requests_is_chosen(make_service):
    service = make_service(shadow=0.1)
    service.show_challenger(make_loaded("2"), None)
    chosen = sum(service.shadow.chooses() for _ in range(10_000))
    assert 700 < chosen < 1_300  # ten standard deviations


def broken(images):
    raise RuntimeError("no memory\nand more")


def nowhere(images):
    return np.full((len(images), 2), np.nan, np.float32)


@pytest.mark.parametrize(("infer", "why"), [(broken, "no memory"), (nowhere, "its logits are not finite")])
def test_a_challenger_that_crashes_fails_no_request_and_is_told_once(shadowed, asked, caplog, infer, why):
    shadowed.show_challenger(make_loaded("2", infer=infer), None)
    for _ in range(5):
        assert ask(asked, DARK)["version"] == "1"
    told = wait_for(asked, failed=5)
    assert (told.images, told.disagreements) == (0, [])
    said = [each.getMessage() for each in caplog.records if "challenger" in each.getMessage()]
    assert said == [f"version 2, the challenger, cannot answer ({why})"]

    shadowed.show_challenger(make_loaded("3", infer=contrary), None)
    ask(asked, DARK)
    told = wait_for(asked, images=1)
    assert (told.challenger.version, told.failed, len(told.disagreements)) == ("3", 0, 1)


def test_the_next_pictures_are_the_new_challengers_and_each_pair_has_its_own_answers(shadowed, asked):
    ask(asked, DARK)
    wait_for(asked, images=1)
    shadowed.show_challenger(make_loaded("3"), None)
    ask(asked, BRIGHT)
    told = wait_for(asked, images=1)
    assert (told.challenger.version, told.different, told.disagreements) == ("3", 0, [])

    shadowed.show_challenger(make_loaded("2", infer=contrary), None)
    assert len(report(asked).disagreements) == 1  # of the first pair, which is there again


def test_a_challenger_that_was_promoted_is_not_compared_with_itself(shadowed, asked):
    shadowed.serve(make_loaded("2"), None)
    ask(asked, DARK)
    shadowed.show_challenger(make_loaded("3"), None)
    ask(asked, DARK)
    wait_for(asked, images=1)
    assert 'challenger="2",champion="2"' not in asked.get("/metrics").text


def test_pictures_are_dropped_while_too_many_wait_and_nobody_is_refused(shadowed, asked, monkeypatch):
    monkeypatch.setattr(shadow, "MAX_IMAGES", 2)
    goes_on = threading.Event()

    def held(images):
        goes_on.wait()
        return brightness(images)

    shadowed.show_challenger(make_loaded("2", infer=held), None)
    try:
        ask(asked, DARK)
        wait_until(lambda: not shadowed.shadow._waiting, "the challenger has taken the first")
        for _ in range(5):
            ask(asked, DARK)
        assert report(asked).dropped == 3
    finally:
        goes_on.set()
    assert wait_for(asked, images=3).dropped == 3


def test_it_is_given_nothing_while_a_request_is_answered(shadowed, asked):
    shadowed._traffic.under_way += 1
    ask(asked, DARK)
    ask(asked, BRIGHT)
    assert len(shadowed.shadow._waiting) == 2
    assert report(asked).images == 0
    shadowed._traffic.under_way -= 1
    wait_for(asked, images=2)


def test_for_each_request_that_met_it_it_rests_for_many(shadowed, asked, monkeypatch):
    monkeypatch.setattr(shadow, "REST", 10)
    goes_on, works = threading.Event(), threading.Event()

    def held(images):
        works.set()
        goes_on.wait()
        return brightness(images)

    shadowed.show_challenger(make_loaded("2", infer=held), None)
    try:
        ask(asked, DARK)
        works.wait()
        ask(asked, BRIGHT)  # meets it
        ask(asked, BRIGHT)
    finally:
        goes_on.set()
    wait_for(asked, images=1)
    for _ in range(19):
        ask(asked, DARK)
    assert report(asked).images == 1
    ask(asked, DARK)
    wait_for(asked, images=23)  # none of them met it


# --- the file -----------------------------------------------------------------------------------------------


def row(number, challenger="2"):
    return Disagreement(f"{number:032x}", "shades", "1", challenger, "dark", "bright", "2026-01-01T00:00:00+00:00")


def test_all_processes_append_to_a_file_that_outlives_them(tmp_path):
    file = tmp_path / "log"
    first, second = DisagreementLog(file), DisagreementLog(file)
    first.append(row(1))
    second.append(row(2))
    second.append(row(1))  # answered here too
    first.append(row(1, challenger="3"))
    for each in (first, second, DisagreementLog(file)):
        assert each.read("shades", "1", "2") == [row(1), row(2)]
    assert (file.stat().st_mode & 0o777) == 0o600
    assert not first.read("others", "1", "2")


def test_a_picture_that_was_kept_before_a_restart_is_not_written_again(tmp_path):
    file = tmp_path / "log"
    DisagreementLog(file).append(row(1))
    restarted = DisagreementLog(file)
    restarted.append(row(1))
    restarted.append(row(2))
    assert len(file.read_text().splitlines()) == 2


def test_damaged_lines_are_passed_over(tmp_path):
    file = tmp_path / "log"
    DisagreementLog(file).append(row(1))
    with file.open("ab") as opened:
        opened.write(b'{"digest": "half a li\n[]\n\xff\n{"other": 1}\n')
    DisagreementLog(file).append(row(2))
    assert DisagreementLog(file).read("shades", "1", "2") == [row(1), row(2)]


def test_a_full_file_grows_no_more_and_is_told_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(disagreements, "MAX_BYTES", 500)
    log = DisagreementLog(tmp_path / "log")
    for number in range(9):
        log.append(row(number))
    assert len(log.read("shades", "1", "2")) == 2
    assert (tmp_path / "log").stat().st_size <= 500
    assert len(caplog.records) == 1


def test_a_disk_without_room_fails_no_request(shadowed, asked, monkeypatch, caplog):
    def full(descriptor, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("darkroom.serving.disagreements.os.write", full)
    ask(asked, DARK)
    ask(asked, BRIGHT)
    assert wait_for(asked, images=2, different=2).disagreements == []
    assert sum("only counted from now on (No space left on device)" in each.message for each in caplog.records) == 1


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_loaded(tmp_path, project, darkroom):
    project(serve__shadow=0.1, serve__shadow_log=str(tmp_path))
    refused(darkroom("serve", "--port", "0"), rf"serve\.shadow_log: {tmp_path}: is a directory; name a file that can")
    with pytest.raises(ServingError, match="no such file or directory"):
        check_log(tmp_path / "none" / "log")


def test_what_is_kept_holds_nothing_of_who_asked(make_service, tmp_path):
    file = tmp_path / "log"
    service = make_service(shadow=1.0, shadow_log=str(file))
    service.show_challenger(make_loaded("2", infer=contrary), None)
    with TestClient(make_app(service)) as client:
        client.post("/v1/predict", files={"images": ("private-name.png", DARK)})
        wait_until(lambda: file.read_text(), "the answer was kept")
    assert json.loads(file.read_text()).keys() == set(Disagreement.__dataclass_fields__)
    assert "private" not in file.read_text()
