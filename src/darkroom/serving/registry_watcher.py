"""Follow the registry: a new champion is served here a few seconds later."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Protocol

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from darkroom.promotion.history import History, effective
from darkroom.promotion.registry import CHALLENGER, CHAMPION, PREVIOUS, VERDICT_TAG, champion
from darkroom.serving.http_options import SHUTDOWN_SECONDS
from darkroom.serving.loaded_model import LoadedModel
from darkroom.tracking.store import reason

log = logging.getLogger(__name__)
# A version that could not be loaded is tried again after so many seconds: its files may have been on their way.
RETRY_SECONDS = 30.0


class WatcherListener(Protocol):
    """Receives changes in the registry. Called from the watcher's thread."""

    def serve(self, champion: LoadedModel, since: str | None) -> None:
        """Answer with this version from now on; ``since`` is when it became champion, as ISO time."""

    def show_challenger(self, challenger: LoadedModel | None, verdict: str | None) -> None:
        """Answer with this version too where somebody asks for it; ``verdict`` is the gate's."""

    def report_problem(self, trouble: str | None) -> None:
        """Why the newest champion does not answer, None if it does."""

    def note_registry(self, *, answers: bool) -> None:
        """Whether the registry answered when it was last asked."""


class RegistryWatcher:
    """Looks at the aliases of the registered model ``name`` and loads the versions that they name.

    ``load`` may raise anything: the version before stays then. What was loaded is kept while an alias names it or
    it answered last, so that a rollback, or the promotion of a challenger, takes no time.
    """

    def __init__(
        self, client: MlflowClient, name: str, load: Callable[[ModelVersion], LoadedModel], audience: WatcherListener
    ) -> None:
        self._client = client
        self._name = name
        self._load = load
        self._audience = audience
        self._loaded: dict[str, LoadedModel] = {}
        self._failed: dict[str, tuple[float, str]] = {}
        self._champion: str | None = None
        self._champion_before: str | None = None
        self._answers = True
        self._stopped = threading.Event()

    def begin(self) -> None:
        """Load the champion. Raises TrackingError if there is none, and what ``load`` raises."""
        version = champion(self._client, self._name)
        self._loaded[str(version.version)] = self._load(version)
        self._publish(str(version.version))

    def follow(self, seconds: float) -> None:
        """Look now and then every ``seconds``, until ``stop`` is called from another thread."""
        while True:
            try:
                self.look()
            except Exception:  # a mistake of ours must not end the following
                log.exception("cannot query the registry")
            if self._stopped.wait(seconds):
                return

    @asynccontextmanager
    async def following(self, app: object, *, seconds: float) -> AsyncIterator[None]:
        """Follow the registry in a thread, every ``seconds``, as long as ``app`` answers."""
        thread = threading.Thread(target=self.follow, args=(seconds,), name="registry-watcher", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.stop()
            # A thread that is loading a version when Python ends would be torn out of torch's and ONNX Runtime's code.
            await asyncio.to_thread(thread.join, SHUTDOWN_SECONDS)

    def stop(self) -> None:
        self._stopped.set()

    def look(self) -> None:
        """Check the registry once, and load new versions. Errors are reported to the audience and logged."""
        try:
            found = self._client.get_registered_model(self._name).aliases
        except Exception as problem:
            self._note_registry(answers=False, why=reason(problem))
            return
        self._note_registry(answers=True)
        aliases = {alias: str(version) for alias, version in found.items()}
        self._follow_champion(aliases.get(CHAMPION))
        self._follow_challenger(aliases)
        # The two that answered last are kept whatever the aliases say: they are moved one after the other.
        kept = {
            self._champion,
            self._champion_before,
            *(aliases.get(alias) for alias in (CHAMPION, CHALLENGER, PREVIOUS)),
        }
        self._loaded = {version: model for version, model in self._loaded.items() if version in kept}
        self._failed = {version: why for version, why in self._failed.items() if version in kept}

    def _note_registry(self, *, answers: bool, why: str = "") -> None:
        if answers != self._answers:
            log.warning("registry reachable again" if answers else f"registry unreachable ({why}), continuing")
        self._answers = answers
        self._audience.note_registry(answers=answers)

    def _follow_champion(self, version: str | None) -> None:
        if version is None:
            self._audience.report_problem(
                f"{self._name} has no champion any more; continuing with version {self._champion}"
            )
        elif version == self._champion:
            self._audience.report_problem(None)
        elif self._is_loaded(version):
            self._publish(version)
        else:
            _, why = self._failed[version]
            self._audience.report_problem(
                f"version {version} is champion, but {why}; continuing with version {self._champion}"
            )

    def _follow_challenger(self, aliases: Mapping[str, str]) -> None:
        version = aliases.get(CHALLENGER)
        if version is None or version == self._champion or not self._is_loaded(version):
            self._audience.show_challenger(None, None)
            return
        tags = self._client.get_model_version(self._name, version).tags
        self._audience.show_challenger(self._loaded[version], tags.get(VERDICT_TAG))

    def _publish(self, version: str) -> None:
        self._audience.serve(self._loaded[version], self._champion_since(version))
        self._audience.report_problem(None)
        self._champion, self._champion_before = version, self._champion
        log.info("version %s is champion and answers now", version)

    def _champion_since(self, version: str) -> str | None:
        """None for an alias that was set by hand, or if the history cannot be read just now."""
        try:
            changes = effective(History(self._client, self._name).read())
        except Exception as problem:
            log.warning("the history cannot be read (%s)", reason(problem))
            return None
        return changes[-1].when if changes and changes[-1].champion == version else None

    def _is_loaded(self, version: str) -> bool:
        """Load a version, unless that was done, or failed just now."""
        if version in self._loaded:
            return True
        last, _ = self._failed.get(version, (float("-inf"), ""))
        if time.monotonic() - last < RETRY_SECONDS:
            return False
        try:
            self._loaded[version] = self._load(self._client.get_model_version(self._name, version))
        except Exception as problem:  # a file, the network, a converter: whatever it is, the champion stays
            why = f"could not be loaded ({reason(problem)})"
            log.error("version %s %s", version, why)
            self._failed[version] = (time.monotonic(), why)
            return False
        self._failed.pop(version, None)
        return True
