"""What a model must pass before it becomes champion: a list of rules, each with its value and verdict."""

from dataclasses import asdict, dataclass
from typing import Any

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

    @property
    def summary(self) -> str:
        """Why, in one line: what failed, or that nothing did."""
        failed = [f"{check.rule} {check.value}, required {check.required}" for check in self.checks if not check.passed]
        return "; ".join(failed) or "passed the gate"

    def as_json(self) -> dict[str, Any]:
        """All of it, as it is kept with the version."""
        return asdict(self) | {"passed": self.passed}

    def tags(self) -> dict[str, str]:
        """All of it in short, as tags of the version."""
        said = {
            f"gate.{check.rule}": f"{'passed' if check.passed else 'FAILED'}: {check.value}" for check in self.checks
        }
        return {"gate.verdict": self.summary} | said


def judge(settings: Gate, challenger: Evidence, champion: Evidence | None) -> Verdict:
    """Hold a challenger against every rule, and against the champion if there is one."""
    accuracy = float(challenger.answers.correct.mean())
    checks = [
        Check("accuracy", f"{accuracy:.4f}", f"at least {settings.min_accuracy:g}", accuracy >= settings.min_accuracy)
    ]
    return Verdict(str(challenger.contender), str(champion.contender) if champion else None, tuple(checks))
