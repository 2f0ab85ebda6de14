"""Write an exported file and compare it with the model on the whole test split."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from rich.progress import Progress
from torch import Tensor

from darkroom.data.batches import CPU, Split, read_split_of
from darkroom.errors import ModelError
from darkroom.evaluation.latency import latencies, throughputs
from darkroom.evaluation.logits import LogitsFunction, predict_logits
from darkroom.export.source import ExportSource
from darkroom.formats.onnx import read_onnx, write_onnx
from darkroom.formats.parity import Agreement, accuracy, compare
from darkroom.formats.pt2 import read_pt2, write_pt2
from darkroom.formats.quantization import quantize_int8
from darkroom.formats.state_dict import read_state_dict, write_pth, write_safetensors
from darkroom.utils.files import sha256

Form = Literal["onnx", "pt2", "pth", "safetensors"]
# The batch size for the model itself, whose answers are the reference.
REFERENCE_BATCH = 64


@dataclass(frozen=True)
class ExportReport:
    """The result of checking an exported file on ``images`` test images.

    ``checks`` holds an entry for each size of batch, ``accuracy`` that of the model itself. ``speed`` compares an
    int8 file with the same in fp32: for each of the two ``size_bytes``, ``p50_ms`` and ``p95_ms`` for one image and
    ``images_per_second`` in batches of 64.
    """

    form: str
    images: int
    accuracy: float
    checks: tuple[Agreement, ...]
    runtime: str
    size_bytes: int
    sha256: str
    model: Mapping[str, Any]
    speed: Mapping[str, Mapping[str, float]] | None = None

    @property
    def differing(self) -> int:
        return max(each.differing_answers for each in self.checks)

    @property
    def line(self) -> str:
        """All of it in one line."""
        difference = max(each.largest_logit_difference for each in self.checks)
        sizes = ", ".join(str(each.batch_size) for each in self.checks)
        said = (
            f"{self.differing:,} of {self.images:,} answers differ, largest logit difference {difference:.2g}, "
            f"accuracy {min(each.accuracy for each in self.checks):.4f} (torch {self.accuracy:.4f}), batches of {sizes}"
        )
        if not self.speed:
            return said
        full, small = self.speed["fp32"], self.speed["int8"]
        return (
            f"{said}; {small['size_bytes'] / full['size_bytes']:.0%} of the size, "
            f"{full['p50_ms'] / small['p50_ms']:.2f} times as fast for one image"
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def export_model(
    origin: ExportSource, form: Form, quantize: bool, made: Path, cache: Path, display: Progress
) -> ExportReport:
    """Write the file ``made`` and compare it with the model. ``cache`` is where the preprocessed images are.

    Raises ModelError if an answer differs, or is missing for a quantized file; CacheError if the cache is missing or
    of other data.
    """
    fingerprint = origin.metadata["fingerprint"]
    test = read_split_of(cache, fingerprint, "test", origin.name)
    advance = _bar(display, "the model's answers", len(test))
    expected = predict_logits(origin.model, test, test.at_once(REFERENCE_BATCH, CPU), advance)
    full = made.with_name(f"fp32-{made.name}") if quantize else made
    advance = _bar(display, f"writing {form}", 1)
    _write(origin, form, full)
    advance(1)
    reader = _read(origin, form, full)
    checks = _compare(reader, expected, test, form, display)
    if worst := max(each.differing_answers for each in checks):
        raise ModelError(
            f"the {form} file answers {worst:,} of {len(test):,} test images differently from the model (largest logit "
            f"difference {max(each.largest_logit_difference for each in checks):.2g}); nothing was written"
        )
    speed = None
    if quantize:
        calibration = read_split_of(cache, fingerprint, "val", origin.name)
        advance = _bar(display, "calibration", len(calibration))
        quantize_int8(full, calibration, {**origin.metadata, "quantized": "int8"}, made, advance)
        small = read_onnx(made)
        checks = _compare(small, expected, test, "int8", display)
        if missing := max(each.unanswered for each in checks):
            raise ModelError(
                f"the int8 file gives no answer for {missing:,} of {len(test):,} test images; nothing was written"
            )
        advance = _bar(display, "speed", 1)
        speed = _speed({"fp32": (full, reader), "int8": (made, small)}, origin.metadata["shape"])
        advance(1)
    package = "onnxruntime" if form == "onnx" else "torch"
    return ExportReport(
        form=f"{form}-int8" if quantize else form,
        images=len(test),
        accuracy=accuracy(expected, test.labels),
        checks=checks,
        runtime=f"{package} {version(package)}",
        size_bytes=made.stat().st_size,
        sha256=sha256(made),
        model={key: value for key, value in origin.metadata.items() if key not in ("classes", "shape")},
        speed=speed,
    )


def _write(origin: ExportSource, form: Form, path: Path) -> None:
    match form:
        case "onnx":
            write_onnx(origin.program(), origin.metadata, path)
        case "pt2":
            write_pt2(origin.program(), origin.metadata, path)
        case "pth":
            write_pth(origin.module()[0], path)
        case "safetensors":
            write_safetensors(origin.module()[0], path)


def _read(origin: ExportSource, form: Form, path: Path) -> LogitsFunction:
    """Read the exported file as its recipient would."""
    match form:
        case "onnx":
            return read_onnx(path)
        case "pt2":
            return read_pt2(path)
        case "pth" | "safetensors":
            return read_state_dict(path, origin.module()[1])


def _compare(
    model: LogitsFunction, expected: Tensor, test: Split, what: str, display: Progress
) -> tuple[Agreement, ...]:
    return tuple(compare(model, expected, test, lambda size: _bar(display, f"{what}, {size} at once", len(test))))


def _speed(files: Mapping[str, tuple[Path, LogitsFunction]], shape: list[int]) -> dict[str, dict[str, float]]:
    models = [model for _, model in files.values()]
    found = zip(files.items(), latencies(models, shape), throughputs(models, shape), strict=True)
    return {
        name: {
            "size_bytes": path.stat().st_size,
            "p50_ms": latency.p50_ms,
            "p95_ms": latency.p95_ms,
            "images_per_second": images_per_second,
        }
        for (name, (path, _)), latency, images_per_second in found
    }


def _bar(display: Progress, what: str, total: int) -> Callable[[int], None]:
    task = display.add_task(what, total=total, note="")
    return lambda done: display.advance(task, done)
