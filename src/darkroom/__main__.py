"""`darkroom` and `python -m darkroom`: the command line as a process."""

import atexit
import os
import sys

from darkroom.cli.main import main


def run() -> None:
    """Run the command line, and end the process as soon as its exit handlers have run.

    Python would then tear down the objects of torch and MLflow for one to three seconds, although all is freed with
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
    """Exit with the code in ``ended``; if it has none, Python prints the reason and exits itself."""
    if ended:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ended[0])


if __name__ == "__main__":
    run()
