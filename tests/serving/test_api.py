"""The API over HTTP: what is answered, and what is refused with which words."""

import asyncio
import io
import json
from base64 import b64decode, b64encode, encodebytes, urlsafe_b64encode
from dataclasses import replace

import httpx2
import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax
from tests.serving.client import TestClient
from tests.serving.fakes import CLASSES, REFERENCE, brightness, make_loaded, png, sets_of

from darkroom.serving import schemas
from darkroom.serving.app import make_app
from darkroom.serving.preprocessing import Options

DARK = png(20)
BRIGHT = png(240)


def files(*contents):
    return [("images", (f"{number}.png", content, "image/png")) for number, content in enumerate(contents)]


def encoded(*contents):
    return {"images": [b64encode(content).decode() for content in contents]}


def pixels_of(data_url):
    header, _, content = data_url.partition(",")
    assert header == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(b64decode(content))))


def test_files_and_base64_and_data_urls_get_the_same_answers_in_their_order(client):
    as_files = client.post("/v1/predict", files=files(DARK, BRIGHT, DARK)).json()
    as_json = client.post("/v1/predict", json=encoded(DARK, BRIGHT, DARK)).json()
    urls = {"images": [f"data:image/png;base64,{text}" for text in encoded(DARK, BRIGHT, DARK)["images"]]}

    assert [each["label"] for each in as_files["predictions"]] == ["dark", "bright", "dark"]
    assert as_json == as_files == client.post("/v1/predict", json=urls).json()
    assert schemas.Predictions.model_validate(as_files).version == "1"


@pytest.mark.parametrize("query", ["", "?seen=true&challenger=true&top_k=1&explain=true"])
@pytest.mark.parametrize("logit", [1e-7, 1 / 3, 30.0, 1e22])
def test_an_answer_is_what_its_schema_writes(make_service, query, logit):
    def infer(images):
        return np.tile(np.array([logit, 0], np.float32), (len(images), 1))

    service = make_service(make_loaded(infer=infer))
    service.show_challenger(make_loaded("2"), None)
    with TestClient(make_app(service)) as client:
        answer = client.post(f"/v1/predict{query}", files=files(DARK, BRIGHT)).text

    assert schemas.Predictions.model_validate_json(answer).model_dump_json() == answer


@pytest.mark.parametrize(
    "spell",
    [
        lambda content: encodebytes(content).decode(),
        lambda content: encodebytes(content).decode().replace("\n", "\r\n"),
        lambda content: urlsafe_b64encode(content).decode(),
        lambda content: b64encode(content).decode().rstrip("="),
        lambda content: urlsafe_b64encode(content).decode().rstrip("="),
        lambda content: f"data:image/png;base64,{encodebytes(content).decode()}",
    ],
    ids=["lines", "CRLF", "for URLs", "unpadded", "for URLs, unpadded", "data URL in lines"],
)
def test_base64_as_programs_write_it_is_read(client, spell):
    noise = np.random.default_rng(0).integers(0, 256, (9, 9), dtype=np.uint8)
    for count in range(3):  # every padding
        written = io.BytesIO()
        Image.fromarray(noise).save(written, "PNG")
        written.write(b"\xfb\xff" + bytes(count))
        assert {"+", "/"} <= set(b64encode(written.getvalue()).decode())
        expected = client.post("/v1/predict", files=files(written.getvalue())).json()
        found = client.post("/v1/predict", json={"images": [spell(written.getvalue())]})
        assert found.json() == expected


