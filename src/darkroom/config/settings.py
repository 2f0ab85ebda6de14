"""The sections of params.yaml: every setting, its type, its range, and the rules within a section.

Each section is a class, each key a field: its type and range are the rule, its description the
documentation. Everything is checked when the file is read, before any work begins.
"""

import re
from fractions import Fraction
from ipaddress import ip_network
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    Strict,
    Tag,
    field_validator,
    model_validator,
)

from darkroom.config.types import Channels, Names, Number, PositiveInts, Seed
from darkroom.errors import did_you_mean, printable, quoted

RECIPE_FORMAT = 1
# Of the 256 characters of a name in MLflow's tables; the history of a model has a longer name.
MAX_MODEL_NAME = 240
# Of Python's, those that zips of older systems are likely to be in; all others are taken too.
ENCODINGS = (
    "utf-8",
    "gbk",
    "gb18030",
    "shift_jis",
    "cp932",
    "big5",
    "euc_kr",
    "euc_jp",
    "cp437",
    "cp850",
    "cp866",
    "cp1252",
)


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Recipe(Section):
    """Which experiment this is, where the file is one that was measured."""

    format: int = Field(RECIPE_FORMAT, ge=1, le=RECIPE_FORMAT, description="version of this file's form")
    name: str | None = Field(None, min_length=1, description="name of the recipe")
    about: str | None = Field(None, min_length=1, description="what it is, in one line")


class Dataset(Section):
    """What to classify, and where its files come from."""

    name: Literal["digits", "mnist", "fashion-mnist", "kmnist", "cifar10", "cifar100", "folder"] = Field(
        "digits", description="which dataset"
    )
    path: str = Field("data/folder", min_length=1, description="folder only: a directory, or a zip or tar archive")
    labels: str | None = Field(
        None, min_length=1, description="folder only: a table, csv or parquet, of files and labels"
    )
    encoding: str | None = Field(None, min_length=1, description="of names in a zip that does not say it")
    mirror: str | None = Field(None, description="directory or URL prefix tried before the public hosts")
    on_broken: Literal["stop", "skip"] = Field("stop", description="what to do with images that cannot be decoded")

    @field_validator("encoding")
    @classmethod
    def _encoding_is_a_codec(cls, name: str | None) -> str | None:
        try:
            # Names hold slashes and digits, which a few codecs keep for other letters.
            known = name is None or b"/0a".decode(name) == "/0a"
        except (LookupError, UnicodeError, ValueError):  # ValueError for a zero in it
            known = False
        if not known:
            raise ValueError(f"no encoding of names {quoted(name)}; {did_you_mean(str(name), ENCODINGS)}")
        return name


class Preprocess(Section):
    """How images become tensors of one size, and how they are split."""

    image_size: Annotated[tuple[int, int], Strict(False)] | None = Field(None, description="height and width, pixels")
    channels: Channels | None = Field(None, description="1 grey, 3 colour, null as the images are")
    fit: Literal["pad", "crop", "stretch"] = Field("pad", description="how images of other shapes fill the size")
    value_range: Annotated[tuple[Number, Number], Strict(False)] | None = Field(
        None, description="pixel values shown as black and white, for images of more than 8 bits"
    )
    bands: Annotated[tuple[Annotated[int, Field(ge=0, le=1023)], ...], Strict(False)] | None = Field(
        None, description="bands to read of images of more than three"
    )
    on_suspect: Literal["stop", "warn"] = Field(
        "stop", description="what to do with images that nothing can be learned from"
    )
    val_fraction: float = Field(0.1, gt=0, lt=1, description="share of the train split used for validation")
    test_fraction: float = Field(0.2, gt=0, lt=1, description="share used for testing where no test split exists")
    seed: Seed = 0

    @model_validator(mode="after")
    def _sizes_are_sane(self) -> Self:
        if self.image_size and not all(1 <= side <= 4096 for side in self.image_size):
            raise ValueError(f"image_size: each side must be 1 to 4096 pixels, got {list(self.image_size)}")
        return self

    @model_validator(mode="after")
    def _range_is_an_interval(self) -> Self:
        if self.value_range and self.value_range[0] >= self.value_range[1]:
            low, high = self.value_range
            raise ValueError(f"value_range: expected [low, high] with low below high, got [{low:g}, {high:g}]")
        return self

    @model_validator(mode="after")
    def _bands_make_a_picture(self) -> Self:
        if self.bands is not None and len(self.bands) not in (1, 3):
            raise ValueError(f"bands: expected one band for grey or three for red, green, blue, got {list(self.bands)}")
        if self.bands and self.channels and len(self.bands) > self.channels:
            raise ValueError(f"bands: {list(self.bands)} make a colour picture, but channels is 1; set it to 3")
        return self


