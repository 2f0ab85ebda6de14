"""The trials of a search as child runs, several at a time."""

from collections.abc import Mapping
from typing import Any

from darkroom.tracking.runs import Run
from darkroom.tracking.tracker import Tracker


class Interrupted(BaseException):
    """Ends the run of a trial that was not trained to its end, through no fault of its own."""


class TrialRuns:
    """The child runs of ``parent``, as a context: those still open at its end are KILLED."""

    def __init__(self, tracker: Tracker, parent: Run) -> None:
        self._tracker = tracker
        self._parent = parent
        self._open: dict[str, Run] = {}

    def __enter__(self) -> "TrialRuns":
        return self

    def __exit__(self, *given: Any) -> None:
        for name in list(self._open):
            self.interrupt(name, "the search was interrupted")

    def begin(
        self, name: str, kind: str, settings: Mapping[str, Any], tags: Mapping[str, Any], title: str | None = None
    ) -> None:
        """Start the run of the trial ``name``, which is called that, or ``title``."""
        run = self._open[name] = self._tracker.start(title or name, kind, parent=self._parent.key)
        run.log_params(settings)
        run.log_tags(tags)

    def log_epoch(self, name: str, metrics: Mapping[str, float], step: int) -> None:
        self._open[name].log_metrics(metrics, step=step)

    def end(self, name: str, state: str, title: str | None = None) -> None:
        """End a run as FINISHED; ``state`` says whether the trial was completed or pruned, and when.

        ``title`` is what the run is called from now on, if that is not what it was begun with.
        """
        with self._open.pop(name) as run:
            run.log_tags({"trial.state": state})
            if title:
                run.rename(title)

    def fail(self, name: str, reason: str) -> None:
        """End a run as FAILED, with the reason."""
        run = self._open.pop(name)
        run.log_tags({"trial.state": "failed"})
        run.__exit__(RuntimeError, RuntimeError(reason), None)

    def interrupt(self, name: str, reason: str) -> None:
        """End a run as KILLED, with the reason."""
        run = self._open.pop(name)
        run.log_tags({"trial.state": "interrupted"})
        run.__exit__(Interrupted, Interrupted(reason), None)