def test_probabilities_are_calibrated_and_the_most_probable_come_first(client):
    found = client.post("/v1/predict?top_k=2", files=files(DARK)).json()["predictions"][0]
    logits = brightness(np.full((1, 1, 4, 4), 20, np.uint8))[0]
    expected = dict(zip(CLASSES, softmax(logits / REFERENCE.temperature), strict=True))

    assert found["probabilities"] == pytest.approx(expected, rel=1e-5)
    assert found["probability"] == found["probabilities"]["dark"] == max(found["probabilities"].values())
    assert [score["label"] for score in found["top"]] == ["dark", "bright"]


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (2, 2), (50, 2)])
def test_as_many_classes_come_back_as_were_asked_for_and_there_are(client, top_k, count):
    found = client.post(f"/v1/predict?top_k={top_k}", files=files(DARK)).json()["predictions"][0]

    assert len(found["top"]) == count


def test_an_image_between_the_classes_is_told_to_be_unlike_the_training_images(client):
    found = client.post("/v1/predict", files=files(DARK, png(128))).json()["predictions"]

    assert [each["unlike_training"] for each in found] == [False, True]
    assert found[0]["energy"] < REFERENCE.energy_threshold < found[1]["energy"]


@pytest.mark.parametrize(
    ("threshold", "gray", "counted"),
    [
        (0.1, ["bright", "dark"], {"one": 2.0, "several": 1.0}),  # of scores of about 0.64 and 0.14
        (0.5, ["bright"], {"one": 3.0}),
        (0.7, [], {"none": 1.0, "one": 2.0}),
    ],
)
def test_an_answer_has_its_prediction_set_and_the_server_counts_them(make_service, threshold, gray, counted):
    with TestClient(make_app(make_service(make_loaded(sets=sets_of(threshold))))) as client:
        found = client.post("/v1/predict", files=files(DARK, BRIGHT, png(128))).json()
        told = client.get("/metrics").text.splitlines()
        drift, card = client.get("/v1/drift").json(), client.get("/v1/model").json()

    schemas.Predictions.model_validate(found)
    assert [each["prediction_set"] for each in found["predictions"]] == [["dark"], ["bright"], gray]
    lines = [line for line in told if line.startswith("darkroom_prediction_sets_total")]
    assert sorted(lines) == [
        f'darkroom_prediction_sets_total{{labels="{labels}",version="1"}} {images}'
        for labels, images in counted.items()
    ]
    assert (drift["set_size"], drift["expected_set_size"]) == (pytest.approx((2 + len(gray)) / 3), 1.1)
    assert f"darkroom_drift_set_size {drift['set_size']}" in told
    assert card["coverage"] == 0.95


def test_a_version_without_prediction_sets_answers_without_them(client):
    (found,) = client.post("/v1/predict", files=files(DARK)).json()["predictions"]
    assert found["prediction_set"] is None
    assert client.get("/v1/model").json()["coverage"] is None
    assert client.get("/v1/drift").json()["set_size"] is None
    assert "darkroom_prediction_sets_total{" not in client.get("/metrics").text


def test_a_version_without_a_reference_answers_uncalibrated_and_calls_nothing_unlike(make_service):
    service = make_service(make_loaded(reference=None))
    with TestClient(make_app(service)) as client:
        found = client.post("/v1/predict", files=files(png(128))).json()["predictions"][0]
        assert found["unlike_training"] is False
        assert found["probabilities"] == pytest.approx({"dark": 0.49, "bright": 0.51}, abs=0.02)
        assert client.get("/v1/model").json()["temperature"] is None
        refused = client.get("/v1/drift")
        assert (refused.status_code, refused.json()["detail"][:7]) == (404, "this ve")
        assert client.get("/metrics").status_code == 200


def test_what_the_model_saw_comes_back_pixel_by_pixel(client):
    shades = np.arange(16, dtype=np.uint8).reshape(4, 4) * 16
    written = io.BytesIO()
    Image.fromarray(shades).save(written, "PNG")
    plain, negative = (
        client.post(f"/v1/predict?seen=true&invert={invert}", files=files(written.getvalue())).json()
        for invert in ("false", "true")
    )

    assert np.array_equal(pixels_of(plain["predictions"][0]["seen"]), shades)
    assert np.array_equal(pixels_of(negative["predictions"][0]["seen"]), 255 - shades)
    assert [each["predictions"][0]["inverted"] for each in (plain, negative)] == [False, True]


