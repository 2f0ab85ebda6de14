"""`darkroom lr-find`: try increasing learning rates with the current settings, and plot the loss."""

from darkroom import plotting
from darkroom.config import Config
from darkroom.data.batches import read_split
from darkroom.data.cache import DatasetCard
from darkroom.evaluation.training_curves import lr_curve
from darkroom.features.head import open_head, start_head
from darkroom.features.task import head_config
from darkroom.promotion.training_setup import set_up_training
from darkroom.training.fit import start_classifier
from darkroom.training.lr_finder import find_lr
from darkroom.utils.console import output, progress
from darkroom.utils.csv_files import write_csv
from darkroom.utils.files import atomic_directory, write_json
from darkroom.workspace import Workspace


def run(config: Config, workspace: Workspace, steps: int) -> None:
    """Write reports/lr-find and print the suggestion; params.yaml is not changed.

    The precision is the one in which `darkroom train` would train.

    Raises CacheError, ModelError, ConfigError, TrackingError or TrainingError.
    """
    directory = workspace.processed(config.dataset.name)
    card = DatasetCard.read(directory)
    config, device, _ = set_up_training(config, workspace, card)
    if head := open_head(config, workspace, card, device):
        train = head.features.train
        classifier, tried = start_head(config, head.features, device), head_config(config)
    else:
        train = read_split(directory, card, "train")
        classifier, tried = start_classifier(config, card, train, device), config
    with progress() as display:
        task = display.add_task("lr-find", total=steps, note="")
        curve = find_lr(
            classifier,
            train,
            tried.train,
            tried.augment,
            device,
            steps=steps,
            on_step=lambda: display.advance(task),
        )
    report = workspace.report("lr-find")
    with atomic_directory(report) as written:
        write_json(written / "suggestion.json", {"lr": curve.suggestion, "steps": len(curve.rates)})
        write_csv(written / "curve.csv", ["lr", "loss"], zip(curve.rates, curve.losses, strict=True))
        plotting.save(lr_curve(curve.rates, curve.losses, curve.suggestion, config.train.lr), written / "curve.png")
    output.print(
        f"suggested train.lr: {curve.suggestion:.2g} (now {config.train.lr:g}), where the loss falls fastest over "
        f"{len(curve.rates)} steps; the curve is {report / 'curve.png'}"
    )
