"""Plots of the monitored metric against the settings that were tried."""

import math
from typing import TYPE_CHECKING, Any

from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from darkroom.plotting import BLUE, GRAY, ORANGE, new_figure, shorten, tidy
from darkroom.search.plots import is_maximized, monitored, show_range, without_outliers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS_PER_ROW = 4
# More choices than this on one axis would be written over each other.
MAX_CHOICES = 8
# Of the forest for the importances. Optuna's 64 take twice as long and vary as much with the seed: by 4 to 5 points
# of 60, in 200 trials of 5 settings.
TREES = 32
# Enough for any two numbers to differ.
DIGITS = 17


def importances(study: Study) -> "Figure | None":
    """The share of the variation that each setting explains (fANOVA); None if that cannot be said.

    Hutter, Hoos and Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter Importance", ICML 2014.
    """
    # It imports scikit-learn, which takes seconds that the trials need not wait for.
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    complete = _complete(study)
    if len(complete) < 2 or len({monitored(trial) for trial in complete}) < 2:
        return None
    try:
        evaluator = FanovaImportanceEvaluator(seed=0, n_trees=TREES)
        shares = get_param_importances(study, evaluator=evaluator, target=monitored)
    except RuntimeError:  # the settings explain nothing: the forest found no variance
        return None
    names, values = list(shares)[::-1], list(shares.values())[::-1]
    figure = new_figure(8, 1.4 + 0.45 * len(names))
    axes = figure.subplots()
    bars = axes.barh(names, values, color=BLUE, height=0.6)
    axes.bar_label(bars, [f"{value:.0%}" for value in values], padding=4)
    tidy(
        axes,
        f"Importance of each setting in {len(complete)} complete trials",
        "share of the variation explained (fANOVA)",
    )
    axes.set_xlim(0, 1.08)
    return figure


def slices(study: Study, monitor: str) -> "Figure | None":
    """The monitored metric of the complete trials against each setting; None without a complete trial."""
    complete = _complete(study)
    kinds = _kinds(complete)
    if not kinds:
        return None
    best, (near_ones, note) = _best(study, complete), without_outliers(study, complete)
    columns = min(len(kinds), PANELS_PER_ROW)
    rows = math.ceil(len(kinds) / columns)
    figure = new_figure(max(4.5, 2.9 * columns), 0.6 + 2.5 * rows)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axes, (key, kind) in zip(panels, kinds.items(), strict=False):
        shown = [trial for trial in complete if key in trial.params]
        places = [_place(kind, trial.params[key]) for trial in shown]
        values = [monitored(trial) for trial in shown]
        axes.scatter(places, values, c=BLUE, s=20, alpha=_strength(len(shown)), linewidths=0)
        if key in best.params:
            axes.scatter(_place(kind, best.params[key]), monitored(best), c=ORANGE, s=46)
        tidy(axes, "", key)
        _scale(axes, kind)
    show_range(panels[0], [monitored(trial) for trial in near_ones])
    for axes in panels[len(kinds) :]:
        axes.set_axis_off()
    figure.suptitle(
        f"{_count(complete)}, the best (trial {best.number}) in orange{note}",
        x=0.01,
        ha="left",
        fontsize=11,
        fontweight="bold",
    )
    figure.supylabel(f"best validation {monitor}", fontsize=10)
    return figure


