"""`darkroom compare`: two models of the registry on the same test images, as a table, as files and in MLflow."""

from pathlib import Path

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from darkroom import plotting
from darkroom.config import Config
from darkroom.errors import ModelError, TrackingError
from darkroom.evaluation import comparison_plots
from darkroom.evaluation.comparison import least_images
from darkroom.evaluation.comparison_report import DISAGREEMENT, ComparisonReport, Side, disagreement_rows
from darkroom.evaluation.latency import latencies, throughputs
from darkroom.evaluation.pairing import Pairing
from darkroom.promotion.evaluated_model import EvaluatedModel, load_evaluated_model, pair
from darkroom.promotion.gate import Verdict, evaluate_gate
from darkroom.promotion.registration import is_active
from darkroom.promotion.registry import Contender
from darkroom.promotion.working_tree import resolve
from darkroom.tracking.runs import WEIGHTS_TAG
from darkroom.tracking.tracker import registry_client
from darkroom.utils.console import messages, output
from darkroom.utils.csv_files import write_spreadsheet
from darkroom.utils.files import atomic_directory, write_json
from darkroom.utils.scratch import scratch_directory
from darkroom.workspace import Workspace

SHOWN_CLASSES = 5


def run(config: Config, workspace: Workspace, a: str, b: str, *, as_json: bool) -> None:
    """Compare two models, print the result, and write it to reports/compare and to the second model's run.

    ``a`` and ``b`` are versions, aliases or ids of runs. Raises TrackingError if one does not exist, is not as it was
    registered, or if they cannot be paired.
    """
    client = registry_client(workspace)
    contenders = [resolve(client, config.registered_model, each, workspace) for each in (a, b)]
    if _are_the_same(*contenders):
        raise TrackingError(
            f"{a} and {b} are the same model, {contenders[0]}; name two that differ (`darkroom models` lists them)"
        )
    with scratch_directory() as place:
        first, second = (load_evaluated_model(client, each, place) for each in contenders)
        pairing = _pair(first, second, config.gate.alpha)
        verdict = _gate_verdict(config, workspace, first, second)
        report = _report(config, pairing, first, second, verdict)
        directory = workspace.report("compare")
        with atomic_directory(directory) as written:
            _write(report, verdict, written)
            _draw_disagreements(report, pairing, second, workspace.processed(config.dataset.name), written)
    left, right = (each.version or each.run_id for each in contenders)
    written_to = f"{directory} holds the report and the images"
    if is_active(client, contenders[1].run_id):
        client.log_artifacts(contenders[1].run_id, str(directory), f"compare/{left}-{right}")
        written_to += f"; also with {contenders[1]} in MLflow"
    if as_json:
        typer.echo((directory / "comparison.json").read_text(encoding="utf-8"), nl=False)
    else:
        _show(report)
    messages.print(f"compare: {written_to}")


def _are_the_same(a: Contender, b: Contender) -> bool:
    weights = a.tags.get(WEIGHTS_TAG)
    return a.uri == b.uri or bool(weights and weights == b.tags.get(WEIGHTS_TAG))


def _pair(a: EvaluatedModel, b: EvaluatedModel, alpha: float) -> Pairing:
    try:
        found = pair(a, b)
    except ValueError as problem:
        raise TrackingError(f"{a.contender} and {b.contender} cannot be compared: {problem}") from None
    needed = least_images(alpha)
    if a.fingerprint != b.fingerprint and len(found.rows) < needed:
        raise TrackingError(
            f"{a.contender} and {b.contender} are of different data ({a.fingerprint[:12]} and {b.fingerprint[:12]}): "
            f"{found.found}, and {needed} are the fewest that can show a difference at gate.alpha {alpha:g}; `darkroom "
            f"data-diff {_reference(a)} {_reference(b)}` shows what differs; train one again on the other's data"
        )
    return found


def _reference(model: EvaluatedModel) -> str:
    return model.contender.version or model.contender.run_id


def _gate_verdict(config: Config, workspace: Workspace, a: EvaluatedModel, b: EvaluatedModel) -> Verdict | None:
    """The verdict of the gate on ``b`` if ``a`` were champion; None unless both are versions."""
    if not (a.contender.version and b.contender.version):
        return None
    cache = workspace.processed(config.dataset.name)
    try:
        return evaluate_gate(config.gate, b, a, bins=config.evaluate.calibration_bins, cache=cache)
    except (ModelError, TrackingError) as problem:
        messages.print(f"compare: the gate was not evaluated ({problem})")
        return None


def _report(
    config: Config, pairing: Pairing, a: EvaluatedModel, b: EvaluatedModel, verdict: Verdict | None
) -> ComparisonReport:
    models, shapes = [each.load() for each in (a, b)], [each.shape for each in (a, b)]
    speeds = zip(latencies(models, *shapes), throughputs(models, *shapes), strict=True)
    first, second = (
        Side(_short(each.contender), each.contender.run_id, each.size_bytes, *speed)
        for each, speed in zip((a, b), speeds, strict=True)
    )
    checks = [(check.name, check.value, check.required, check.verdict) for check in (verdict.checks if verdict else ())]
    shared = pairing if a.fingerprint != b.fingerprint else None
    alpha, bins = config.gate.alpha, config.evaluate.calibration_bins
    return ComparisonReport(pairing.comparison, first, second, alpha, bins, checks, shared)


def _short(contender: Contender) -> str:
    return str(contender) if contender.version else f"run {contender.run_id[:8]}"


def _write(report: ComparisonReport, verdict: Verdict | None, directory: Path) -> None:
    found = report.comparison
    names = (report.a.name, report.b.name)
    write_json(directory / "comparison.json", report.as_json() | {"gate": verdict.as_json() if verdict else None})
    (directory / "comparison.md").write_text(report.markdown(), encoding="utf-8")
    first, second = found.confusions
    write_spreadsheet(
        directory / "confusion_difference.csv",
        ["true \\ predicted", *found.a.classes],
        ([name, *row] for name, row in zip(found.a.classes, (second - first).tolist(), strict=True)),
    )
    plotting.save(comparison_plots.confusion_difference(found, names), directory / "confusion_difference.png")
    write_spreadsheet(directory / "disagreements.csv", DISAGREEMENT, disagreement_rows(found))


def _draw_disagreements(
    report: ComparisonReport, pairing: Pairing, model: EvaluatedModel, cache: Path, directory: Path
) -> None:
    try:
        images = model.test_split(cache).pixels
    except TrackingError as problem:
        messages.print(f"compare: the images on which they disagree are not drawn ({problem})")
        return
    names = (report.a.name, report.b.name)
    figure = comparison_plots.disagreements(images, report.comparison, names, places=pairing.rows)
    plotting.save(figure, directory / "disagreements.png")


def _show(report: ComparisonReport) -> None:
    a, b = report.a.name, report.b.name
    output.print(report.headline)
    for header, rows in (
        (("", a, b, "change"), report.metrics_table),
        (("test images", f"{b} right", f"{b} wrong"), report.table),
        (("recall that changed most", a, b, "change"), report.classes[:SHOWN_CLASSES]),
        (("the gate", "found", "required", "verdict"), report.checks),
    ):
        if rows:
            table = Table(*header, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
            for row in rows:
                table.add_row(*row)
            output.print(table)
    output.print(f"{report.tests} {report.conditions}")
    if report.scope:
        output.print(report.scope)
