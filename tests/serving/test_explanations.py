"""Heat maps over HTTP: a layer for the image that the model saw, or a line why there is none, and always the answer."""

import asyncio
import io
from base64 import b64decode
from dataclasses import replace
from threading import Event

import numpy as np
import pytest
import torch
from PIL import Image
from tests.serving.client import TestClient
from tests.serving.fakes import make_loaded, png

from darkroom.explanation import explainer
from darkroom.explanation.explainer import Plan
from darkroom.serving import explanations, schemas
from darkroom.serving.app import make_app
from darkroom.serving.explanations import WAITING, Explanations
from darkroom.serving.runtime import Runtime

PATH = "/v1/predict?explain=true"
SHAPE = (1, 8, 8)


def corner(images):
    """Dark or bright, by the upper left corner alone: uint8 [N, 1, 8, 8] to float32 [N, 2]."""
    light = images[:, 0, :4, :4].astype(np.float32).mean((1, 2)) / 255
    return np.stack([1 - light, light], 1) * 10


def picture():
    pixels = np.zeros((8, 8), np.uint8)
    pixels[:4, :4] = 255
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG")
    return written.getvalue()


def layer_of(explanation):
    header, _, content = explanation["heat"].partition(",")
    assert header == "data:image/png;base64"
    image = Image.open(io.BytesIO(b64decode(content)))
    assert image.mode == "RGBA"
    return np.asarray(image)


def files(*contents):
    return [("images", content) for content in contents]


@pytest.fixture
def client(make_service):
    with TestClient(make_app(make_service(make_loaded(infer=corner, shape=SHAPE)))) as client:
        yield client


def test_the_opacity_of_the_layer_is_highest_where_the_model_looked(client):
    reply = client.post(PATH, files=files(picture(), png(240))).json()

    found = reply["predictions"][0]
    heat = layer_of(found["explanation"])[..., 3]
    assert (found["label"], found["explanation"]["method"]) == ("bright", "occlusion")
    assert heat.shape == (8, 8)
    assert heat[:3, :3].min() > 100
    assert (heat.max(), heat[6:].max(), heat[:, 6:].max()) == (255, 0, 0)
    assert len(reply["predictions"]) == 2
    assert schemas.Predictions.model_validate(reply).predictions[1].explanation


def test_there_is_none_unless_it_is_asked_for(client):
    for query in ("", "?explain=false", "?seen=true"):
        assert (
            client.post(f"/v1/predict{query}", files=files(picture())).json()["predictions"][0]["explanation"] is None
        )


def test_an_answer_with_a_heat_map_is_otherwise_the_same(client):
    plain, explained = (
        client.post(path, files=files(picture())).json()["predictions"][0] for path in ("/v1/predict", PATH)
    )

    assert explained | {"explanation": None} == plain


def test_a_model_that_torch_computes_is_explained_by_its_layers(make_service):
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(4, 2),
    )  # fmt: skip
    loaded = make_loaded(infer=corner, shape=SHAPE)
    loaded = replace(loaded, runtime=Runtime("torch", corner, 0.0, lambda images: network(images.float())))
    with TestClient(make_app(make_service(loaded))) as client:
        found = client.post(PATH, files=files(picture())).json()["predictions"][0]["explanation"]

    assert found["method"] == "layer-cam"
    assert layer_of(found).shape == (8, 8, 4)


def test_the_challenger_is_not_explained(make_service):
    service = make_service(make_loaded(infer=corner, shape=SHAPE))
    service.show_challenger(make_loaded("2", infer=corner, shape=SHAPE), None)
    with TestClient(make_app(service)) as client:
        reply = client.post(f"{PATH}&challenger=true", files=files(picture())).json()

    assert reply["predictions"][0]["explanation"]["heat"]
    assert reply["challenger"]["predictions"][0]["explanation"] is None


def test_of_many_images_those_are_explained_that_there_is_time_for(client, monkeypatch):
    monkeypatch.setattr(explanations, "MOST_SECONDS", 0.0)
    answers = client.post(PATH, files=files(picture(), picture(), picture())).json()["predictions"]

    first, *others = (answer["explanation"] for answer in answers)
    assert [answer["label"] for answer in answers] == ["bright"] * 3
    assert first["problem"] is None
    assert {(each["heat"], each["problem"]) for each in others} == {
        (None, "heat maps: only the first 1 of a request are drawn; send fewer images at once")
    }


def test_a_model_that_is_too_slow_still_answers_and_says_why_there_is_no_heat_map(client, monkeypatch):
    monkeypatch.setattr(explainer, "_seconds", lambda run: 1e6)
    reply = client.post(PATH, files=files(picture()))

    found = reply.json()["predictions"][0]
    assert (reply.status_code, found["label"]) == (200, "bright")
    assert found["explanation"]["heat"] is None
    assert found["explanation"]["problem"].startswith("heat maps: one would take ")


def test_an_error_while_a_heat_map_is_drawn_fails_no_request(client, monkeypatch):
    def fails(*given):
        raise RuntimeError("not enough memory\nand more")

    monkeypatch.setattr(explainer, "occlude", fails)
    reply = client.post(PATH, files=files(picture()))

    found = reply.json()["predictions"][0]
    assert (reply.status_code, found["label"]) == (200, "bright")
    assert found["explanation"]["problem"] == "heat maps: failed (not enough memory)"


def test_more_requests_than_may_wait_are_answered_without_a_heat_map():
    goes_on = Event()

    class Held:
        plan = Plan("occlusion", 1.0)

        def explain(self, images, labels):
            goes_on.wait()
            return np.ones((len(images), 8, 8), np.float32)

    async def ask():
        drawing = Explanations()
        images = np.zeros((1, *SHAPE), np.uint8)
        waiting = [asyncio.create_task(drawing.draw(Held(), images, [0])) for _ in range(WAITING)]
        await asyncio.sleep(0)
        late = await drawing.draw(Held(), images, [0])
        goes_on.set()
        return late, [each[0] for each in await asyncio.gather(*waiting)]

    late, first = asyncio.run(ask())
    assert [(each.png, each.problem) for each in late] == [
        (None, "heat maps: too many requests wait for them; try again")
    ]
    assert all(each.png and each.problem is None for each in first)
