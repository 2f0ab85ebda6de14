"""Write the run of a model that was trained elsewhere, from the files in the working tree."""

import csv

import numpy as np

from darkroom.data.batches import read_split
from darkroom.data.shards import MADE_BY as PREPROCESS
from darkroom.errors import CacheError, ModelError
from darkroom.evaluation.training_curves import read_history
from darkroom.models.card import MADE_BY, ModelCard
from darkroom.models.files import load_classifier
from darkroom.tracking.environment import COMMIT_TAG, DIRTY_TAG
from darkroom.tracking.logged_model import log_model
from darkroom.tracking.names import training_name
from darkroom.tracking.runs import EXAMPLE_IMAGES, RUN_TAG, epoch_metrics, log_training
from darkroom.tracking.store import Store
from darkroom.utils.console import messages
from darkroom.utils.files import need_directory, need_output, read_json
from darkroom.workspace import Workspace


def rebuild_run(store: Store, workspace: Workspace, card: ModelCard) -> tuple[str, str]:
    """Write the run of the model in models/ from the files: the store lacks it, or has only a part of it.

    Returns the run's ID, and the URI that MLflow loads its model from. Raises ModelError if a file is missing or
    damaged.
    """
    classifier, _ = load_classifier(workspace.weights, workspace.model_card)
    preprocess, report = workspace.report("preprocess"), workspace.report("train")
    need_directory(preprocess, error=ModelError, made_by=PREPROCESS)
    history, metrics_file = (
        need_output(report / name, error=ModelError, made_by=MADE_BY) for name in ("history.csv", "metrics.json")
    )
    try:
        epochs = {int(epoch["epoch"]): epoch_metrics(epoch) for epoch in read_history(history)}
        summary = read_json(metrics_file, error=ModelError, made_by=MADE_BY)
        cost = {key: summary[f"tracking_{key}"] for key in ("seconds", "share")}
        if len(epochs) != summary["epochs"]:
            raise ValueError(f"{len(epochs)} of {summary['epochs']} epochs")
    except (KeyError, TypeError, ValueError, OverflowError, csv.Error) as problem:
        raise ModelError(f"{report}: damaged or incomplete ({problem}); run `{MADE_BY}` again") from None
    is_there = store.find(RUN_TAG, card.run_id) is not None
    lack = "lacks its model in this store; completed" if is_there else "is not in this store; rebuilt"
    messages.print(f"run {card.run_id} {lack} from the files")
    with store.start(training_name(card.settings, card.dataset_card), "train", key=card.run_id) as run:
        for epoch, metrics in epochs.items():
            run.log_metrics(metrics, step=epoch)
        if not is_there:
            # These would describe this process; the model's card has the commit of the training, if there was one.
            run.log_tags({COMMIT_TAG: "", DIRTY_TAG: ""})
        log_training(run, card, cost, [preprocess, report])
        uri = log_model(store, run.key, classifier, card, _example(workspace, card))
    return store.id_of(run.key), uri


def _example(workspace: Workspace, card: ModelCard) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Images as an example of the model's input: blank ones if only the model is here, not its data."""
    data = card.dataset_card
    try:
        return read_split(workspace.processed(data.name), data, "val").images[:EXAMPLE_IMAGES].numpy()
    except CacheError:
        return np.zeros((EXAMPLE_IMAGES, *data.shape), np.uint8)
