"""The API: HTTP requests to the service and its answers back."""

from base64 import b64encode
from collections.abc import Sequence
from functools import lru_cache
from http import HTTPStatus
from itertools import repeat
from math import prod
from typing import Any, Literal
from urllib.parse import parse_qsl

import numpy as np
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool

from darkroom.evaluation.prediction_sets import ordered_labels
from darkroom.explanation.picture import png
from darkroom.serving import schemas
from darkroom.serving.explanations import Explanation
from darkroom.serving.preprocessing import ModelInput, Options, RefusedImageError
from darkroom.serving.request_parsing import JSON, MULTIPART, EncodedImages, read_images
from darkroom.serving.service import Answer, BusyError, Deployment, Service

PREDICT_PATH = "/v1/predict"
TOP_K = 3
RETRY_SECONDS = "1"
DOWNLOAD = 'attachment; filename="evaluation.html"'
# Probabilities and pixels that are written in the event loop: a few milliseconds.
SMALL_ANSWER = 5000
# A gray square of 8 x 8 pixels.
EXAMPLE_IMAGE = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAEElEQVR4nGNsYIAAJgaKGAAmCACQXTClHgAAAABJRU5ErkJggg=="


class Question(BaseModel):
    """How the pictures are to be seen, and what is to be answered: the parameters of a prediction."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    top_k: int = Field(TOP_K, ge=1, le=10_000, description="classes in `top`")
    invert: bool | Literal["auto"] = Field(
        "auto",
        description="show the model the negatives; auto: of pictures on another ground than all the training images",
    )
    drawn: bool = Field(False, description="lay the pictures out as the drawn signs of the training images")
    seen: bool = Field(False, description="send back what the model saw")
    challenger: bool = Field(False, description="ask the challenger too, if there is one")
    explain: bool = Field(False, description="send a heat map of what speaks for the answer of the champion")

    @property
    def options(self) -> Options:
        return Options(None if self.invert == "auto" else self.invert, self.drawn)


@lru_cache(1024)
def read_question(query: bytes) -> Question:
    """The question of a query string. Raises ValidationError. Most requests ask as the one before."""
    return Question.model_validate(dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)))


PREDICT = {
    # The endpoint reads these itself: FastAPI takes longer for them than the model for an image.
    "parameters": [
        {"in": "query", "name": name, "required": False, "description": schema.pop("description"), "schema": schema}
        for name, schema in Question.model_json_schema()["properties"].items()
    ],
    "requestBody": {
        "required": True,
        "content": {
            MULTIPART: {
                "schema": {
                    "type": "object",
                    "properties": {"images": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            },
            JSON: {"schema": EncodedImages.model_json_schema(), "example": {"images": [EXAMPLE_IMAGE]}},
        },
    },
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status.value: {"model": schemas.Problem, "description": about}
    for status, about in (
        (HTTPStatus.BAD_REQUEST, "The request is damaged."),
        (HTTPStatus.UNAUTHORIZED, "The API key is missing or wrong."),
        (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Too many bytes or images."),
        (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Neither multipart files nor JSON."),
        (HTTPStatus.UNPROCESSABLE_ENTITY, "An image or a parameter that is refused; the detail says why."),
        (HTTPStatus.SERVICE_UNAVAILABLE, "Too many images wait; try again after Retry-After seconds."),
    )
}


def make_router(service: Service) -> APIRouter:
    """The routes of ``service``."""
    router = APIRouter()

    @router.post(
        PREDICT_PATH, response_model=schemas.Predictions, responses=PROBLEMS, openapi_extra=PREDICT, tags=["API"]
    )
    async def predict(request: Request) -> Response:
        """Classify one or many images: png, jpeg, webp, bmp or tiff, of any size."""
        try:
            question = read_question(request.scope["query_string"])
        except ValidationError as problem:
            raise RequestValidationError(problem.errors()) from None
        if service.is_full:
            raise busy()
        contents = await read_images(request, service.settings)
        # Only now: reading may have taken long.
        champion, other = service.champion, service.challenger if question.challenger else None
        try:
            answers = await service.answer(champion, contents, question.options)
            opinion = await service.answer(other, contents, question.options) if other else None
            explanations = await service.explain(champion, answers) if question.explain else None
        except RefusedImageError as problem:
            raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, str(problem)) from None
        except BusyError:
            raise busy() from None
        if service.inbox:
            service.inbox.offer(champion.model, answers)
        found = [(champion, answers)] if other is None or opinion is None else [(champion, answers), (other, opinion)]
        if _count_values(found, question) > SMALL_ANSWER:
            text = await run_in_threadpool(_write, found, question, explanations)
        else:
            text = _write(found, question, explanations)
        return Response(
            text, media_type=JSON, background=service.follow_up(champion, contents, question.options, answers)
        )

    @router.get("/v1/model", tags=["API"])
    async def model() -> schemas.ModelInfo:
        """The champion: its version, classes, metrics, and since when it is champion."""
        deployment, other = service.champion, service.challenger
        model = deployment.model
        return schemas.ModelInfo(
            **model.about,
            champion_since=deployment.since,
            drawable=model.transform.layout is not None,
            inbox=service.inbox is not None,
            runtime=model.runtime.kind,
            temperature=model.reference.temperature if model.reference else None,
            coverage=model.sets.coverage if model.sets else None,
            challenger=schemas.Challenger(
                version=other.model.version, metrics=other.model.about["metrics"], verdict=other.verdict
            )
            if other
            else None,
            trouble=service.trouble,
        )

    @router.get("/v1/model/gallery", tags=["API"])
    async def gallery() -> list[schemas.Example]:
        """Test images to try, with their classes and what was predicted when the model was evaluated."""
        return [
            schemas.Example(image=_data_url(example.png), actual=example.actual, predicted=example.predicted)
            for example in service.champion.model.gallery
        ]

    @router.get("/v1/model/confusion", responses={404: {"model": schemas.Problem}}, tags=["API"])
    async def confusion() -> schemas.Confusion:
        """The confusion matrix on the test split."""
        found = service.champion.model.confusion
        if found is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "this version has no confusion matrix")
        return schemas.Confusion.model_validate(found)

    @router.get(
        "/v1/model/report", response_class=HTMLResponse, responses={404: {"model": schemas.Problem}}, tags=["API"]
    )
    async def report() -> Response:
        """The report of the evaluation on the test split: a page to download, in one file."""
        page = service.champion.model.report
        if page is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "this version has no report of its evaluation")
        # The server's pages may run no script that is in the page itself, as this one's are: it is opened from a file.
        return Response(page, media_type="text/html", headers={"Content-Disposition": DOWNLOAD})

    @router.get("/v1/drift", responses={404: {"model": schemas.Problem}}, tags=["API"])
    async def drift() -> schemas.Drift:
        """The latest images beside those of the validation split."""
        watch = service.champion.drift
        if watch is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "this version has no reference to compare with")
        return schemas.Drift.model_validate(watch.report())

    @router.get("/v1/shadow", responses={404: {"model": schemas.Problem}}, tags=["API"])
    def shadow() -> schemas.Shadow:
        """The challenger on live traffic beside the champion, and the pictures that they answer differently."""
        if service.shadow is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "serve.shadow is 0: the challenger is not given live traffic")
        return service.shadow.report(service.champion.model)

    @router.get("/healthz", tags=["Operation"])
    async def healthz() -> dict[str, str]:
        """Whether the process lives."""
        return {"status": "alive"}

    @router.get("/readyz", responses={503: {"model": schemas.Problem}}, tags=["Operation"])
    async def readyz() -> dict[str, str]:
        """Whether more images are taken."""
        if service.is_full:
            raise busy()
        return {"status": "ready", "version": service.champion.model.version}

    @router.get("/metrics", tags=["Operation"])
    async def metrics() -> Response:
        """Everything that is counted, in Prometheus' text form."""
        watch = service.champion.drift
        return Response(
            service.metrics.text(watch.metrics() if watch else None), media_type="text/plain; version=0.0.4"
        )

    return router


