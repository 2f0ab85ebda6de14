"""Pictures of a search."""

import math
from typing import TYPE_CHECKING

from optuna import Study
from optuna.study import StudyDirection
from optuna.trial import TrialState

from darkroom.drawing import BLUE, GREY, ORANGE, RED, count_along_x, new_figure, tidy
from darkroom.search.study import used_trials

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def history(study: Study, monitor: str) -> "Figure":
    """The value of each trial in the order they ran, with the best so far as a line."""
    figure = new_figure(8, 4)
    axes = figure.subplots()
    trials = used_trials(study)
    order = {trial.number: position for position, trial in enumerate(trials, 1)}
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    pruned = [trial for trial in trials if trial.state is TrialState.PRUNED and trial.value is not None]
    failed = [trial for trial in trials if trial.state is TrialState.FAIL]
    for group, colour, marker, name in ((complete, BLUE, "o", "complete"), (pruned, GREY, "x", "pruned")):
        axes.scatter(
            [order[t.number] for t in group], [t.value or 0.0 for t in group], c=colour, marker=marker, label=name
        )
    for trial in failed:
        axes.axvline(order[trial.number], color=RED, linestyle=":", label="failed" if trial is failed[0] else None)
    maximise = study.direction is StudyDirection.MAXIMIZE
    best, line = -math.inf if maximise else math.inf, []
    for trial in complete:
        best = (max if maximise else min)(best, trial.value or 0.0)
        line.append(best)
    axes.step([order[t.number] for t in complete], line, where="post", color=ORANGE, label="best so far")
    tidy(axes, "Validation figure of each trial", "trial", f"best validation {monitor}")
    count_along_x(axes)
    axes.legend(frameon=False)
    return figure


def importances(study: Study) -> "Figure | None":
    """The share of the variation that each setting explains (fANOVA); None if that cannot be said.

    Hutter, Hoos and Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter Importance", ICML 2014.
    """
    # It imports scikit-learn, which takes seconds that the trials need not wait for.
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < 2 or len({trial.value for trial in complete}) < 2:
        return None
    try:
        shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    except RuntimeError:  # the settings explain nothing: the forest found no variance
        return None
    names, values = list(shares)[::-1], list(shares.values())[::-1]
    figure = new_figure(8, 1.4 + 0.45 * len(names))
    axes = figure.subplots()
    bars = axes.barh(names, values, color=BLUE, height=0.6)
    axes.bar_label(bars, [f"{value:.0%}" for value in values], padding=4)
    tidy(axes, f"What mattered in {len(complete)} complete trials", "share of the variation explained (fANOVA)")
    axes.set_xlim(0, 1.08)
    return figure
