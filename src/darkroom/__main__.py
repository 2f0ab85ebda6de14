"""`darkroom` and `python -m darkroom`: the command line as a process of its own."""

import atexit
import os
import sys

from darkroom.cli.main import main


def run() -> None:
    """Run the command line, and end the process as soon as all that is to be done at its end is done.

    Python would then take apart what torch and MLflow hold, for one to three seconds, although it is all freed with
    the process.
    """
    ended: list[int] = []
    atexit.register(_leave, ended)  # as the first, and therefore called as the last
    try:
        main()
        ended.append(0)
    except SystemExit as exit_:
        if exit_.code is None or isinstance(exit_.code, int):
            ended.append(exit_.code or 0)
        raise


def _leave(ended: list[int]) -> None:
    """Exit with the code in ``ended``; if it has none, Python tells why and exits itself."""
    if ended:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ended[0])


if __name__ == "__main__":
    run()
