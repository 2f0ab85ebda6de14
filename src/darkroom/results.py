"""The figures of the model that lies in the work tree, and where to look next."""

from rich.table import Table

from darkroom.console import output
from darkroom.errors import ModelError
from darkroom.files import read_json
from darkroom.workspace import Workspace


def show(workspace: Workspace) -> None:
    """Print what the last evaluation has written. Raises ModelError if there is none."""
    report = workspace.report("evaluate")
    summary = read_json(report / "metrics.json", error=ModelError, made_by="dvc repro")
    registered = read_json(report / "registered.json", error=ModelError, made_by="dvc repro")
    card = read_json(workspace.model_card, error=ModelError, made_by="dvc repro")
    settings = card["settings"]
    title = f"{settings['model']['name']} on {settings['dataset']['name']}, test split"
    table = Table("figure", "value", title=title, title_justify="left")
    table.columns[1].justify = "right"
    low, high = summary.pop("accuracy_low"), summary.pop("accuracy_high")
    for key, value in summary.items():
        if key == "accuracy":
            table.add_row("accuracy", f"{value:.4f}")
            table.add_row("  95 % interval", f"{low:.4f} to {high:.4f}")
            continue
        table.add_row(key.replace("_", " "), f"{value:,}" if isinstance(value, int) else f"{value:.4f}")
    output.print(table)
    aliases = ", ".join(registered["aliases"])
    output.print(f"Registered as {registered['name']} version {registered['version']} ({aliases}).")
    output.print(
        "Look next: `make ui` opens MLflow on the runs; reports/evaluate/ holds the confusion matrix and the\n"
        "predictions; `darkroom predict IMAGE` asks the champion; params.yaml holds every setting."
    )
