"""The part of the API by which somebody names the class of a picture: it is kept for people to label."""

from http import HTTPStatus
from typing import Literal
from urllib.parse import parse_qsl

from fastapi import APIRouter, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from darkroom.errors import did_you_mean, quoted
from darkroom.serving import schemas
from darkroom.serving.api import PROBLEMS, busy
from darkroom.serving.preprocessing import Options, RefusedImageError
from darkroom.serving.request_parsing import read_images
from darkroom.serving.service import BusyError, Service

INBOX_PATH = "/v1/inbox"


class Correction(BaseModel):
    """The parameters: the class, and how the picture is to be seen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: str = Field(description="the class that the picture shows")
    invert: bool | Literal["auto"] = Field("auto", description="as for a prediction")
    drawn: bool = Field(False, description="as for a prediction")


PARAMETERS = {
    "parameters": [
        {"in": "query", "name": name, "required": name == "label", "schema": schema}
        for name, schema in Correction.model_json_schema()["properties"].items()
    ],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"image": {"type": "string", "format": "binary"}}}
            }
        },
    },
}


def make_router(service: Service) -> APIRouter:
    """The route of ``service``."""
    router = APIRouter()

    @router.post(
        INBOX_PATH,
        responses=PROBLEMS | {HTTPStatus.NOT_FOUND.value: {"model": schemas.Problem}},
        openapi_extra=PARAMETERS,
        tags=["API"],
    )
    async def correct(request: Request) -> schemas.Kept:
        """Say which class a picture shows. What the model saw of it is kept for people to label, and nothing else."""
        inbox = service.inbox
        if inbox is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "this server keeps no pictures; serve.inbox is not set")
        try:
            said = Correction.model_validate(dict(parse_qsl(request.url.query, keep_blank_values=True)))
        except ValidationError as problem:
            raise RequestValidationError(problem.errors()) from None
        if service.is_full:
            raise busy()
        contents = await read_images(request, service.settings)
        asked = service.uncounted
        if len(contents) != 1:
            raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, f"{len(contents)} images; send one with its class")
        if said.label not in asked.model.classes:
            meant = did_you_mean(said.label, asked.model.classes)
            raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, f"unknown class {quoted(said.label)}; {meant}")
        options = Options(None if said.invert == "auto" else said.invert, said.drawn)
        try:
            (answer,) = await service.answer(asked, contents, options)
        except RefusedImageError as problem:
            raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, str(problem)) from None
        except BusyError:
            raise busy() from None
        refused = await inbox.correct(asked.model, answer, said.label)
        return schemas.Kept(kept=refused is None, detail=refused)

    return router
