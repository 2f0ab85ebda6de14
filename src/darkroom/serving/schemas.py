"""The schemas of the API, shown on its page at /docs."""

from typing import Literal

from pydantic import BaseModel, Field


class Score(BaseModel):
    """A class and its calibrated probability."""

    label: str
    probability: float


class Explanation(BaseModel):
    """Which pixels speak for the most probable class."""

    method: Literal["layer-cam", "occlusion"] | None = Field(description="how the heat map was computed")
    heat: str | None = Field(
        description="a layer of color for the image that the model saw, of its size, as a PNG in a data: URL; its "
        "opacity is the heat: 0 where nothing speaks for the class, 255 where most does"
    )
    problem: str | None = Field(description="why there is no heat map")


class Prediction(BaseModel):
    """The answer for one image."""

    label: str = Field(description="the most probable class")
    probability: float = Field(description="its calibrated probability")
    top: list[Score] = Field(description="the most probable classes, as many as asked for")
    probabilities: dict[str, float] = Field(description="of every class")
    energy: float = Field(description="the higher, the less the image is like the training images")
    unlike_training: bool = Field(description="whether the energy is above the validation split's threshold")
    prediction_set: list[str] | None = Field(
        description="the labels among which the true one is, at the rate of the model's coverage; empty: the "
        "evidence for every class is weaker than usual for this probability; null: this version has no such sets"
    )
    inverted: bool = Field(description="whether the model saw the negative")
    seen: str | None = Field(description="if asked for, the very pixels that the model saw, as a PNG in a data: URL")
    explanation: Explanation | None = Field(None, description="if asked for, of the champion")


class Opinion(BaseModel):
    """What another version says of the same images."""

    version: str
    predictions: list[Prediction]


class Predictions(BaseModel):
    """The answers for all images of a request, in their order."""

    model: str
    version: str
    predictions: list[Prediction]
    challenger: Opinion | None = Field(None, description="if asked for and there is one")


class Challenger(BaseModel):
    """The version that may become champion."""

    version: str
    metrics: dict[str, float]
    verdict: str | None = Field(description="what the gate said of it, if it was asked")


class ModelInfo(BaseModel):
    """The champion."""

    name: str
    version: str
    champion_since: str | None = Field(description="ISO time")
    architecture: str | None
    dataset: str | None
    classes: list[str]
    shape: tuple[int, int, int] = Field(description="channels, height and width of the images that it takes")
    parameters: int | None
    drawable: bool = Field(description="whether it knows signs that can be drawn")
    inbox: bool = Field(description="whether pictures are kept for people to label")
    runtime: Literal["onnx", "torch"]
    metrics: dict[str, float] = Field(description="on the test split")
    temperature: float | None = Field(description="divides the logits, fitted on the validation split")
    coverage: float | None = Field(description="share of images whose prediction set holds the true class")
    run_id: str
    trained_at: str
    challenger: Challenger | None
    trouble: str | None = Field(description="why a newer champion does not answer")


class Example(BaseModel):
    """A test image to try."""

    image: str = Field(description="PNG in a data: URL")
    actual: str
    predicted: str


class Confusion(BaseModel):
    """How often images of each class (rows) were predicted as each class (columns), on the test split."""

    classes: list[str]
    counts: list[list[int]]


class ClassShare(BaseModel):
    """How often a class is predicted, lately and in the validation split."""

    label: str
    share: float | None
    expected: float


class Drift(BaseModel):
    """The latest images beside those of the validation split."""

    images: int
    window: int
    unlike_share: float | None
    expected_unlike_share: float
    confidence: float | None
    expected_confidence: float
    set_size: float | None = Field(description="mean number of labels in a prediction set")
    expected_set_size: float | None
    classes: list[ClassShare]
    warning: str | None


class ShadowedModel(BaseModel):
    """A version that answers live traffic."""

    version: str
    model_ms: float = Field(description="milliseconds of the model for an image, measured when it was loaded")
    set_size: float | None = Field(
        description="labels in a prediction set, mean of the images that both answered; null if one has no such sets"
    )


class TwoAnswers(BaseModel):
    """A picture that both answer differently."""

    digest: str = Field(description="BLAKE2b-128 of the pixels that the champion saw, as in the inbox")
    champion: str = Field(description="the class that the champion answers")
    challenger: str
    when: str = Field(description="ISO time")


class Shadow(BaseModel):
    """The challenger on live traffic beside the champion."""

    name: str
    share: float = Field(description="of the requests that the challenger answers too")
    champion: ShadowedModel
    challenger: ShadowedModel | None
    images: int = Field(description="that both have answered")
    different: int = Field(description="of these, with other answers")
    failed: int = Field(description="images that the challenger could not answer")
    dropped: int = Field(description="images that were chosen while too many waited for it")
    mean_ms: float | None = Field(description="milliseconds that it takes for an image, decoding included")
    disagreements: list[TwoAnswers] = Field(description="each picture once, as far as they are kept")


class Kept(BaseModel):
    """Whether a picture is kept for people to label."""

    kept: bool
    detail: str | None = Field(description="why it is not")


class Problem(BaseModel):
    """Why a request was not answered."""

    detail: str
