"""The result of one check of the project."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from darkroom.errors import DarkroomError
from darkroom.tracking.tracking_uri import tracking_uri


@dataclass(frozen=True)
class Finding:
    """One line about an ``area``. One that ``is_wrong`` names the command that helps.

    ``repair`` does what helps, where that is safe: nothing that somebody made is lost by it, and no model is
    registered, promoted or trained.
    """

    area: str
    line: str
    is_wrong: bool = False
    repair: Callable[[], object] | None = None


def wrong(area: str, line: str, repair: Callable[[], object] | None = None) -> Finding:
    return Finding(area, line, is_wrong=True, repair=repair)


def examined(area: str, findings: Iterable[Finding]) -> Iterator[Finding]:
    """``findings``; an error that the user can fix becomes one more finding, which names the command that helps."""
    try:
        yield from findings
    except DarkroomError as problem:
        yield wrong(area, str(problem))
    except Exception as problem:
        from darkroom.tracking.store import explained

        known = explained(problem, tracking_uri())
        if known is problem:
            raise
        yield wrong(area, str(known))
