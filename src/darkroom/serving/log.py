"""The server's log: a line for each request, on stderr."""

import logging
import sys
import time


class LineFormatter(logging.Formatter):
    """Writes the time of a second once, for all of its lines."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(message)s")
        self._second = -1
        self._written = ""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - the library's
        second = int(record.created)
        if second != self._second:
            self._second, self._written = second, time.strftime(self.default_time_format, self.converter(second))
        return f"{self._written},{int(record.msecs):03d}"


def log_to_stderr() -> None:
    # Python's "Logging HOWTO", section "Optimization": what no line of ours has is not looked up for each of them.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    for name in ("darkroom.serving", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO if name == "darkroom.serving" else logging.WARNING)
        logger.propagate = False
