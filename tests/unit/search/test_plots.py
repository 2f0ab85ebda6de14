"""Every study can be drawn, whatever became of its trials."""

import math
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from optuna.distributions import FloatDistribution, IntDistribution
from tests.unit.search.fakes import COMPLETE, MIXED, PRUNED, STUDIES, TWO, curve, study_of, trial

from darkroom import plotting
from darkroom.search import parameter_plots, plots
from darkroom.search.repeats import Candidate
from darkroom.search.significance import compare_seeds

pytestmark = pytest.mark.usefixtures("drawn")


def assert_drawn(figure: Figure | None) -> None:
    assert figure is not None
    figure.draw_without_rendering()


def test_a_picture_is_a_png(tmp_path: Path) -> None:
    plotting.save(plots.history(study_of(MIXED), "accuracy"), tmp_path / "history.png")

    assert (tmp_path / "history.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("name", STUDIES)
def test_what_a_study_has_is_drawn(name: str, direction: str) -> None:
    study = study_of(STUDIES[name], direction)
    some_complete = any(each.state is COMPLETE for each in STUDIES[name])
    some_reported = any(each.intermediate_values for each in STUDIES[name])

    assert_drawn(plots.history(study, "accuracy"))
    for wanted, figure in (
        (some_reported, plots.curves(study, "accuracy")),
        (some_complete, parameter_plots.slices(study, "accuracy")),
        (some_complete, parameter_plots.parallel_coordinates(study, "accuracy")),
    ):
        assert (figure is not None) == wanted
        if figure:
            assert_drawn(figure)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("name", TWO)
def test_what_a_study_of_two_objectives_has_is_drawn(name: str, direction: str) -> None:
    study = study_of(TWO[name], direction, "minimize")
    some_complete = any(each.state is COMPLETE for each in TWO[name])

    assert_drawn(plots.history(study, "accuracy"))
    for figure in (plots.front(study, "accuracy", "parameters"), parameter_plots.slices(study, "accuracy")):
        assert (figure is not None) == some_complete
        if figure:
            assert_drawn(figure)


def test_settings_of_two_objectives_have_importances() -> None:
    trials = [trial(COMPLETE, math.sin(9 * x), 10.0, x=x) for x in (0.1, 0.3, 0.5, 0.7, 0.9)]

    assert parameter_plots.importances(study_of(trials, "maximize", "minimize")) is not None


@pytest.mark.parametrize(("direction", "line"), [("maximize", [0.5, 0.9, 0.9]), ("minimize", [0.5, 0.5, 0.5])])
def test_the_history_shows_each_trial_and_the_best_so_far(direction: str, line: list[float]) -> None:
    figure = plots.history(study_of(MIXED, direction), "accuracy")

    (axes,) = figure.axes
    complete, pruned, failed = (collection.get_offsets().tolist() for collection in axes.collections)
    (best,) = axes.lines
    assert (complete, pruned) == ([[1, 0.5], [3, 0.9]], [[2, 0.4]])
    assert [place for place, _ in failed] == [0, 4]
    assert best.get_ydata().tolist() == line


def test_the_history_leaves_out_what_was_interrupted() -> None:
    figure = plots.history(study_of(MIXED, interrupted=(0, 4)), "accuracy")

    (axes,) = figure.axes
    assert len(axes.collections) == 2  # complete and pruned


def test_the_curves_of_pruned_trials_end_early() -> None:
    figure = plots.curves(study_of(MIXED), "accuracy")

    assert figure is not None
    (axes,) = figure.axes
    lengths = {line.get_label(): len(line.get_xdata()) for line in axes.lines}
    assert (lengths["pruned"], lengths["failed"], lengths["complete"], lengths["best (trial 3)"]) == (2, 1, 4, 4)


@pytest.mark.parametrize(("direction", "far", "note"), [("maximize", 0.1, "below"), ("minimize", 9.0, "above")])
def test_a_trial_that_learned_nothing_does_not_flatten_the_others(direction: str, far: float, note: str) -> None:
    values = [0.90, 0.91, 0.92, 0.93, 0.94, far]
    trials = [trial(COMPLETE, value, x=place / 10, curve=curve(value)) for place, value in enumerate(values)]
    study = study_of(trials, direction)

    for figure in (plots.history(study, "loss"), parameter_plots.slices(study, "loss")):
        assert figure is not None
        low, high = figure.axes[0].get_ylim()
        assert 0.8 < low < high < 1
    (axes,) = plots.history(study, "loss").axes
    assert axes.get_title("left").endswith(f"(1 far {note} left out)")


def test_nothing_is_left_out_on_the_better_side() -> None:
    trials = [trial(COMPLETE, value) for value in (0.10, 0.11, 0.12, 0.13, 0.14, 0.9)]

    shown, note = plots.without_outliers(study_of(trials), trials)

    assert (len(shown), note) == (6, "")


def test_the_front_holds_what_no_other_trial_beats() -> None:
    figure = plots.front(study_of(TWO["some"], "maximize", "minimize"), "accuracy", "parameters")

    assert figure is not None
    (axes,) = figure.axes
    (front,) = axes.lines
    assert (front.get_xdata().tolist(), front.get_ydata().tolist()) == ([1e3, 1e5], [0.9, 0.95])
    assert axes.get_xscale() == "log"


def test_the_slices_have_an_axis_for_each_setting_in_its_own_scale() -> None:
    figure = parameter_plots.slices(study_of(STUDIES["many"]), "accuracy")

    assert figure is not None
    scales = {axes.get_xlabel(): axes.get_xscale() for axes in figure.axes if axes.get_xlabel()}
    assert {key for key, scale in scales.items() if scale == "log"} == {"train.lr", "model.width"}
    assert len(scales) == 6
    labels = {axes.get_xlabel(): [label.get_text() for label in axes.get_xticklabels()] for axes in figure.axes}
    assert labels["model.hidden"] == ["[128]", "[256, 128]", "[512, 256, 128, 6…"]


@given(
    low=st.floats(1e-6, 1e6), gap=st.one_of(st.just(0.0), st.floats(1e-15, 1e3)), log=st.booleans(), whole=st.booleans()
)
@example(low=0.69314718, gap=9.2e-7, log=False, whole=False)
@example(low=0.9911, gap=0.0006, log=False, whole=False)
def test_the_marks_of_an_axis_lie_between_its_ends_and_differ(low: float, gap: float, log: bool, whole: bool) -> None:
    kind: FloatDistribution | IntDistribution = FloatDistribution(low, low * (1 + gap), log=log)
    if whole:
        kind = IntDistribution(math.ceil(low), math.ceil(low * (1 + gap)))

    marks = parameter_plots._marks(kind)

    assert {kind.low, kind.high} <= {value for value, _ in marks}
    assert all(0 <= parameter_plots._share(kind, value) <= 1 for value, _ in marks)
    assert len({text for _, text in marks}) == len(marks)


def test_trials_that_hardly_differ_are_drawn() -> None:
    study = study_of([trial(COMPLETE, 0.69314718 + 1e-7 * number) for number in range(4)], "minimize")

    assert_drawn(parameter_plots.parallel_coordinates(study, "loss"))


def test_the_parallel_coordinates_end_in_the_figure() -> None:
    figure = parameter_plots.parallel_coordinates(study_of(MIXED), "accuracy")

    assert figure is not None
    (axes,) = figure.axes
    best = axes.lines[0].get_ydata().tolist()
    assert len(best) == 7
    assert best[-1] == 1.0  # the top of the last axis
    assert len(axes.collections[0].get_segments()) == 2  # complete trials


@pytest.mark.parametrize("name", ["no trial", "one trial", "only failed", "only pruned", "equal values"])
def test_a_study_without_variation_has_no_importances(name: str) -> None:
    assert parameter_plots.importances(study_of(STUDIES[name])) is None


def test_the_importances_name_every_setting_and_add_up_to_one() -> None:
    figure = parameter_plots.importances(study_of([*MIXED, trial(COMPLETE, 0.5, x=0.9)]))

    assert figure is not None
    (axes,) = figure.axes
    assert "train.lr" in {label.get_text() for label in axes.get_yticklabels()}
    assert sum(bar.get_width() for bar in axes.patches) == pytest.approx(1)
    assert_drawn(figure)


def test_the_importances_of_a_study_are_the_same_each_time() -> None:
    trials = [trial(COMPLETE, math.sin(9 * x), x=x) for x in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)]
    first, again = (parameter_plots.importances(study_of(trials)) for _ in range(2))

    assert first is not None
    assert again is not None
    assert [bar.get_width() for bar in first.axes[0].patches] == [bar.get_width() for bar in again.axes[0].patches]


def candidate(label: str, *values: float, failures: tuple[str, ...] = ()) -> Candidate:
    return Candidate(label, None, {}, values, failures)


def test_the_repeats_show_each_candidate_that_has_a_figure() -> None:
    comparison = compare_seeds(
        [
            candidate("trial 3", 0.9, 0.92),
            candidate("trial 5", 0.8, failures=("why",)),
            candidate("trial 6", failures=("why", "why")),
            candidate("starting point", 0.85, 0.86),
        ],
        "accuracy",
    )
    figure = plots.repeats(comparison)

    assert figure is not None
    (axes,) = figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["starting point", "trial 5 (1 failed)", "trial 3 (best mean)"]
    assert_drawn(figure)


def test_without_a_figure_there_is_no_picture_of_the_repeats() -> None:
    assert plots.repeats(compare_seeds([candidate("trial 6", failures=("why",))], "accuracy")) is None


def test_a_pruned_trial_without_a_figure_is_not_drawn() -> None:
    (axes,) = plots.history(study_of([trial(PRUNED), trial(COMPLETE, 0.5)]), "accuracy").axes

    assert [len(collection.get_offsets()) for collection in axes.collections] == [1]