class Model(Section):
    """The architecture. A setting left null takes the architecture's own default."""

    name: Literal["mlp", "simple-cnn", "resnet", "wide-resnet", "fast-cnn", "pretrained"] = Field(
        "simple-cnn", description="architecture"
    )
    filters: PositiveInts | None = Field(None, min_length=1, max_length=8, description="filters of each stage")
    pooling: Literal["each", "between", "none"] | None = Field(
        None, description="simple-cnn: max pooling after each convolution, between them, or nowhere"
    )
    hidden: PositiveInts | None = Field(None, max_length=8, description="units of each dense hidden layer")
    dropout: float | None = Field(None, ge=0, lt=1, description="share of activations dropped in training")
    depth: int | None = Field(None, ge=1, le=200, description="layers with weights")
    width: int | None = Field(None, ge=1, le=4096, description="resnet: filters of the first stage")
    activation: Literal["relu", "gelu"] | None = Field(None, description="fast-cnn: what follows each normalization")
    freeze_norm_scale: bool | None = Field(None, description="fast-cnn: of the normalization only the biases learn")
    whitening_epochs: int | None = Field(
        None, ge=0, description="fast-cnn: epochs in which the bias of the whitening learns"
    )
    widen_factor: int | None = Field(None, ge=1, le=64, description="wide-resnet: times the filters of a plain one")
    backbone: str | None = Field(None, min_length=1, description="pretrained: torchvision's name of the model")
    weights_path: str | None = Field(None, min_length=1, description="pretrained: a local state_dict")
    freeze_epochs: int | None = Field(None, ge=0, description="pretrained: epochs in which only the head learns")
    layer_lr_decay: float | None = Field(
        None, gt=0, le=1, description="pretrained: learning rate of a block as a share of the next one's"
    )


class Augment(Section):
    """Random changes to the training images, drawn anew for each image and epoch, on the device."""

    flip: Literal["none", "random", "alternating"] = Field("none", description="mirror left-right")
    translate: int = Field(0, ge=0, le=64, description="largest shift in either direction, pixels")
    padding: Literal["black", "edge", "reflect"] = Field("black", description="what a shift brings in from outside")
    rotate: float = Field(0.0, ge=0, le=180, description="largest rotation either way, degrees")
    scale: float = Field(0.0, ge=0, lt=1, description="largest change of size, as a share")
    shear: float = Field(0.0, ge=0, lt=90, description="largest shear either way, degrees")
    brightness: float = Field(0.0, ge=0, le=1, description="largest change of brightness, as a share")
    contrast: float = Field(0.0, ge=0, le=1, description="largest change of contrast, as a share")
    cutout: int = Field(0, ge=0, le=4096, description="side of a square that is blanked in each image, pixels")
    erasing: float = Field(0.0, ge=0, le=1, description="probability of blanking a rectangle of random size and shape")
    mixup: float = Field(0.0, ge=0, le=10, description="alpha of the Beta distribution that images are blended by")
    cutmix: float = Field(0.0, ge=0, le=10, description="alpha of the Beta distribution of pasted areas")

    @model_validator(mode="after")
    def _changes_agree(self) -> Self:
        if self.cutout and self.erasing:
            raise ValueError("cutout and erasing contradict each other: both blank a part of each image; set one to 0")
        if self.padding != "black" and not self.translate:
            raise ValueError(f"padding: {self.padding} fills what translate brings in, and that is 0; set translate")
        return self


