"""The gate: the rules that a model must pass to become champion, each with its value and verdict.

Torch, which takes seconds to import, is imported only by the rules that run the model.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from darkroom.config.settings import Gate
from darkroom.errors import ModelError
from darkroom.evaluation.comparison import Comparison, least_images
from darkroom.evaluation.metrics import Ints, expected_calibration_error
from darkroom.evaluation.pairing import Pairing
from darkroom.evaluation.slices import MIN_IMAGES, large_slices
from darkroom.promotion.description import VERDICT
from darkroom.promotion.evaluated_model import EvaluatedModel, pair
from darkroom.promotion.registry import VERDICT_TAG
from darkroom.tracking.runs import FINGERPRINT_TAG, MODEL_TAG, PREDICTIONS_TAG, WEIGHTS_TAG
from darkroom.utils.units import MEGABYTE

if TYPE_CHECKING:
    from darkroom.evaluation.latency import Latency

DIGESTS = (WEIGHTS_TAG, FINGERPRINT_TAG, PREDICTIONS_TAG, MODEL_TAG)
SAME_DATA = "same_data"
GAINS = {"none": (), "smaller": ("size",), "faster": ("latency",), "any": ("size", "latency")}
NO_LIMIT = "no limit"


@dataclass(frozen=True)
class Check:
    """The check of one rule: the value found, the value required, and whether it passed."""

    rule: str
    value: str
    required: str
    passed: bool

    @property
    def name(self) -> str:
        """The rule's name for people."""
        return self.rule.replace("_", " ")

    @property
    def verdict(self) -> str:
        return "passed" if self.passed else "refused"


@dataclass(frozen=True)
class Verdict:
    """The verdict of the gate on a challenger compared with a champion, None if there was none.

    ``findings`` are the measurements behind the checks, as JSON values.
    """

    challenger: str
    champion: str | None
    checks: tuple[Check, ...]
    findings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def failed(self) -> list[Check]:
        return [check for check in self.checks if not check.passed]

    @property
    def is_of_other_data(self) -> bool:
        """Whether the champion is a model of other data, as far as that is known."""
        pairing = self.findings.get("pairing", {})
        is_whole = pairing.get("shared") == pairing.get("images_of_a") == pairing.get("images_of_b")
        return any(check.rule == SAME_DATA for check in self.failed) or not is_whole

    @property
    def summary(self) -> str:
        """The reason, in one line: which rules failed, or why it passed."""
        failed = [f"{check.name} {check.value}, required {check.required}" for check in self.failed]
        passed = [f"{check.name} {check.value}" for check in self.checks if check.rule == "better"]
        return "; ".join(failed or passed) or "passed the gate"

    def as_json(self) -> dict[str, Any]:
        """The verdict as JSON values, as it is stored with the version."""
        return {
            "passed": self.passed,
            "challenger": self.challenger,
            "champion": self.champion,
            "checks": [asdict(check) for check in self.checks],
            **self.findings,
        }

    def as_markdown(self) -> str:
        """The verdict as a Markdown list, for the version's description on MLflow's page."""
        said = "passed" if self.passed else "refused"
        against = f"{self.champion}, the champion" if self.champion else "no champion"
        lines = [
            f"- {check.name}: {check.value} ({check.required}), "
            + (check.verdict if check.passed else f"**{check.verdict}**")
            for check in self.checks
        ]
        return "\n".join([f"{VERDICT}{said}**, against {against}", "", *lines])

    def tags(self) -> dict[str, str]:
        """A summary of the verdict, as tags of the version."""
        refused = ", ".join(check.rule for check in self.failed)
        said = {f"gate.{check.rule}": f"{check.verdict}: {check.value} ({check.required})" for check in self.checks}
        return {VERDICT_TAG: f"refused: {refused}" if refused else "passed", **said}