def parallel_coordinates(study: Study, monitor: str) -> "Figure | None":
    """Each complete trial as a line through its settings to its metric; None without a complete trial."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Normalize

    complete = _complete(study)
    kinds = {key: kind for key, kind in _kinds(complete).items() if all(key in trial.params for trial in complete)}
    if not kinds:
        return None
    best, (near_ones, note) = _best(study, complete), without_outliers(study, complete)
    sign = 1 if is_maximized(study) else -1
    # The best is drawn last. Its equals are not.
    ranked = sorted(near_ones, key=lambda trial: (sign * monitored(trial), trial is best))
    outcomes = [monitored(trial) for trial in near_ones]
    outcome = FloatDistribution(min(outcomes), max(outcomes))
    lines = [
        list(
            enumerate(
                [*(_share(kind, trial.params[key]) for key, kind in kinds.items()), _share(outcome, monitored(trial))]
            )
        )
        for trial in ranked
    ]
    figure = new_figure(max(6.0, 2.0 + 1.2 * len(kinds)), 4.6)
    axes = figure.subplots()
    # Colored by rank and not by value: a single trial that learned nothing would leave one shade to all others.
    shades = LineCollection(
        lines, cmap="Blues", norm=Normalize(-len(lines) / 3, len(lines)), alpha=_strength(len(lines)), linewidths=1.2
    )
    shades.set_array(list(range(len(lines))))
    axes.add_collection(shades)
    axes.plot(*zip(*lines[-1], strict=True), color=ORANGE, linewidth=2.4)
    for place, kind in enumerate([*kinds.values(), outcome]):
        axes.axvline(place, color=GRAY, linewidth=1)
        for value, text in _marks(kind):
            box = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.8}
            axes.text(place + 0.04, _share(kind, value), text, fontsize=7.5, va="center", bbox=box)
    tidy(axes, f"{_count(complete)}, darker is better, trial {best.number} in orange{note}")
    axes.grid(visible=False)
    axes.set_xticks(range(len(kinds) + 1), [*(key.replace(".", ".\n", 1) for key in kinds), f"validation\n{monitor}"])
    axes.tick_params(length=0, labelsize=8.5)
    axes.set_xlim(-0.15, len(kinds) + 0.5)
    axes.set_ylim(-0.06, 1.06)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return figure


def _complete(study: Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _best(study: Study, complete: list[FrozenTrial]) -> FrozenTrial:
    return (max if is_maximized(study) else min)(complete, key=monitored)


def _count(trials: list[FrozenTrial]) -> str:
    return f"{len(trials)} complete trial{'s' if len(trials) > 1 else ''}"


def _kinds(trials: list[FrozenTrial]) -> dict[str, BaseDistribution]:
    return {key: kind for trial in trials for key, kind in trial.distributions.items()}


def _strength(count: int) -> float:
    """The opacity at which so many marks can still be told apart."""
    return max(0.25, min(0.85, 25 / count))


def _place(kind: BaseDistribution, value: Any) -> float:
    """Where a value lies on an axis: a choice at its number."""
    return kind.choices.index(value) if isinstance(kind, CategoricalDistribution) else float(value)


def _share(kind: BaseDistribution, value: Any) -> float:
    """Where a value lies between the ends of its axis, 0 to 1; in the middle where these are one."""
    low, high = _ends(kind)
    place = _place(kind, value)
    if _is_log(kind):
        low, high, place = math.log(low), math.log(high), math.log(place)
    return 0.5 if low == high else (place - low) / (high - low)


def _ends(kind: BaseDistribution) -> tuple[float, float]:
    if isinstance(kind, CategoricalDistribution):
        return 0, len(kind.choices) - 1
    assert isinstance(kind, FloatDistribution | IntDistribution), "Optuna has three kinds"
    return kind.low, kind.high


def _is_log(kind: BaseDistribution) -> bool:
    return isinstance(kind, FloatDistribution | IntDistribution) and kind.log


def _marks(kind: BaseDistribution) -> list[tuple[Any, str]]:
    """Values that are written beside an axis, and how: its choices, or its ends and its middle."""
    if isinstance(kind, CategoricalDistribution):
        return [
            (choice, shorten(str(choice))) for choice in kind.choices[:: math.ceil(len(kind.choices) / MAX_CHOICES)]
        ]
    low, high = _ends(kind)
    middle = math.sqrt(low * high) if _is_log(kind) else (low + high) / 2
    if isinstance(kind, IntDistribution):
        values = sorted({low, round(middle), high})
    else:
        # Rounded, as long as it stays between the ends: those of an outcome may differ in their last digits only.
        rounded = (float(f"{middle:.{digits}g}") for digits in range(2, DIGITS))
        values = sorted({low, next((each for each in rounded if low < each < high), low), high})
    texts = ([f"{value:.{digits}g}" for value in values] for digits in range(4, DIGITS + 1))
    return list(zip(values, next(each for each in texts if len(set(each)) == len(each)), strict=True))


def _scale(axes: "Axes", kind: BaseDistribution) -> None:
    """Make the horizontal axis that of a setting."""
    from matplotlib.ticker import MaxNLocator, NullLocator

    low, high = _ends(kind)
    if isinstance(kind, CategoricalDistribution):
        names = [text for _, text in _marks(kind)]
        crowded = sum(len(name) + 2 for name in names) > 24
        axes.set_xticks([_place(kind, choice) for choice, _ in _marks(kind)], names)
        axes.tick_params(axis="x", labelrotation=30 if crowded else 0, labelsize=8)
        axes.set_xlim(low - 0.5, high + 0.5)
        return
    axes.tick_params(axis="x", labelsize=8)
    if _is_log(kind):
        axes.set_xscale("log")
        axes.set_xlim(low / (high / low) ** 0.05, high * (high / low) ** 0.05)
        axes.set_xticks([value for value, _ in _marks(kind)], [text for _, text in _marks(kind)])
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=isinstance(kind, IntDistribution)))