class Train(Section):
    """One training run."""

    # A version's number need not be quoted.
    start_from: Annotated[str, BeforeValidator(lambda value: str(value) if type(value) is int else value)] | None = (
        Field(None, min_length=1, description="weights to begin with: champion, a version, or a file")
    )
    epochs: int = Field(20, ge=1, le=10_000, description="passes over the train split")
    batch_size: int = Field(64, ge=1, le=65_536, description="images a step")
    accumulate: int = Field(1, ge=1, le=1024, description="parts that each batch goes through the model in")
    optimizer: Literal["adam", "adamw", "sgd", "muon"] = Field("adamw", description="optimizer")
    lr: float = Field(1e-3, gt=0, le=100, description="peak learning rate")
    bias_lr: float | None = Field(None, gt=0, le=100, description="peak learning rate of biases; null as lr")
    head_lr: float | None = Field(None, gt=0, le=100, description="peak learning rate of the last layer; null as lr")
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd and muon only (Nesterov)")
    muon_iterations: int = Field(5, ge=1, le=20, description="muon only: of Newton and Schulz, a step")
    weight_decay: float = Field(0.01, ge=0, le=10, description="decoupled for adamw and muon, L2 for adam and sgd")
    schedule: Literal["constant", "cosine", "linear", "one-cycle"] = Field("cosine", description="rate over time")
    warmup_epochs: int = Field(0, ge=0, description="epochs of linear warm-up before constant or cosine")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread over all classes")
    clip_norm: float | None = Field(None, gt=0, description="largest norm of the gradient")
    ema: float | None = Field(None, gt=0, lt=1, description="decay a step of the weights' moving average")
    class_weights: Literal["none", "balanced"] = Field("none", description="weights of the classes in the loss")
    sampler: Literal["shuffle", "balanced"] = Field("shuffle", description="how an epoch's images are drawn")
    monitor: Literal["accuracy", "loss"] = Field("accuracy", description="validation figure that decides")
    patience: int | None = Field(None, ge=1, description="epochs without improvement before stopping")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where to train")
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = Field("auto", description="arithmetic of a step")
    compile: Literal["none", "default", "reduce-overhead", "max-autotune"] = Field(
        "none", description="mode of torch.compile"
    )
    deterministic: bool = Field(False, description="on a GPU: the same bits in every run; a CPU gives them anyway")
    seed: Seed = 0

    @model_validator(mode="after")
    def _warmup_fits(self) -> Self:
        if self.warmup_epochs >= self.epochs and self.warmup_epochs:
            raise ValueError(f"warmup_epochs: must be below epochs ({self.epochs}), got {self.warmup_epochs}")
        if self.warmup_epochs and self.schedule == "one-cycle":
            raise ValueError("warmup_epochs: one-cycle warms up by itself; set it to 0 or choose cosine")
        return self

    @model_validator(mode="after")
    def _balance_is_made_once(self) -> Self:
        if self.class_weights == self.sampler == "balanced":
            raise ValueError("class_weights and sampler both balance the classes; keep one of them")
        return self


# Of which type a choice must be is up to the setting that it is for.
Choice = Annotated[Any, BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)]


