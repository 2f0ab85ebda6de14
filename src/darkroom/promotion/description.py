"""The descriptions of runs, models and versions on MLflow's pages: the result, and the gate's verdict."""

from collections.abc import Mapping
from typing import Any

from darkroom.errors import counted
from darkroom.models.card import ModelCard
from darkroom.tracking.runs import MODEL_TRAINING

# The beginnings of texts that Darkroom wrote: all others are a user's.
RESULT = "Test accuracy"
VERDICT = "The gate: **"


def result(summary: Mapping[str, Any], card: ModelCard, training: str, experiment_id: str, run_id: str) -> str:
    """The headline in Markdown: the metrics of the test split, the name of the training, and its confusion matrix.

    Its links work on every page of MLflow that shows it.
    """
    data = card.dataset_card
    files = f"#/experiments/{experiment_id}/runs/{run_id}/artifacts/evaluate"
    matrix, mistakes = (f"{files}/{name}.png{MODEL_TRAINING}" for name in ("confusion_matrix", "worst_mistakes"))
    low, high = summary["accuracy_low"], summary["accuracy_high"]
    test = f"{counted(data.sizes['test'], 'image')} of {data.name}"
    # The links stand at the top: MLflow hides the end of a longer description until it is asked for.
    leaked = ""
    if "accuracy_without_leaked" in summary:
        leaked = (
            f"; {summary['accuracy_without_leaked']:.4f} without the "
            f"{counted(int(summary['leaked_images']), 'test image')} whose picture is in train or val too"
        )
    return (
        f"{RESULT} **{summary['accuracy']:.4f}**, 95 % interval {low:.4f} to {high:.4f}, on {test}{leaked}. "
        f"[Confusion matrix]({matrix}), [worst mistakes]({mistakes})\n\n"
        f"{training}; best epoch {card.best_epoch['epoch']}."
    )


def updated(text: str | None, *, result: str = "", verdict: str = "") -> str:
    """``text`` with its result or verdict replaced; text that a user wrote is kept."""
    if text and not text.startswith((RESULT, VERDICT)):
        return text
    paragraphs = (text or "").split("\n\n")
    # By its paragraph: the name of the run, in the result, may hold the same words.
    at = next((at for at, each in enumerate(paragraphs) if each.startswith(VERDICT)), len(paragraphs))
    parts = (result or "\n\n".join(paragraphs[:at]), verdict or "\n\n".join(paragraphs[at:]))
    return "\n\n".join(part for part in parts if part)
