"""Pictures of what a search has tried and found.

They are our own: Optuna's draw through pyplot, whose state is global, and change its style for whatever comes after.
"""

import math
from collections.abc import Sequence
from itertools import accumulate
from statistics import fmean, quantiles, stdev
from typing import TYPE_CHECKING

from optuna import Study
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from darkroom.plotting import BLUE, GRAY, ORANGE, RED, count_along_x, new_figure, shorten, tidy
from darkroom.search.significance import SeedComparison
from darkroom.search.study import used_trials

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Trials on the front that are nearer to each other would have their numbers written over each other.
NUMBER_PIXELS = 20


def history(study: Study, monitor: str) -> "Figure":
    """The monitored metric of each trial by its number, with the best so far as a line."""
    figure = new_figure(8, 4)
    axes = figure.subplots()
    trials = used_trials(study)
    complete = of_state(trials, TrialState.COMPLETE)
    pruned = [trial for trial in of_state(trials, TrialState.PRUNED) if trial.values]
    failed = [trial.number for trial in of_state(trials, TrialState.FAIL)]
    for group, color, marker, name in ((complete, BLUE, "o", "complete"), (pruned, GRAY, "x", "pruned")):
        if group:
            places, values = [trial.number for trial in group], [monitored(trial) for trial in group]
            axes.scatter(places, values, c=color, marker=marker, s=26, linewidths=1, label=name)
    if failed:  # at the bottom edge, whatever the values above it
        edge = axes.get_xaxis_transform()
        axes.scatter(failed, [0.02] * len(failed), c=RED, marker="|", transform=edge, label="failed")
    best = list(accumulate((monitored(trial) for trial in complete), max if is_maximized(study) else min))
    if best:  # the line continues to the last trial, which need not be a complete one
        steps = [*(trial.number for trial in complete), trials[-1].number]
        axes.step(steps, [*best, best[-1]], where="post", color=ORANGE, label="best so far")
    shown, note = without_outliers(study, [*complete, *pruned])
    show_range(axes, [monitored(trial) for trial in shown])
    tidy(axes, f"Validation metric of each trial{note}", "trial", f"best validation {monitor}")
    last = max((trial.number for trial in trials), default=0)
    axes.set_xlim(-0.5 - 0.02 * last, last + 0.5 + 0.02 * last)
    count_along_x(axes)
    if complete or pruned or failed:
        figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure


def curves(study: Study, monitor: str) -> "Figure | None":
    """The monitored metric of each trial after each epoch, None if there is none.

    The curves of pruned and failed trials end early, with a cross.
    """
    trials = [trial for trial in used_trials(study) if trial.intermediate_values]
    if not trials:
        return None
    figure = new_figure(8, 4)
    axes = figure.subplots()
    complete = of_state(trials, TrialState.COMPLETE)
    best = (max if is_maximized(study) else min)(complete, key=monitored, default=None)
    strength = max(0.15, min(0.8, 8 / len(trials)))
    for state, color, name in (
        (TrialState.PRUNED, GRAY, "pruned"),
        (TrialState.FAIL, RED, "failed"),
        (TrialState.COMPLETE, BLUE, "complete"),
    ):
        for position, trial in enumerate(of_state(trials, state)):
            epochs, values = _curve(trial)
            axes.plot(epochs, values, color=color, alpha=strength, linewidth=1.2, label=None if position else name)
            if state is not TrialState.COMPLETE or len(epochs) == 1:  # of which no line would be seen
                end = "o" if state is TrialState.COMPLETE else "x"
                axes.plot(epochs[-1:], values[-1:], color=color, alpha=max(strength, 0.5), marker=end, markersize=4)
    if best:
        epochs, values = _curve(best)
        axes.plot(
            epochs,
            values,
            color=ORANGE,
            linewidth=2.2,
            marker="o" if len(epochs) == 1 else "",
            label=f"best (trial {best.number})",
        )
    shown, note = without_outliers(study, [trial for trial in trials if trial.values])
    show_range(axes, [value for trial in shown for value in trial.intermediate_values.values()])
    tidy(axes, f"Learning curves of the trials{note}", "epoch", f"validation {monitor}")
    count_along_x(axes)
    legend = figure.legend(loc="outside lower center", ncols=4, frameon=False)
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)
    return figure


