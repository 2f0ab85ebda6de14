"""`darkroom reproduce`: train a run again from its settings, code and data, and compare the results."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from darkroom.commands.checkout import Checkout, bring_code, bring_data, bring_settings
from darkroom.config import Config
from darkroom.errors import ModelError, TrackingError
from darkroom.promotion.training_run import TrainingRun, read_training_run
from darkroom.tracking.tracker import registry_client
from darkroom.tracking.tracking_uri import store_exists, tracking_uri
from darkroom.utils.console import messages, output
from darkroom.utils.files import read_json
from darkroom.utils.scratch import scratch_directory
from darkroom.workspace import Workspace

BEST = ("epoch", "val_accuracy", "val_loss")
# Those that no setting of the evaluation goes into: a run does not hold them.
TEST = ("accuracy", "f1_macro", "log_loss")
# What may change the bits of a training, of what a run says of its machine.
ENVIRONMENT = (
    "device",
    "device_name",
    "devices",
    "precision",
    "threads",
    "features_by",
    "torch",
    "torchvision",
    "numpy",
    "python",
    "platform",
)


def run(config: Config, workspace: Workspace, run_id: str) -> bool:
    """Train the run again in a temporary directory with a separate store, and print both results.

    Returns whether weights and metrics are equal, bit for bit. Raises TrackingError, DataError or TrainingError if
    the run cannot be trained again.
    """
    if not store_exists():
        raise TrackingError(f"no MLflow store at {tracking_uri()}; MLFLOW_TRACKING_URI names the one that has the run")
    then = read_training_run(registry_client(workspace), run_id)
    with scratch_directory() as directory:
        source, doubts = bring_code(then, workspace, directory / "code")
        checkout = Checkout(then, Workspace(directory / "project"), source)
        bring_settings(then, config, workspace, checkout)
        bring_data(then, workspace, checkout)
        messages.print(f"reproduce: trains {then} again")
        checkout.darkroom("train")
        if f"test/{TEST[0]}" in then.metrics:
            checkout.darkroom("evaluate")
        rows, environment = _outcome(then, checkout.workspace)
    output.print(_table(then, rows))
    is_equal = all(before == now for _, before, now in rows)
    if is_equal:
        output.print("Reproduced: the same weights and metrics, bit for bit.")
    else:
        output.print(f"Not reproduced. {_reasons(then, environment, doubts)}")
    return is_equal


def _outcome(then: TrainingRun, workspace: Workspace) -> tuple[list[tuple[str, Any, Any]], Mapping[str, Any]]:
    """The results as (name, then, now), and the current environment."""
    card = read_json(workspace.model_card, error=ModelError, made_by="darkroom train")
    found = {f"best/{key}": card["best_epoch"][key] for key in BEST}
    report = workspace.report("evaluate") / "metrics.json"
    if report.exists():
        summary = read_json(report, error=ModelError, made_by="darkroom evaluate")
        found |= {f"test/{key}": summary[key] for key in TEST}
    rows: list[tuple[str, Any, Any]] = [
        (name, then.metrics[name], now) for name, now in found.items() if name in then.metrics
    ]
    rows.append(("weights' SHA-256", then.weights_sha256, card["weights_sha256"]))
    return rows, card["facts"]


def _table(then: TrainingRun, rows: list[tuple[str, Any, Any]]) -> Table:
    model, data = then.settings["model"]["name"], then.settings["dataset"]["name"]
    table = Table(
        "metric", "then", "now", "", box=SIMPLE_HEAD, title=f"{model} on {data}, {then}", title_justify="left"
    )
    for name, before, now in rows:
        table.add_row(name, _shown(before), _shown(now), "equal" if before == now else "DIFFERS")
    return table


def _shown(value: Any) -> str:
    return value[:12] if isinstance(value, str) else f"{value:.10g}"


def _reasons(then: TrainingRun, environment: Mapping[str, Any], doubts: list[str]) -> str:
    """The possible reasons why the result is not identical, in a sentence."""
    differing = [
        f"{name.replace('_', ' ')} {then.environment[key]} then, {environment[key]} now"
        for name in ENVIRONMENT
        if (key := f"system.{name}") in then.environment
        and key in environment
        and str(environment[key]) != then.environment[key]
    ]
    if environment.get("system.device") != "cpu" and not then.settings["train"].get("deterministic"):
        differing.append("train.deterministic is false: on a GPU two trainings differ")
    differing += doubts
    if not differing:
        return "The environment that the run recorded is the same here; a different processor may be the reason."
    return f"Differences: {'; '.join(differing)}."
