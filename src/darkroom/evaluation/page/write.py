"""Write the report of an evaluation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.evaluation.metrics import Evaluation, Floats
from darkroom.evaluation.neighbors import TrainNeighbors
from darkroom.evaluation.page import tables
from darkroom.evaluation.page.choice import judge
from darkroom.evaluation.page.pictures import NamedImages, draw
from darkroom.evaluation.reference import Reference, calibrated
from darkroom.evaluation.slices import Slice
from darkroom.pages import render
from darkroom.pages.images import figure_uri

STYLES = ("page.css", "detail.css")
SCRIPTS = ("charts.js", "tables.js", "matrix.js", "detail.js", "images.js")
# The section that each is in, its file, and what it is to people who do not see it.
FIGURES = (
    (
        "heat-maps",
        "explained_mistakes.png",
        "The most confident mistakes, with maps of the wrong and the true class",
    ),
    ("heat-maps", "class_maps.png", "The mean heat map of each class"),
    ("robustness", "robustness.png", "Accuracy on corrupted images, by corruption and strength; robustness.csv has it"),
)


def write_report(
    path: Path,
    found: Evaluation,
    logits: Floats,
    images: NamedImages,
    neighbors: TrainNeighbors | None,
    *,
    classes: Sequence[str],
    about: Mapping[str, str],
    reference: Reference,
    bins: int,
    slices: Sequence[Slice] = (),
    warnings: Sequence[str] = (),
    notes: Sequence[str] = (),
    curves: Mapping[str, Any] | None = None,
    sets: NDArray[np.bool_] | None = None,
    figures: Path | None = None,
) -> None:
    """Write the report of ``found``, which comes from ``logits`` [N, classes], to ``path``.

    ``about`` says what was evaluated, by name; ``bins`` are those of the calibration. ``curves`` are of the training,
    as ``tables.read_curves`` gives them, ``sets`` bool [N, classes] are prediction sets, and ``figures`` is where
    FIGURES are, as far as they were drawn: the page has no place for what is not there. Without ``neighbors`` it says
    so.
    """
    probabilities = calibrated(logits, reference.temperature)
    correct = found.predicted == found.labels
    judged = judge(found, probabilities, logits)
    data = {
        "about": dict(about),
        "warnings": list(warnings),
        "notes": list(notes),
        "classes": list(classes),
        "total": len(found.labels),
        "metrics": tables.metric_rows(found.summary),
        "cells": tables.confusion_cells(found),
        "perClass": tables.class_rows(found.per_class),
        "calibration": {
            "temperature": reference.temperature,
            "own": tables.calibration_bins(found.confidence, correct, bins),
            "calibrated": tables.calibration_bins(1 - judged.doubt, correct, bins),
        },
        "slices": tables.slice_rows(slices),
        "slicesTotal": len(slices),
        "curves": curves,
        "sets": None if sets is None else tables.set_sizes(sets, found),
        "figures": [
            {"section": section, "says": says, "source": figure_uri(figures / name)}
            for section, name, says in FIGURES
            if figures and (figures / name).is_file()
        ],
        "unlikeAbove": reference.energy_threshold,
        "trainSize": len(neighbors.train) if neighbors else 0,
        **draw(found, judged, probabilities, images, neighbors, sets),
    }
    render.write_page(path, "darkroom.evaluation.page", "Darkroom: evaluation", data, styles=STYLES, scripts=SCRIPTS)
