"""`darkroom results`: the metrics of the model in the working tree, its registration, and where to look next."""

import json
from typing import Any

import typer
from rich.table import Table

from darkroom.config import Config
from darkroom.errors import ModelError
from darkroom.evaluation.cross_validated import beside
from darkroom.evaluation.report import read_identity, read_metrics
from darkroom.models.card import ModelCard
from darkroom.promotion.lineage import other_data
from darkroom.tracking.tracking_uri import shown, store_exists, tracking_uri
from darkroom.utils.console import output, warn
from darkroom.workspace import Workspace


def run(config: Config, workspace: Workspace, *, as_json: bool) -> None:
    """Print the metrics of the last evaluation, and the registered version of the model in this store.

    Raises ModelError if there is no evaluation of this model, TrackingError if the store cannot be used.
    """
    report = workspace.report("evaluate")
    if not report.exists():
        raise ModelError(f"{report}: not found; run `dvc repro` first")
    card = ModelCard.read(workspace.model_card)
    read_identity(report, card)
    summary = read_metrics(report)
    version = _registered(config, workspace) if store_exists() else None
    if as_json:
        typer.echo(json.dumps({"metrics": summary, "registered": version}, ensure_ascii=False, indent=2))
        return
    title = f"{card.settings['model']['name']} on {card.dataset_card.name}, test split"
    table = Table("metric", "value", "95 % interval", title=title, title_justify="left")
    table.columns[1].justify = "right"
    for key, value in summary.items():
        if key.endswith(("_low", "_high")):
            continue
        low, high = (summary.get(f"{key}_{end}") for end in ("low", "high"))
        # There is none of a count, and not every report has them.
        interval = f"{low:.4f} to {high:.4f}" if low is not None and high is not None else ""
        table.add_row(key.replace("_", " "), f"{value:,}" if isinstance(value, int) else f"{value:.4f}", interval)
    output.print(table)
    if said := beside(card.dataset_card.sizes["test"], workspace.report("audit"), card.dataset_card.fingerprint):
        output.print(f"{said[0].upper()}{said[1:]}.")
    if line := other_data(config, workspace):
        warn(line)
    elif version is None:
        warn(f"{workspace.weights}: not registered in {shown(tracking_uri())}; `darkroom register` registers it")
    else:
        aliases = ", ".join(version["aliases"]) or "neither champion nor challenger"
        output.print(f"Registered as {version['name']} version {version['version']} ({aliases}).")
    output.print("Next: reports/evaluate/index.html shows the mistakes in a browser, `make ui` opens MLflow on the")
    output.print("runs, `darkroom predict IMAGE` runs the champion, params.yaml has every setting.")


def _registered(config: Config, workspace: Workspace) -> dict[str, Any] | None:
    """The version of the model in the working tree, as JSON values, with the aliases that the history gives."""
    from darkroom.promotion.aliases import reconcile_aliases
    from darkroom.promotion.working_tree import version_of, working_tree_digest
    from darkroom.tracking.tracker import registry_client

    client = registry_client(workspace)
    reconcile_aliases(client, config.registered_model)
    found = version_of(client, config.registered_model, working_tree_digest(workspace))
    return {"name": found.name, "version": str(found.version), "aliases": sorted(found.aliases)} if found else None
