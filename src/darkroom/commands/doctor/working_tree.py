"""Whether the files of the working tree belong together."""

from collections.abc import Iterator
from pathlib import Path

from darkroom.commands.doctor.finding import Finding, wrong
from darkroom.config import Config
from darkroom.config.addresses import is_address
from darkroom.data.cache import CARD, DatasetCard
from darkroom.datasets.remote.stores import missing_packages
from darkroom.evaluation.report import read_identity, read_metrics
from darkroom.models.card import ModelCard
from darkroom.promotion.working_tree import working_tree_digest
from darkroom.search.best_params import read_best_params
from darkroom.workspace import Workspace

AREA = "working tree"


def check_search(config: Config, workspace: Workspace) -> Iterator[Finding]:
    """Raises SearchError if the file was not written by a search."""
    if workspace.best_params.exists():
        read_best_params(workspace.best_params, config)
        yield Finding(AREA, f"{workspace.best_params}: settings that can be trained with")


def check(config: Config, workspace: Workspace) -> Iterator[Finding]:
    """Raises CacheError or ModelError for files that do not belong together."""
    cache, images_in = workspace.processed(config.dataset.name), workspace.root / config.dataset.path
    if config.dataset.name == "folder" and is_address(config.dataset.path):
        if missing := missing_packages(config.dataset.path):
            yield wrong(AREA, f"dataset.path: {missing}")
    elif config.dataset.name == "folder" and not images_in.exists():
        # DVC says no more than "No such file or directory", and takes ~ for a name.
        meant = Path(config.dataset.path).expanduser()
        yield wrong(
            AREA,
            f"dataset.path: {config.dataset.path}: not found; "
            + (
                f"DVC needs its whole path, {meant}"
                if meant.exists()
                else "put it back, or set dataset.path to where the images are now"
            ),
        )
    if not (cache / CARD).exists():
        yield Finding(AREA, f"{cache}: nothing preprocessed yet; `dvc repro` begins")
    else:
        data = DatasetCard.read(cache)
        images = sum(data.sizes.values())
        yield Finding(AREA, f"{cache}: {images:,} images in {len(data.classes):,} classes, {data.fingerprint[:12]}")
    if not workspace.model_card.exists() and not workspace.weights.exists():
        yield Finding(AREA, f"{workspace.weights}: no model yet; `dvc repro` trains one")
        return
    weights = working_tree_digest(workspace)
    yield Finding(AREA, f"{workspace.weights}: as {workspace.model_card} describes it, {weights[:12]}")
    report = workspace.report("evaluate")
    if not report.exists():
        yield Finding(AREA, f"{report}: the model is not evaluated yet; `dvc repro` does that")
        return
    read_identity(report, ModelCard.read(workspace.model_card))
    read_metrics(report)
    yield Finding(AREA, f"{report}: an evaluation of these weights")
