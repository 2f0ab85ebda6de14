"""The history of a training, as a CSV file and as a plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom.plotting import BLUE, GRAY, GREEN, ORANGE, count_along_x, new_figure, tidy
from darkroom.utils.csv_files import read_csv, write_csv

if TYPE_CHECKING:
    from matplotlib.figure import Figure

History = Sequence[Mapping[str, Any]]
HISTORY = "history.csv"


def write_history(history: History, path: Path) -> None:
    """Write one row an epoch, with the fields of ``EpochMetrics`` as columns."""
    columns = list(history[0])
    write_csv(path, columns, ([row[column] for column in columns] for row in history))


def read_history(path: Path) -> list[dict[str, float]]:
    """The epochs that ``write_history`` wrote."""
    return [{key: float(value) for key, value in row.items()} for row in read_csv(path)]


def learning_curves(history: History, best_epoch: int, *, label_smoothing: float = 0.0) -> "Figure":
    """Loss and accuracy of train and validation over the epochs, the best epoch marked.

    Smoothed labels raise the training loss but not the validation loss; the legend then says so.
    """
    figure = new_figure(10, 4)
    epochs = [row["epoch"] for row in history]
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        train = "train (smoothed labels)" if label_smoothing and name == "loss" else "train"
        for split, label, color in (("train", train, BLUE), ("val", "validation", ORANGE)):
            values = [row[f"{split}_{name}"] for row in history]
            axes.plot(epochs, values, color=color, label=label, marker="o", markersize=3, linewidth=1.8)
        axes.axvline(best_epoch, color=GRAY, linestyle=":", label=f"best epoch ({best_epoch})")
        tidy(axes, name.capitalize(), "epoch", "nats" if name == "loss" else "share of images")
        if len(epochs) == 1:
            axes.set_xlim(epochs[0] - 1, epochs[0] + 1)  # or the ticks would be fractions of an epoch
        count_along_x(axes)
        axes.legend(facecolor="white", edgecolor="none", framealpha=1)
    return figure


def lr_curve(rates: Sequence[float], losses: Sequence[float], suggestion: float, present: float) -> "Figure":
    """Training loss over the learning rate of a range test, with the suggested and the present rate marked."""
    figure = new_figure(7, 4)
    axes = figure.subplots()
    axes.plot(rates, losses, color=BLUE, linewidth=1.8)
    axes.axvline(suggestion, color=GREEN, linestyle="--", label=f"suggestion {suggestion:.2g}")
    axes.axvline(present, color=GRAY, linestyle=":", label=f"train.lr now {present:g}")
    axes.set_xscale("log")
    tidy(axes, "Loss at rising learning rates", "learning rate", "training loss, smoothed")
    axes.legend(facecolor="white", edgecolor="none", framealpha=1)
    return figure
