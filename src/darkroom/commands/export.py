"""`darkroom export`: write a model to a file, which appears at its path only after the check."""

import shutil
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from darkroom.config import Config
from darkroom.errors import ModelError
from darkroom.evaluation.latency import LARGE_BATCH
from darkroom.export.exporter import ExportReport, Form, export_model
from darkroom.export.source import ExportSource, from_registry, from_working_tree
from darkroom.formats.onnx import check_installed
from darkroom.models.card import ModelCard, save_card
from darkroom.utils.console import output, progress
from darkroom.utils.files import atomic_file, write_json
from darkroom.utils.scratch import scratch_directory
from darkroom.utils.signals import held_back
from darkroom.utils.units import MEGABYTE
from darkroom.workspace import Workspace

# The forms that need a card beside them.
WEIGHTS = ("pth", "safetensors")


def run(
    config: Config, workspace: Workspace, form: Form, *, reference: str | None, quantize: bool, to: Path | None
) -> None:
    """Export the model ``reference``, by default the one in the working tree, to ``to``.

    Raises ModelError if the file does not give the model's answers, and another DarkroomError if the model, its test
    images or a package is missing. In both cases nothing is written.
    """
    if quantize and form != "onnx":
        raise ModelError(f"--quantize: of onnx only, not of {form}; leave it out, or choose --format onnx")
    if to and to.suffix != f".{form}":
        raise ModelError(f"{to}: the name of a file in the format {form} ends in .{form}")
    if form == "onnx":
        check_installed()
    with scratch_directory() as place:
        origin = (
            from_registry(config, workspace, reference, place) if reference else from_working_tree(config, workspace)
        )
        to = to or workspace.exported / f"{origin.stem}{'-int8' if quantize else ''}.{form}"
        card = origin.module()[1] if form in WEIGHTS else None
        _check_place(workspace, to, card)
        made = place / to.name
        with progress() as display:
            report = export_model(origin, form, quantize, made, workspace.processed(origin.data), display)
        _put(made, to, report, card)
    if origin.taken:
        from darkroom.promotion.export_record import record_export

        record_export(workspace, config.registered_model, origin.taken, report.form, report.line, report.as_json())
    _show(origin, to, report, card)


def _check_place(workspace: Workspace, to: Path, card: ModelCard | None) -> None:
    """Refuse to overwrite anything but an earlier export."""
    beside = to.with_suffix(".json")
    kept = {path.resolve() for path in (workspace.weights, workspace.model_card)}
    if to.resolve() in kept or (card and beside.resolve() in kept):
        raise ModelError(f"{to}: the trained model and its card are there; give --output another name")
    if to.is_dir():
        raise ModelError(f"{to}: a directory; give --output the name of a file")
    if not card or not beside.exists():
        return
    try:
        described = ModelCard.read(beside)
    except ModelError:
        raise ModelError(f"{beside}: the card of {to.name} goes there, but another file is there") from None
    others = [other for form in WEIGHTS if (other := to.with_suffix(f".{form}")) != to and other.exists()]
    if others and described.weights_sha256 != card.weights_sha256:
        raise ModelError(f"{beside}: the card of other weights, {others[0].name}; give --output another name")


def _put(made: Path, to: Path, report: ExportReport, card: ModelCard | None) -> None:
    with held_back():  # a file and what belongs to it
        write_json(_check_file(to), report.as_json())
        if card:
            save_card(card, to.with_suffix(".json"))
        with atomic_file(to) as partial:
            shutil.copyfile(made, partial)


def _check_file(to: Path) -> Path:
    return to.with_name(f"{to.name}.check.json")


def _show(origin: ExportSource, to: Path, report: ExportReport, card: ModelCard | None) -> None:
    table = Table("", "largest logit difference", "other answers", "accuracy", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_row("torch, fp32", "", "", f"{report.accuracy:.4f}")
    for each in report.checks:
        found = f"{each.largest_logit_difference:.2g}", f"{each.differing_answers:,}", f"{each.accuracy:.4f}"
        table.add_row(f"{report.form}, {each.batch_size} at once", *found)
    output.print(table)
    if report.speed:
        table = Table("", "size", "one image p50", "p95", f"{LARGE_BATCH} at once", box=SIMPLE_HEAD)
        for name, speed in report.speed.items():
            table.add_row(
                name,
                f"{speed['size_bytes'] / MEGABYTE:.3f} MB",
                f"{speed['p50_ms']:.3f} ms",
                f"{speed['p95_ms']:.3f} ms",
                f"{speed['images_per_second']:,.0f} images/s",
            )
        output.print(table)
    beside = f"{_check_file(to).name}: the check" + (f"; {to.with_suffix('.json').name}: its card" if card else "")
    output.print(
        f"{to}: {origin.name}, {report.size_bytes / MEGABYTE:.2f} MB, checked on {report.images:,} test images; "
        f"{beside}"
    )