def evaluate_gate(
    settings: Gate, challenger: EvaluatedModel, champion: EvaluatedModel | None, *, bins: int, cache: Path
) -> Verdict:
    """Evaluate the gate for a challenger: every rule, and the comparison with the champion if there is one.

    If the champion is of other data, the models are compared on the test images that both datasets share. If these are
    too few, the challenger is refused without evaluating the other rules. ``bins`` are those of the calibration error;
    ``cache`` has the preprocessed images, for the rule that runs the model again.

    Raises TrackingError if that rule is set and the cache is not that of the challenger, and ModelError if a package
    that it needs is missing.
    """
    name, against = str(challenger.contender), str(champion.contender) if champion else None
    findings = {
        "settings": {**settings.model_dump(mode="json"), "calibration_bins": bins},
        "digests": {
            role: {key: each.contender.tags.get(key) for key in DIGESTS}
            for role, each in (("challenger", challenger), ("champion", champion))
            if each
        },
    }
    checks = []
    comparison = None
    if champion:
        same_data, pairing = _pair(settings, challenger, champion)
        checks.append(same_data)
        # Of the champion (a) with the challenger (b).
        if pairing:
            findings["pairing"] = pairing.as_json()
        if not (pairing and same_data.passed):
            return Verdict(name, against, tuple(checks), findings)
        comparison = pairing.comparison
        findings["statistics"] = comparison.as_json(alpha=settings.alpha, bins=bins)
    latency: dict[str, Latency] = {}
    if settings.max_latency_ms is not None or (comparison and _is_speed_asked(settings, comparison)):
        latency = _measure_latency(challenger, champion)
        findings["latency"] = {role: asdict(each) for role, each in latency.items()}
    answers = challenger.answers
    accuracy, minimum = float(answers.correct.mean()), settings.min_accuracy
    checks.append(Check("accuracy", f"{accuracy:.4f}", f"at least {minimum:g}", accuracy >= minimum))
    if champion and comparison:
        checks.append(_better(settings, comparison, _ratios(settings, challenger, champion, latency)))
        checks.append(_class_recall(settings, comparison))
        checks.append(_slice_accuracy(settings, comparison))
    calibration = expected_calibration_error(answers.confidence, answers.correct, bins)
    p95 = latency["challenger"].p95_ms if latency else None
    checks += [
        _robust_accuracy(settings, challenger),
        _at_most("calibration", calibration, settings.max_calibration_error, "{:.4f}"),
        _at_most("latency", p95, settings.max_latency_ms, "{:.3f} ms"),
        _at_most("size", challenger.size_bytes / MEGABYTE, settings.max_size_mb, "{:.3f} MB"),
        _export(settings, challenger, cache),
    ]
    return Verdict(name, against, tuple(checks), findings)


def _pair(settings: Gate, challenger: EvaluatedModel, champion: EvaluatedModel) -> tuple[Check, Pairing | None]:
    rule, required = SAME_DATA, "the champion's"
    data = f"dataset {challenger.fingerprint[:12]}"
    is_same = challenger.fingerprint == champion.fingerprint
    try:
        pairing = pair(champion, challenger)
    except ValueError as problem:
        value = str(problem) if is_same else f"{data}, the champion's {champion.fingerprint[:12]}: {problem}"
        return Check(rule, value, required, False), None
    if is_same:
        return Check(rule, data, required, True), pairing
    needed = least_images(settings.alpha)
    enough = len(pairing.rows) >= needed
    return Check(rule, pairing.found, f"{required}, or {needed} test images in both", enough), pairing


def _measure_latency(challenger: EvaluatedModel, champion: EvaluatedModel | None) -> dict[str, "Latency"]:
    from darkroom.evaluation.latency import latencies

    measured = {"champion": champion, "challenger": challenger} if champion else {"challenger": challenger}
    models = [each.load() for each in measured.values() if each]
    return dict(zip(measured, latencies(models, *(each.shape for each in measured.values() if each)), strict=True))


def _is_better(settings: Gate, comparison: Comparison) -> bool:
    return comparison.p_better < settings.alpha


def _is_not_worse(settings: Gate, comparison: Comparison) -> bool:
    return comparison.at_worst(settings.alpha) >= -settings.margin


def _is_speed_asked(settings: Gate, comparison: Comparison) -> bool:
    """Whether the verdict depends on which model is faster: measuring takes time, and other load distorts it."""
    is_open = not _is_better(settings, comparison) and _is_not_worse(settings, comparison)
    return is_open and "latency" in GAINS[settings.gain]


def _ratios(
    settings: Gate, challenger: EvaluatedModel, champion: EvaluatedModel, latency: Mapping[str, "Latency"]
) -> dict[str, float]:
    """The challenger's size and median latency relative to the champion's, as far as ``settings.gain`` uses them."""
    ratios = {"size": challenger.size_bytes / champion.size_bytes}
    if latency:
        ratios["latency"] = latency["challenger"].p50_ms / latency["champion"].p50_ms
    return {name: ratios[name] for name in GAINS[settings.gain] if name in ratios}


def _better(settings: Gate, comparison: Comparison, ratios: Mapping[str, float]) -> Check:
    """Better by the test, or not much worse and with a gain."""
    passed = _is_better(settings, comparison)
    value = f"{comparison.difference:+.4f}, p {comparison.p_better:.3g}"
    required = f"p below {settings.alpha:g}"
    if settings.gain != "none":
        value += f", at worst {comparison.at_worst(settings.alpha):+.4f}"
        value += "".join(f", {name} {ratio - 1:+.0%}" for name, ratio in ratios.items())
        gains = " or ".join(f"{name} {-settings.min_gain:+.0%}" for name in GAINS[settings.gain])
        required += f", or at worst {-settings.margin:+g} with {gains}"
        has_gain = any(ratio <= 1 - settings.min_gain for ratio in ratios.values())
        passed = passed or (_is_not_worse(settings, comparison) and has_gain)
    return Check("better", value, required, passed)


