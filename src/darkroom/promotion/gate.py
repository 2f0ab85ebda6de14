"""What a model must pass before it becomes champion: a list of rules, each with its value and verdict."""

from dataclasses import dataclass

from darkroom.promotion.evidence import Evidence
from darkroom.settings import Gate


@dataclass(frozen=True)
class Check:
    """One rule: what it is about, what was found, what is required, and whether it passed."""

    rule: str
    value: str
    required: str
    passed: bool


@dataclass(frozen=True)
class Verdict:
    """What the gate says of a challenger against a champion, None if there was none."""

    challenger: str
    champion: str | None
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)


def judge(settings: Gate, challenger: Evidence, champion: Evidence | None) -> Verdict:
    """Hold a challenger against every rule, and against the champion if there is one."""
    accuracy = float(challenger.answers.correct.mean())
    checks = [
        Check("accuracy", f"{accuracy:.4f}", f"at least {settings.min_accuracy:g}", accuracy >= settings.min_accuracy)
    ]
    return Verdict(str(challenger.contender), str(champion.contender) if champion else None, tuple(checks))