def front(study: Study, monitor: str, second: str) -> "Figure | None":
    """The complete trials of a search with two objectives, and those of them that no other beats in both.

    ``second`` names the second objective, with its unit. None without a complete trial.
    """
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        return None
    figure = new_figure(8, 4.5)
    axes = figure.subplots()
    shown, note = without_outliers(study, complete)
    costs = [trial.values[1] for trial in shown]
    axes.scatter(costs, [monitored(trial) for trial in shown], c=GRAY, s=26, alpha=0.5, label="complete")
    numbers = {trial.number for trial in study.best_trials}
    chosen = sorted((trial for trial in shown if trial.number in numbers), key=lambda trial: trial.values[1])
    places = [(trial.values[1], monitored(trial)) for trial in chosen]
    axes.step(*zip(*places, strict=True), where="post", color=ORANGE, linewidth=1.2, marker="o", label="Pareto front")
    if 0 < 10 * min(costs) < max(costs):
        axes.set_xscale("log")
        # matplotlib's own ticks of one or two powers of ten stand so close that they cannot be read.
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
        axes.xaxis.set_minor_locator(NullLocator())
    show_range(axes, [monitored(trial) for trial in shown])
    numbered = (-math.inf, -math.inf)
    for trial, place in zip(chosen, places, strict=True):
        spot = tuple(axes.transData.transform(place))
        if math.dist(spot, numbered) > NUMBER_PIXELS:
            above = (0, 6 if is_maximized(study) else -13)
            axes.annotate(str(trial.number), place, above, textcoords="offset points", fontsize=8, ha="center")
            numbered = spot
    tidy(axes, f"What a better {monitor} costs; numbers are trials{note}", second, f"best validation {monitor}")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def repeats(comparison: SeedComparison) -> "Figure | None":
    """The metric of each candidate with each seed, with mean ± standard deviation; None if none has a value."""
    candidates = [candidate for candidate in comparison.candidates if candidate.values][::-1]
    if not candidates:
        return None
    figure = new_figure(8, 1.5 + 0.45 * len(candidates))
    axes = figure.subplots()
    for place, candidate in enumerate(candidates):
        color = ORANGE if candidate is comparison.winner else GRAY if candidate is comparison.start else BLUE
        values = candidate.values
        axes.plot(values, [place - 0.16] * len(values), "o", color=color, markersize=4, alpha=0.6)
        spread = stdev(values) if len(values) > 1 else None
        axes.errorbar(fmean(values), place + 0.1, xerr=spread, fmt="D", color=color, markersize=6, capsize=4)
    if comparison.start and comparison.start.values:
        axes.axvline(fmean(comparison.start.values), color=GRAY, linestyle="--", linewidth=1)
    names = [
        shorten(each.label, 30)
        + (" (best mean)" if each is comparison.winner else "")
        + (f" ({len(each.failures)} failed)" if each.failures else "")
        for each in candidates
    ]
    axes.set_yticks(range(len(candidates)), names)
    axes.set_ylim(-0.6, len(candidates) - 0.4)
    tidy(axes, "Trained again with other seeds: each value, mean ± sd", f"best validation {comparison.monitor}")
    axes.grid(visible=False, axis="y")
    return figure


def monitored(trial: FrozenTrial) -> float:
    """The monitored metric of a trial that has one: of two objectives, the first."""
    return float(trial.values[0])


def is_maximized(study: Study) -> bool:
    return study.directions[0] is StudyDirection.MAXIMIZE


def of_state(trials: Sequence[FrozenTrial], state: TrialState) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.state is state]


def without_outliers(study: Study, trials: Sequence[FrozenTrial]) -> tuple[list[FrozenTrial], str]:
    """The trials that a picture has room for, and a note on the others.

    One that has learned nothing would leave all others on one line. Left out is what lies more than three
    interquartile ranges beyond the worse quartile (Tukey, "Exploratory Data Analysis", 1977: far out).
    """
    values = [monitored(trial) for trial in trials]
    if len(values) < 4:
        return list(trials), ""
    lower, _, upper = quantiles(values, method="inclusive")
    reach = 3 * (upper - lower)
    if reach == 0:
        return list(trials), ""
    low, high = (lower - reach, math.inf) if is_maximized(study) else (-math.inf, upper + reach)
    shown = [trial for trial in trials if low <= monitored(trial) <= high]
    hidden = len(trials) - len(shown)
    return shown, f" ({hidden} far {'below' if is_maximized(study) else 'above'} left out)" if hidden else ""


def show_range(axes: "Axes", values: Sequence[float]) -> None:
    """Make the vertical axis hold ``values``, if there are any."""
    if not values:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no trial has a value", transform=axes.transAxes, ha="center", color=GRAY)
        return
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 0.02 * abs(high) or 0.02
    axes.set_ylim(low - margin, high + margin)


def _curve(trial: FrozenTrial) -> tuple[list[int], list[float]]:
    epochs = sorted(trial.intermediate_values)
    return epochs, [trial.intermediate_values[epoch] for epoch in epochs]
