"""The settings of evaluation and production: `evaluate`, `gate`, `serve` and `tracking`."""

import re
from ipaddress import ip_network
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from darkroom.config.settings.section import Section
from darkroom.config.types import Names
from darkroom.errors import printable, quoted

# Of the 256 characters of a name in MLflow's tables; the history of a model has a longer name.
MAX_MODEL_NAME = 240


class Evaluate(Section):
    """The measurement on the test split."""

    batch_size: int = Field(512, ge=1, le=65_536, description="images a step")
    calibration_bins: int = Field(15, ge=2, le=100, description="bins of the expected calibration error")
    top_k: int = Field(3, ge=2, le=100, description="k of the top-k accuracy")
    tta: Literal["none", "flip", "flip-translate"] = Field(
        "none", description="test-time augmentation, reported beside: none, flip or flip-translate"
    )
    slices: Names | None = Field(
        None, description="slices by size, brightness, ink, confusion or columns of the table, as a list; empty: by all"
    )
    corruptions: Literal["none", "common"] = Field(
        "none", description="corrupted test images to measure the robustness on: none, or common, 35 times the work"
    )


class Gate(Section):
    """The rules that a model must pass to become champion."""

    min_accuracy: float = Field(0.0, ge=0, le=1, description="test accuracy that every champion needs")
    alpha: float = Field(
        0.05, gt=0, lt=0.5, description="risk of taking a model for better than the champion that is not"
    )
    margin: float = Field(
        0.005, gt=0, le=1, description="accuracy that a model may lack if it brings the gain named below"
    )
    gain: Literal["none", "smaller", "faster", "any"] = Field(
        "none", description="what is accepted instead of better: smaller, faster, any of them, or none"
    )
    min_gain: float = Field(
        0.2, gt=0, lt=1, description="share of the champion's size or latency that such a model saves"
    )
    max_class_drop: float = Field(0.05, ge=0, le=1, description="recall that no class may lose more of")
    max_slice_drop: float | None = Field(
        None, ge=0, le=1, description="accuracy that no slice of the test split may lose more of; empty: no limit"
    )
    min_robust_accuracy: float | None = Field(
        None, ge=0, le=1, description="mean accuracy on corrupted test images (evaluate.corruptions); empty: no limit"
    )
    max_calibration_error: float | None = Field(
        None, gt=0, le=1, description="largest expected calibration error; empty: no limit"
    )
    max_latency_ms: float | None = Field(
        None, gt=0, description="95th percentile for one image on the CPU, milliseconds; empty: no limit"
    )
    max_size_mb: float | None = Field(
        None, gt=0, description="of the registered model's files, megabytes; empty: no limit"
    )
    export: Literal["none", "pt2", "onnx"] = Field(
        "none", description="form in which the model must give the same answers: none, pt2 as registered, or onnx"
    )


class Serve(Section):
    """The server: what it computes with, how it follows the registry, and the bounds of what it is sent."""

    runtime: Literal["auto", "onnx", "torch"] = Field(
        "auto", description="what computes: auto (what answers faster on this machine), onnx (ONNX Runtime) or torch"
    )
    processes: int = Field(
        1, ge=1, le=256, description="that answer behind the port; several need Linux or macOS, and memory for each"
    )
    follow_seconds: float = Field(
        2.0, ge=0.1, le=3600, description="between two looks at the registry for another champion"
    )
    batch_size: int = Field(64, ge=1, le=4096, description="images that the model is given at once, at most")
    batch_wait_ms: float = Field(
        2.0, ge=0, le=1000, description="milliseconds that an image waits for others that are on their way, at most"
    )
    queue: int = Field(
        1024, ge=1, le=1_000_000, description="images that may wait for the model; more are refused for now (503)"
    )
    max_images: int = Field(64, ge=1, le=100_000, description="of one request")
    max_request_mb: float = Field(16.0, gt=0, le=10_000, description="of one request, megabytes")
    max_pixels: int = Field(50_000_000, ge=1, le=100_000_000, description="of one image")
    max_request_pixels: int = Field(64_000_000, ge=1, le=10_000_000_000, description="of all images of one request")
    coverage: float = Field(
        0.95, ge=0.5, lt=1, description="share of images whose prediction set is to hold the true class"
    )
    coverage_per_class: bool = Field(
        False, description="whether each class is to have that coverage, not only all images together"
    )
    inbox: str | None = Field(
        None, min_length=1, description="directory of pictures that are kept for people to label; empty: none are"
    )
    inbox_images: int = Field(2000, ge=1, le=100_000, description="pictures in it, at most")
    inbox_mb: float = Field(200.0, gt=0, le=100_000, description="megabytes of them, at most")
    window: int = Field(1000, ge=10, le=10_000_000, description="latest images that the drift watch looks at")
    shadow: float = Field(
        0.0, ge=0, le=1, description="share of requests that the challenger answers too, in spare time; 0: none"
    )
    shadow_log: str | None = Field(
        None,
        min_length=1,
        description="file that keeps which pictures both answer differently; empty: only while the server runs",
    )
    header_seconds: float = Field(
        10.0, ge=0.1, le=3600, description="that the header of a request may take to arrive; then 408"
    )
    body_seconds: float = Field(
        30.0, ge=0.1, le=3600, description="that its body may take to arrive, and its answer to be read"
    )
    keep_alive_seconds: int = Field(
        75,
        ge=1,
        le=3600,
        description="that a connection may wait for another request; more than a proxy before the server waits",
    )
    max_header_kb: float = Field(32.0, ge=1, le=1000, description="of the header of one request, kilobytes")
    max_bodies_mb: float = Field(
        64.0, gt=0, le=1_000_000, description="of all requests that are arriving or being answered, megabytes"
    )
    max_connections: int = Field(
        512, ge=1, le=1_000_000, description="at once, and no more than the limit of open files less 64"
    )
    max_connections_per_address: int = Field(
        128, ge=1, le=1_000_000, description="of them from one address; a proxy is one address"
    )
    trusted_hosts: Names = Field(
        (), description="names of the server besides localhost, addresses in digits and --host"
    )
    root_path: str = Field("", description="path below which a proxy asks the server, such as /models/digits")
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

    experiment: str = Field(
        "darkroom",
        min_length=1,
        max_length=256,
        description="MLflow's experiment; its store is MLFLOW_TRACKING_URI, else sqlite:///mlflow.db",
    )
    registered_model: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_MODEL_NAME,
        description="name in MLflow's registry; empty: darkroom-<dataset>",
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