def _class_recall(settings: Gate, comparison: Comparison) -> Check:
    """No class loses more recall than allowed, even if the loss may be due to chance.

    Classes without test images lose nothing.
    """
    classes = comparison.a.classes
    own = {name: np.flatnonzero(comparison.a.labels == number) for number, name in enumerate(classes)}
    present = {name: rows for name, rows in own.items() if len(rows)}
    value, passed = _largest_drop(present, comparison, settings.max_class_drop, settings.alpha)
    absent = len(classes) - len(present)
    value += f"; {absent} of {len(classes)} classes without test images" if absent else ""
    return Check("class_recall", value, f"no class loses more than {settings.max_class_drop:g}", passed)


def _slice_accuracy(settings: Gate, comparison: Comparison) -> Check:
    """No slice that is recorded with the challenger loses more accuracy than allowed, even if by chance."""
    limit, slicing = settings.max_slice_drop, comparison.b.slices
    required = NO_LIMIT if limit is None else f"no slice loses more than {limit:g}"
    if not slicing:
        value = "none is recorded with the challenger; set evaluate.slices and run `dvc repro`"
        return Check("slice_accuracy", value, required, limit is None)
    slices = {f"{attribute} {text}": rows for attribute, text, rows in large_slices(slicing)}
    if not slices:
        return Check("slice_accuracy", f"no slice of {MIN_IMAGES} images or more", required, True)
    value, passed = _largest_drop(slices, comparison, limit, settings.alpha)
    return Check("slice_accuracy", value, required, passed)


def _largest_drop(
    groups: Mapping[str, Ints], comparison: Comparison, limit: float | None, alpha: float
) -> tuple[str, bool]:
    """The group of images, ``groups`` int64 [n] each, that loses most, in words, and whether none loses too much.

    If a loss may be due to chance (McNemar's exact test within the group, one-sided, at ``alpha`` divided by the number
    of groups), the words say so.
    """
    gains = comparison.only_b.astype(np.int8) - comparison.only_a
    names, change = list(groups), np.array([gains[rows].mean() for rows in groups.values()])
    # Rounded: 0.9 - 0.85 is a little more than 0.05.
    dropped = [names[each] for each in np.argsort(change) if limit is not None and round(-change[each], 9) > limit]
    worst = (dropped or [names[int(change.argmin())]])[0]
    value = f"{worst} {change.min():+.4f}"
    value += f" and {len(dropped) - 1} more" if len(dropped) > 1 else ""
    p = {name: comparison.p_worse_on(groups[name]) for name in dropped}
    if dropped and min(p.values()) >= alpha / len(groups):
        value += f", which may be chance (p {p[worst]:.2g}, {len(groups[worst])} images)"
    return value, not dropped


def _robust_accuracy(settings: Gate, challenger: EvaluatedModel) -> Check:
    value, minimum = challenger.robust_accuracy(), settings.min_robust_accuracy
    shown = "not measured" if value is None else f"{value:.4f}"
    if minimum is None:
        return Check("robust_accuracy", shown, NO_LIMIT, True)
    if value is None:
        shown += "; set evaluate.corruptions to common and run `dvc repro`"
    passed = value is not None and value >= minimum
    return Check("robust_accuracy", shown, f"at least {minimum:g}", passed)


def _at_most(rule: str, value: float | None, limit: float | None, form: str) -> Check:
    shown = "not measured" if value is None else form.format(value)
    if limit is None:
        return Check(rule, shown, NO_LIMIT, True)
    assert value is not None, "a limit is of something that was measured"
    return Check(rule, shown, f"at most {limit:g}", value <= limit)


def _export(settings: Gate, challenger: EvaluatedModel, cache: Path) -> Check:
    if settings.export == "none":
        return Check("export", "not asked", NO_LIMIT, True)
    required = f"{settings.export} gives every recorded answer"
    from darkroom.formats.onnx import check_installed
    from darkroom.promotion.export_check import differing_answers

    if settings.export == "onnx":
        check_installed()
    try:
        count = differing_answers(challenger, settings.export, cache)
    except ModelError as problem:
        return Check("export", str(problem), required, False)
    value = f"{count:,} of {len(challenger.answers.labels):,} answers differ"
    return Check("export", value, required, count == 0)
