"""What a process of a training that several share has raised, or how it was lost, as the one that waits tells it."""

import pickle
import traceback
from collections.abc import Mapping

from darkroom.errors import LostProcessError


def portable(problem: Exception) -> Exception:
    """The problem as another process can have it, with its traceback."""
    text = traceback.format_exc()
    problem.add_note(text)
    try:
        pickle.loads(pickle.dumps(problem))  # noqa: S301  # written on this line
    except Exception:  # of many kinds: any attribute may be one that cannot be sent
        return RuntimeError(text)
    return problem


def first_cause(raised: Mapping[int, Exception]) -> Exception | None:
    """Of what processes have ``raised``, by rank, that of the first; None if all of it follows from a lost process."""
    return next((raised[rank] for rank in sorted(raised) if not isinstance(raised[rank], LostProcessError)), None)


def lost_process(rank: int, count: int, how: str) -> LostProcessError:
    """That process ``rank`` of ``count`` has ended, and ``how``."""
    return LostProcessError(
        f"process {rank} of the {count} that train together has ended {how}; run the same command again: the "
        "training resumes after its last checkpoint"
    )