def busy() -> HTTPException:
    """Too many images wait."""
    return HTTPException(
        HTTPStatus.SERVICE_UNAVAILABLE, "too many images are waiting; try again", {"Retry-After": RETRY_SECONDS}
    )


def _count_values(found: Sequence[tuple[Deployment, Sequence[Answer]]], question: Question) -> int:
    """Probabilities and pixels in an answer."""
    return sum(
        len(answers) * (len(deployment.model.classes) + (prod(deployment.model.shape) if question.seen else 0))
        for deployment, answers in found
    )


def _write(
    found: Sequence[tuple[Deployment, Sequence[Answer]]],
    question: Question,
    explanations: Sequence[Explanation] | None,
) -> bytes:
    """The answers of the champion, and of the challenger if there are any, as JSON: ``schemas.Predictions``.

    Plain values are written in half the time of models, which would check once more what is made here.
    """
    (champion, answers), *challengers = found
    opinions = [
        {"version": other.model.version, "predictions": _predictions(other, theirs, question, None)}
        for other, theirs in challengers
    ]
    written = {
        "model": champion.model.name,
        "version": champion.model.version,
        "predictions": _predictions(champion, answers, question, explanations),
        "challenger": opinions[0] if opinions else None,
    }
    return to_json(written, inf_nan_mode="null")


def _predictions(
    deployment: Deployment,
    answers: Sequence[Answer],
    question: Question,
    explanations: Sequence[Explanation] | None,
) -> list[dict[str, Any]]:
    classes = deployment.model.classes
    return [
        _prediction(classes, answer, question, explanation)
        for answer, explanation in zip(answers, explanations or repeat(None, len(answers)), strict=True)
    ]


def _prediction(
    classes: Sequence[str], answer: Answer, question: Question, explanation: Explanation | None
) -> dict[str, Any]:
    values = answer.probabilities.tolist()
    order = np.argsort(-answer.probabilities, kind="stable")[: question.top_k].tolist()
    return {
        "label": classes[order[0]],
        "probability": values[order[0]],
        "top": [{"label": classes[index], "probability": values[index]} for index in order],
        "probabilities": dict(zip(classes, values, strict=True)),
        "energy": answer.energy,
        "unlike_training": answer.unlike_training,
        "prediction_set": None
        if answer.members is None
        else ordered_labels(answer.members, answer.probabilities, classes),
        "inverted": answer.seen.inverted,
        "seen": _data_url(_png(answer.seen)) if question.seen else None,
        "explanation": _explanation(explanation) if explanation else None,
    }


def _explanation(found: Explanation) -> dict[str, Any]:
    heat = None if found.png is None else _data_url(found.png)
    return {"method": found.method, "heat": heat, "problem": found.problem}


def _png(seen: ModelInput) -> bytes:
    pixels = seen.pixels
    return png(Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)))


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{b64encode(png).decode()}"
