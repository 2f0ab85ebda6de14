"""`darkroom` and `python -m darkroom`: the command line as a process."""

import atexit
import gc
import os
import sys

from darkroom.cli.main import main

# After so many new objects, in place of 700, the young ones are searched for garbage. What is imported stays: to search
# for it takes a fifth of the time that importing torch and MLflow takes.
GARBAGE_OBJECTS = 10_000


def run() -> None:
    """Run the command line, and end the process as soon as its exit handlers have run.

    Python would then tear down the objects of torch and MLflow for one to three seconds, although all is freed with
    the process.
    """
    gc.set_threshold(GARBAGE_OBJECTS)
    # The warnings of torch's C++ code are of what nobody here can change. It reads this when it is imported.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
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