class Range(Section):
    """An interval to search, of whole numbers where the setting takes only those."""

    low: Number
    high: Number
    log: bool = False
    step: Annotated[Number, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _is_an_interval(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low must be below high, got low {self.low}, high {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs low above 0, got {self.low}")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other; drop one")
        # Exactly as they were written: in binary 0.1 does not divide 0.5.
        low, high, step = (Fraction(str(value)) for value in (self.low, self.high, self.step or 1))
        if self.step is not None and (high - low) % step:
            raise ValueError(f"step must divide high - low, got low {self.low}, high {self.high}, step {self.step}")
        return self


class Choices(Section):
    """A set of values to choose from."""

    choices: Annotated[tuple[Choice, ...], Strict(False)] = Field(min_length=1, max_length=100)

    @model_validator(mode="after")
    def _values_differ(self) -> Self:
        if any(value in self.choices[:position] for position, value in enumerate(self.choices)):
            raise ValueError(f"choices must differ, got {quoted(list(self.choices))}")
        return self


def _kind(values: Any) -> str:
    """Tell the two kinds of values apart, so that an error speaks of one of them only."""
    listed = "choices" in values if isinstance(values, dict) else isinstance(values, Choices)
    return "choices" if listed else "range"


Values = Annotated[Annotated[Range, Tag("range")] | Annotated[Choices, Tag("choices")], Discriminator(_kind)]


class Space(Section):
    """What a search may vary, by section and setting."""

    model: dict[str, Values] = Field(default_factory=dict)
    train: dict[str, Values] = Field(default_factory=dict)
    augment: dict[str, Values] = Field(default_factory=dict)

    def flat(self) -> dict[str, Range | Choices]:
        """The values to try as {"section.key": values}."""
        return {
            f"{section}.{key}": values
            for section in type(self).model_fields
            for key, values in getattr(self, section).items()
        }


def _fuse(value: Any) -> Any:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if value not in ("auto", "off") and not (is_number and 1 <= value <= 1024):
        raise ValueError(f"expected auto, off, or a number from 1 to 1024, got {quoted(value)}")
    return value


def _workers(value: Any) -> Any:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if value != "auto" and not (is_number and 1 <= value <= 1024):
        raise ValueError(f"expected auto, or a number from 1 to 1024, got {quoted(value)}")
    return value


class Search(Section):
    """The hyperparameter search."""

    trials: int = Field(0, ge=0, le=100_000, description="configurations tried; 0 skips the search")
    minutes: float | None = Field(None, gt=0, description="wall time after which no trial is begun")
    stall: int | None = Field(None, ge=1, description="trials without improvement that end the search")
    epochs: int | None = Field(None, ge=1, description="epochs of a trial; null as train.epochs")
    sampler: Literal["tpe", "gp", "cma-es", "random", "grid"] = Field("tpe", description="suggests configurations")
    pruner: Literal["median", "hyperband", "successive-halving", "wilcoxon", "none"] = Field(
        "median", description="stops trials that fall behind"
    )
    second_objective: Literal["none", "latency", "parameters"] = Field(
        "none", description="what is weighed against the monitored figure"
    )
    finalists: int = Field(2, ge=0, le=100, description="best configurations trained again with other seeds")
    repeats: int = Field(3, ge=2, le=1000, description="seeds that each finalist is trained with")
    fuse: Annotated[int | str, PlainValidator(_fuse)] = Field("auto", description="trials trained as one program")
    workers: Annotated[int | str, PlainValidator(_workers)] = Field("auto", description="processes that train trials")
    executor: Literal["local", "ray"] = Field("local", description="where the workers run")
    ray_address: str | None = Field(None, min_length=1, description="ray only: the cluster; null starts one here")
    worker_cpus: int = Field(1, ge=1, le=1024, description="ray only: processors of each worker")
    worker_gpus: float = Field(0, ge=0, le=1024, description="ray only: GPUs of each worker")
    storage: str | None = Field(None, min_length=1, description="Optuna's storage; null a journal file")
    seed: Seed = 0
    space: Space = Field(default_factory=Space, description="settings and the values to try")


class Evaluate(Section):
    """The measurement on the test split."""

    batch_size: int = Field(512, ge=1, le=65_536, description="images a step")
    calibration_bins: int = Field(15, ge=2, le=100, description="bins of the expected calibration error")
    top_k: int = Field(3, ge=2, le=100, description="k of the top-k accuracy")
    tta: Literal["none", "flip", "flip-translate"] = Field(
        "none", description="test-time augmentation, reported beside"
    )


class Gate(Section):
    """What a model must pass before it becomes champion."""

    min_accuracy: float = Field(0.0, ge=0, le=1, description="test accuracy that every champion has")
    alpha: float = Field(0.05, gt=0, lt=0.5, description="risk of promoting a model that is no better")
    margin: float = Field(0.005, gt=0, le=1, description="accuracy that a model with a gain may lack")
    gain: Literal["none", "smaller", "faster", "any"] = Field("none", description="what may stand in for better")
    min_gain: float = Field(0.2, gt=0, lt=1, description="share of size or latency that a gain saves")
    max_class_drop: float = Field(0.05, ge=0, le=1, description="recall that a class may lose")
    max_calibration_error: float | None = Field(None, gt=0, le=1, description="expected calibration error")
    max_latency_ms: float | None = Field(None, gt=0, description="95th percentile, one image, CPU")
    max_size_mb: float | None = Field(None, gt=0, description="the registered model's files, megabytes")
    export: Literal["none", "pt2", "onnx"] = Field("none", description="form that must be proven equal")


class Serve(Section):
    """The server: what it computes with, how it follows the registry, and the bounds of what it is sent."""

    runtime: Literal["auto", "onnx", "torch"] = Field("auto", description="what computes the answers")
    follow_seconds: float = Field(2.0, ge=0.1, le=3600, description="between two looks at the registry")
    batch_size: int = Field(64, ge=1, le=4096, description="images that the model is given at once, at most")
    batch_wait_ms: float = Field(2.0, ge=0, le=1000, description="that an image waits for others, at most")
    queue: int = Field(1024, ge=1, le=1_000_000, description="images that may wait for the model")
    max_images: int = Field(64, ge=1, le=100_000, description="of one request")
    max_request_mb: float = Field(16.0, gt=0, le=10_000, description="of one request, megabytes")
    max_pixels: int = Field(50_000_000, ge=1, le=100_000_000, description="of one image")
    max_request_pixels: int = Field(64_000_000, ge=1, le=10_000_000_000, description="of all images of one request")
    window: int = Field(1000, ge=10, le=10_000_000, description="latest images that the drift watch looks at")
    header_seconds: float = Field(10.0, ge=0.1, le=3600, description="that a request's header may take to arrive")
    body_seconds: float = Field(30.0, ge=0.1, le=3600, description="that its body may take, and its answer to be read")
    keep_alive_seconds: int = Field(75, ge=1, le=3600, description="that a connection may wait for another request")
    max_header_kb: float = Field(32.0, ge=1, le=1000, description="of one request's header, kilobytes")
    max_bodies_mb: float = Field(64.0, gt=0, le=1_000_000, description="of all requests under way, megabytes")
    max_connections: int = Field(512, ge=1, le=1_000_000, description="connections at once")
    max_connections_per_address: int = Field(128, ge=1, le=1_000_000, description="of them from one address")
    trusted_hosts: Names = Field((), description="names of the server besides localhost, addresses and --host")
    root_path: str = Field("", description="path below which a proxy asks the server")
    trusted_proxies: Names = Field(
        ("127.0.0.1", "::1"), description="addresses or networks of proxies whose X-Forwarded headers are believed"
    )

    @field_validator("root_path")
    @classmethod
    def _is_a_path(cls, value: str) -> str:
        if not re.fullmatch(r"((/[A-Za-z0-9._~-]+)+/?)?", value):
            raise ValueError(f"expected a path such as /models/digits, got {value!r}")
        return value.rstrip("/")

    @field_validator("trusted_proxies")
    @classmethod
    def _are_addresses(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            try:
                ip_network(value)
            except ValueError:
                raise ValueError(f"expected addresses or networks, such as 10.0.0.0/8, got {value!r}") from None
        return values

    @model_validator(mode="after")
    def _a_request_fits(self) -> Self:
        if self.max_images > self.queue:
            raise ValueError(f"max_images: a request of {self.max_images} images never fits a queue of {self.queue}")
        if self.max_pixels > self.max_request_pixels:
            raise ValueError(
                f"max_pixels: an image of {self.max_pixels:,} pixels never fits max_request_pixels, "
                f"{self.max_request_pixels:,}"
            )
        if self.max_request_mb > self.max_bodies_mb:
            raise ValueError(
                f"max_request_mb: a request of {self.max_request_mb:g} MB never fits max_bodies_mb, "
                f"{self.max_bodies_mb:g} MB"
            )
        return self


class Tracking(Section):
    """Names in MLflow. The address of the server is MLflow's own MLFLOW_TRACKING_URI."""

    experiment: str = Field("darkroom", min_length=1, max_length=256, description="experiment that holds the runs")
    registered_model: str | None = Field(
        None, min_length=1, max_length=MAX_MODEL_NAME, description="name in the registry"
    )

    @model_validator(mode="after")
    def _names_are_taken_by_mlflow(self) -> Self:
        for key in ("experiment", "registered_model"):
            name = getattr(self, key)
            if name is not None and (not name.strip() or name != printable(name)):
                raise ValueError(f"{key}: expected a name of visible characters, got {quoted(name)}")
        name = self.registered_model or ""
        if name != registrable(name) or name == "." or name.startswith(".."):
            raise ValueError(
                "registered_model: MLflow takes no '/', ':', '@' or '?' in it, not both kinds of quotes, no '..' at "
                f"its beginning; got {quoted(name)}"
            )
        return self


def registrable(name: str) -> str:
    """A name as MLflow's registry, its filters and its addresses take it; what they cannot take becomes a dash."""
    name = re.sub("[/:@?]", "-", name)
    return name.replace('"', "-") if "'" in name else name