def test_what_the_model_saw_is_not_sent_unless_asked_for(client):
    assert client.post("/v1/predict", files=files(DARK)).json()["predictions"][0]["seen"] is None


def test_the_challenger_answers_beside_the_champion_where_it_is_asked(service, client):
    service.show_challenger(make_loaded("2", infer=lambda images: -brightness(images)), "refused: better")
    both = client.post("/v1/predict?challenger=true", files=files(DARK)).json()

    assert (both["version"], both["predictions"][0]["label"]) == ("1", "dark")
    assert (both["challenger"]["version"], both["challenger"]["predictions"][0]["label"]) == ("2", "bright")
    assert client.post("/v1/predict", files=files(DARK)).json()["challenger"] is None
    service.show_challenger(None, None)
    assert client.post("/v1/predict?challenger=true", files=files(DARK)).json()["challenger"] is None


def test_the_next_request_is_answered_by_the_new_champion(service, client):
    service.serve(make_loaded("2", infer=lambda images: -brightness(images)), None)
    found = client.post("/v1/predict", files=files(DARK)).json()

    assert (found["version"], found["predictions"][0]["label"]) == ("2", "bright")
    assert client.get("/readyz").json()["version"] == client.get("/v1/model").json()["version"] == "2"


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        ({}, 415, "send images as multipart/form-data files, or as application/json"),
        ({"content": DARK, "headers": {"content-type": "image/png"}}, 415, "send images as"),
        ({"json": {"images": []}}, 422, "at least 1 item"),
        ({"json": {"pictures": ["x"]}}, 422, "images: Field required"),
        ({"json": {"images": ["x"], "more": 1}}, 422, "more: Extra inputs"),
        ({"json": {"images": [None]}}, 422, "images.0: Input should be a valid string"),
        ({"json": {"images": ["?"]}}, 422, "images.0: not base64"),
        ({"json": {"images": [""]}}, 422, "an image is empty"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 422, "Invalid JSON"),
        (
            {"data": {"top_k": "1"}, "files": files(DARK)},
            422,
            "top_k: not a file; parameters belong in the address",
        ),
        ({"data": {"images": "text"}, "files": files(DARK)}, 422, "files are sent as in `curl -F images=@FILE`"),
        ({"data": {f"f{n}": "x" for n in range(17)}, "files": files(DARK)}, 400, "Too many fields"),
        ({"json": {"images": ["x"], "top_k": 1}}, 422, "and parameters in the address, as in /v1/predict?top_k=1"),
        ({"json": {"images": ["a-/_+?"]}}, 422, "images.0: not base64"),
        ({"json": {"images": ["aaaaa"]}}, 422, "images.0: not base64"),
        ({"files": files(b"")}, 422, "an image is empty"),
        ({"files": files(DARK, b"text")}, 422, "image 2: not an image"),
        ({"files": files(DARK), "params": {"top_k": "0"}}, 422, "top_k: Input should be greater"),
        ({"files": files(DARK), "params": {"invert": "maybe"}}, 422, "invert"),
        ({"files": files(DARK), "params": {"topk": "3"}}, 422, "topk: Extra inputs"),
        ({"content": b"no parts", "headers": {"content-type": "multipart/form-data"}}, 400, "boundary"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_one_line(client, request_, status, words):
    refused = client.post("/v1/predict", **request_)

    assert refused.status_code == status
    assert words in refused.json()["detail"]
    assert "\n" not in refused.json()["detail"]
    assert client.post("/v1/predict", files=files(DARK)).status_code == 200


@pytest.mark.parametrize("way", ["files", "json"])
def test_more_images_than_a_request_may_hold_are_refused(make_service, way):
    with TestClient(make_app(make_service(max_images=3))) as client:
        few, many = ({way: (files if way == "files" else encoded)(*[DARK] * count)} for count in (3, 4))
        assert client.post("/v1/predict", **few).status_code == 200
        refused = client.post("/v1/predict", **many)
    assert refused.status_code in (400, 413)
    assert "3" in refused.json()["detail"]


def test_more_bytes_than_a_request_may_hold_are_refused_whether_announced_or_not(make_service):
    with TestClient(make_app(make_service(max_request_mb=0.001))) as client:
        announced = client.post("/v1/predict", json=encoded(bytes(2000)))
        chunks = client.post(
            "/v1/predict", content=iter([b" " * 600] * 3), headers={"content-type": "application/json"}
        )
    for refused in (announced, chunks):
        assert refused.status_code == 413
        assert refused.json()["detail"] == "the request is larger than 0.001 MB, the most that is read"


def test_an_image_of_too_many_pixels_is_refused(make_service):
    with TestClient(make_app(make_service(max_pixels=10_000))) as client:
        assert client.post("/v1/predict", files=files(png(9, (100, 100)))).status_code == 200
        refused = client.post("/v1/predict", files=files(png(9, (100, 101))))
    assert refused.status_code == 422
    assert "10,000" in refused.json()["detail"]


def test_a_large_image_is_answered_as_a_small_one(client):
    found = client.post("/v1/predict", files=files(png(20, (2000, 1500)), DARK)).json()["predictions"]

    assert found[0]["probabilities"] == pytest.approx(found[1]["probabilities"])


def test_a_full_queue_answers_503_and_when_to_come_back_and_nobody_who_waits_is_lost(make_service):
    """Two images wait for a model that is held up; a third has no place, and neither has readiness."""
    service = make_service(queue=2, max_images=2)
    deployment = service.champion

    async def ask():
        held = asyncio.Event()
        answer = deployment.batcher.answer

        async def held_up(preparing):
            await held.wait()
            return await answer(preparing)

        deployment.batcher.answer = held_up
        waiting = [asyncio.create_task(service.answer(deployment, [DARK], Options())) for _ in range(2)]
        await asyncio.sleep(0)
        transport = httpx2.ASGITransport(make_app(service))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            refused = await client.post("/v1/predict", files=files(DARK))
            ready = await client.get("/readyz")
            held.set()
            answers = await asyncio.gather(*waiting)
            return refused, ready, answers, await client.post("/v1/predict", files=files(DARK))

    refused, ready, answers, later = asyncio.run(ask())
    for each in (refused, ready):
        assert each.status_code == 503
        assert int(each.headers["retry-after"]) >= 1
    assert len(answers) == 2
    assert later.status_code == 200


def test_a_request_that_was_long_on_its_way_is_answered_by_who_is_champion_then(service):
    """The champion changes between the first and the last byte of a request."""

    async def ask():
        async def body():
            whole = json.dumps(encoded(DARK)).encode()
            yield whole[:20]
            service.serve(make_loaded("2"), None)
            yield whole[20:]

        transport = httpx2.ASGITransport(make_app(service))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post("/v1/predict", content=body(), headers={"content-type": "application/json"})

    assert asyncio.run(ask()).json()["version"] == "2"


def test_answers_of_the_challenger_do_not_count_as_the_champions(service, client):
    service.show_challenger(make_loaded("2"), None)
    client.post("/v1/predict?challenger=true", files=files(DARK))
    told = client.get("/metrics").text
    assert 'darkroom_predictions_total{label="dark",version="1"} 1.0' in told
    assert 'darkroom_predictions_total{label="dark",version="2"}' not in told
    assert client.get("/v1/drift").json()["images"] == 1


def test_the_card_tells_what_serves(client):
    card = schemas.ModelInfo.model_validate(client.get("/v1/model").json())

    assert (card.name, card.version, card.champion_since) == ("shades", "1", "2026-02-03T04:05:06+00:00")
    assert card.metrics == {"accuracy": 0.9}
    assert card.temperature == REFERENCE.temperature
    assert card.drawable is False


def test_trouble_and_the_challenger_stand_on_the_card(service, client):
    service.show_challenger(make_loaded("2"), "passed")
    service.report_problem("version 3 is champion, but could not be loaded")
    card = client.get("/v1/model").json()

    assert card["challenger"] == {"version": "2", "metrics": {"accuracy": 0.9}, "verdict": "passed"}
    assert card["trouble"] == "version 3 is champion, but could not be loaded"


def test_the_gallery_and_the_confusion_matrix_are_those_of_the_evaluation(client):
    gallery = client.get("/v1/model/gallery").json()

    assert [(each["actual"], pixels_of(each["image"]).max()) for each in gallery] == [("dark", 0), ("bright", 255)]
    assert client.get("/v1/model/confusion").json() == {"classes": list(CLASSES), "counts": [[9, 1], [1, 9]]}


def test_the_report_is_a_file_to_download_and_missing_where_a_version_has_none(service, client):
    answer = client.get("/v1/model/report")
    assert (answer.status_code, answer.text) == (200, "<title>é</title>")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="evaluation.html"'
    service.serve(replace(make_loaded("2"), report=None), None)
    refused = client.get("/v1/model/report")
    assert (refused.status_code, refused.json()) == (404, {"detail": "this version has no report of its evaluation"})


def test_prometheus_is_told_of_requests_predictions_versions_and_drift(service, client):
    client.post("/v1/predict", files=files(DARK, DARK, png(128)))
    client.post("/v1/predict", files=files(b"text"))
    service.serve(make_loaded("2"), None)
    service.note_registry(answers=True)
    told = client.get("/metrics").text

    for line in (
        'darkroom_requests_total{path="/v1/predict",status="200"} 1.0',
        'darkroom_requests_total{path="/v1/predict",status="422"} 1.0',
        'darkroom_predictions_total{label="dark",version="1"} 2.0',
        'darkroom_unlike_training_total{version="1"} 1.0',
        'darkroom_request_seconds_count{path="/v1/predict"} 2.0',
        "darkroom_batch_images_sum 3.0",
        'darkroom_version{version="2"} 1.0',
        "darkroom_registry_up 1.0",
        "darkroom_champion_trouble 0.0",
        "darkroom_waiting_images 0.0",
        'darkroom_drift_class_share_expected{label="dark"} 0.5',
    ):
        assert line in told.splitlines()
    assert 'darkroom_version{version="1"}' not in told


def test_the_description_of_the_api_names_what_is_taken_and_answered(client):
    described = client.get("/openapi.json").json()
    predict = described["paths"]["/v1/predict"]["post"]

    assert {"application/json", "multipart/form-data"} == predict["requestBody"]["content"].keys()
    assert {"top_k", "invert", "drawn", "seen", "challenger", "explain"} == {
        each["name"] for each in predict["parameters"]
    }
    example = predict["requestBody"]["content"]["application/json"]["example"]
    assert client.post("/v1/predict", json=example).status_code == 200
    assert {"200", "413", "415", "422", "503"} <= predict["responses"].keys()


def test_unknown_paths_and_methods_are_refused_as_everything_else(client):
    for path, method, status in (("/v2", "get", 404), ("/v1/predict", "get", 405), ("/static/no.js", "get", 404)):
        refused = getattr(client, method)(path)
        assert refused.status_code == status
        assert isinstance(refused.json()["detail"], str)


def test_a_mistake_of_ours_is_told_without_its_inside(make_service, caplog):
    def infer(images):
        raise RuntimeError("secret inside")

    with TestClient(make_app(make_service(make_loaded(infer=infer))), raise_server_exceptions=False) as client:
        failed = client.post("/v1/predict", files=files(DARK))
    assert failed.status_code == 500
    assert failed.json() == {"detail": "internal error; the server's log says more"}
    assert json.dumps(failed.json()).find("secret") == -1
