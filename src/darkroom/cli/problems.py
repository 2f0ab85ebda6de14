"""How an exception becomes a message for the user."""

import errno
import shutil
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from darkroom.errors import DarkroomError, first_line
from darkroom.utils.memory import killed_worker, remedy, shortage

FULL_DISK_BYTES = 1 << 20


def explain(problem: Exception, command: str | None) -> list[str] | None:
    """The lines to print for the user, or None for a bug in Darkroom, whose traceback belongs in a report."""
    if isinstance(problem, DarkroomError):
        return problem.lines
    line = _explain_machine(problem, command)
    return None if line is None else [line]


def _explain_machine(problem: Exception, command: str | None) -> str | None:
    match problem:
        case _ if said := shortage(problem):
            return f"{said}; {remedy(command)}"
        case BrokenProcessPool():
            return f"{killed_worker()}; {remedy(command)}"
        case RuntimeError() if type(problem).__name__ == "AcceleratorError":  # torch's, which need not be imported
            return f"the GPU failed ({first_line(problem)}); run the command again, with --debug to see where it failed"
        # Libraries report a full disk in their own ways, so check the disk itself.
        case _ if shutil.disk_usage(Path.cwd()).free < FULL_DISK_BYTES or getattr(problem, "errno", 0) == errno.ENOSPC:
            return f"disk full ({first_line(problem)}); free some space and run the command again"
        case FileNotFoundError(filename=None) if "temporary directory" in str(problem):
            return f"{problem.strerror}; free some space there, or set TMPDIR to a directory that can be written to"
        case OSError(filename=str(name), strerror=str(reason)):
            return f"{name}: {reason.lower()}"
        case _ if type(problem).__module__.partition(".")[0] in {"mlflow", "sqlalchemy"}:
            return _explain_store(problem)
        case _:
            return None


def _explain_store(problem: Exception) -> str:
    from darkroom.tracking.database import reason_of, unusable
    from darkroom.tracking.tracking_uri import sqlite_file, tracking_uri

    address = tracking_uri()
    if (reason := reason_of(problem)) and sqlite_file(address):
        return str(unusable(address, reason))
    return f"MLflow's store failed ({first_line(problem)}); repair it and run the command again"
