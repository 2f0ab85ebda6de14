"""The files with the metrics, the confusion matrix and the plots of an evaluation."""

from collections.abc import Sequence
from pathlib import Path

from darkroom import plotting
from darkroom.data.batches import Pixels
from darkroom.errors import counted
from darkroom.evaluation import plots
from darkroom.evaluation.gallery import write_gallery
from darkroom.evaluation.metrics import Evaluation
from darkroom.evaluation.slices import Slice
from darkroom.utils.csv_files import write_spreadsheet
from darkroom.utils.files import write_json


def write_outputs(
    found: Evaluation, images: Pixels, classes: Sequence[str], slices: Sequence[Slice], directory: Path
) -> None:
    """Write the files into ``directory``; ``images`` are those of the test split."""
    write_json(directory / "metrics.json", found.summary)
    write_json(directory / "per_class.json", found.per_class)
    write_json(directory / "confusion_matrix.json", {"classes": classes, "counts": found.confusion.tolist()})
    (directory / "classification_report.txt").write_text(found.report, encoding="utf-8")
    write_spreadsheet(
        directory / "confusion_matrix.csv",
        ["true \\ predicted", *classes],
        ([name, *row] for name, row in zip(classes, found.confusion.tolist(), strict=True)),
    )
    write_gallery(images, found, classes, directory)
    title = (
        f"Accuracy {found.summary['accuracy']:.2%} on {counted(len(found.labels), 'test image')}\n"
        f"95 % interval {found.summary['accuracy_low']:.2%} to {found.summary['accuracy_high']:.2%}"
    )
    for name, figure in (
        ("confusion_matrix", plots.confusion_matrix(found.confusion, classes, title)),
        ("class_scores", plots.class_scores(found.per_class)),
        ("predictions", plots.prediction_grid(images, found, classes)),
        ("worst_mistakes", plots.worst_mistakes(images, found, classes)),
        *([("slices", plots.slice_accuracies(slices, found.summary["accuracy"]))] if slices else []),
    ):
        plotting.save(figure, directory / f"{name}.png")
