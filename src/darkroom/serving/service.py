"""The service behind the API: pictures in, predictions of the champion out."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import inf
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from starlette.background import BackgroundTask

from darkroom.config.settings import Serve
from darkroom.evaluation.metrics import Floats
from darkroom.evaluation.prediction_sets import Members
from darkroom.explanation.explainer import Explainer
from darkroom.images.containers import is_avif
from darkroom.images.effort import decoding_pixels
from darkroom.serving.batching import Batcher
from darkroom.serving.disagreements import DisagreementLog
from darkroom.serving.drift import DriftWatch
from darkroom.serving.explanations import Explanation, Explanations, make_explainer
from darkroom.serving.inbox_writer import InboxWriter
from darkroom.serving.loaded_model import LoadedModel
from darkroom.serving.metrics import ServerMetrics
from darkroom.serving.preprocessing import ModelInput, Options, RefusedImageError, count_pixels
from darkroom.serving.runtime import Logits
from darkroom.serving.shadow import Shadow, Traffic
from darkroom.serving.share import cores

T = TypeVar("T")
# What is found for an image: the fields of its answer beside ``seen``.
Finding = tuple[NDArray[np.float64], float, bool, NDArray[np.bool_] | None]
# Told the probabilities, the energies, what is unlike training and the prediction sets of the images of a batch.
Count = Callable[[Floats, Floats, NDArray[np.bool_], Members | None], None]
# Pictures as small as those that most models learn from are decoded in the event loop: handing them to a thread and
# back takes longer.
SMALL_IMAGES = 4
SMALL_BYTES = 16_384
SMALL_PIXELS = 128 * 128
# A request that takes as long as more pixels of usual pictures takes a tenth of a second and more. Such requests leave
# a decoder to the others, and so many of them may wait.
LARGE_PIXELS = 4_000_000
LARGE_WAITING = 4


class BusyError(Exception):
    """As many images wait already as may."""


class Answer(NamedTuple):
    """What a version says of a picture.

    ``probabilities`` float64 [classes] are calibrated; ``energy`` is the higher, the less the picture is like the
    training images, and ``unlike_training`` whether it is above the threshold of the validation split. ``members`` bool
    [classes] are the labels of its prediction set, None for a version without such sets.
    """

    seen: ModelInput
    probabilities: NDArray[np.float64]
    energy: float
    unlike_training: bool
    members: NDArray[np.bool_] | None


@dataclass(frozen=True)
class Deployment:
    """A version with its queue.

    ``since`` is when it became champion, ``verdict`` what the gate said of a challenger.
    """

    model: LoadedModel
    batcher: Batcher[Finding]
    drift: DriftWatch | None = None
    since: str | None = None
    verdict: str | None = None

    @cached_property
    def explainer(self) -> Explainer:
        return make_explainer(self.model.runtime, self.model.shape)


class Service:
    """Answers with the champion, which may be another one from one request to the next.

    A request keeps the version that it began with: models may take images of different sizes. With other processes it
    shares the directory ``shared``, in which all count.
    """

    def __init__(self, settings: Serve, shared: Path | None = None) -> None:
        self.settings = settings
        self.metrics = ServerMetrics(shared)
        self._shared = shared
        self.champion: Deployment
        # The same version, for pictures that it was asked about before: the drift watch has seen those.
        self.uncounted: Deployment
        self.challenger: Deployment | None = None
        self.trouble: str | None = None
        self.inbox = InboxWriter(settings.inbox, settings, self.metrics) if settings.inbox else None
        self._waiting = 0
        self._traffic = Traffic()
        # Decoding leaves Python's lock free, and so does the model, which uses several threads itself.
        decoders = cores(settings)
        self._decoders = ThreadPoolExecutor(decoders, thread_name_prefix="decode")
        self._large_decoders = ThreadPoolExecutor(max(1, decoders - 1), thread_name_prefix="decode-large")
        self._large_waiting = 0
        self._model = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._explanations = Explanations()
        self.shadow = self._make_shadow() if settings.shadow else None

    def _make_shadow(self) -> Shadow:
        kept = self.settings.shadow_log or (self._shared / "disagreements.jsonl" if self._shared else None)
        disagreements = DisagreementLog(Path(kept) if kept else None)
        return Shadow(self.settings, self.metrics, disagreements, self._traffic, self.inbox)

    @property
    def is_full(self) -> bool:
        """Whether no image more may wait."""
        return self._waiting >= self.settings.queue

    async def answer(self, deployment: Deployment, contents: Sequence[bytes], options: Options) -> list[Answer]:
        """Answer for encoded pictures. Raises RefusedImageError for one that is refused, BusyError if too many wait."""
        if self._waiting + len(contents) > self.settings.queue:
            raise BusyError
        seen: list[ModelInput] = []

        async def prepare() -> NDArray[np.uint8]:
            seen.extend(await self._see(deployment.model, contents, options))
            return np.stack([each.pixels for each in seen])

        self._wait(len(contents))
        self._traffic.begun += 1
        self._traffic.under_way += 1
        try:
            findings = await deployment.batcher.answer(prepare())
        finally:
            self._traffic.under_way -= 1
            self._wait(-len(contents))
        return [Answer(each, *finding) for each, finding in zip(seen, findings, strict=True)]

    async def explain(self, deployment: Deployment, answers: Sequence[Answer]) -> list[Explanation]:
        """Why these were the answers of a version: heat maps of the most probable classes."""
        images = np.stack([answer.seen.pixels for answer in answers])
        labels = [int(answer.probabilities.argmax()) for answer in answers]
        return await self._explanations.draw(deployment.explainer, images, labels)

    def follow_up(
        self, deployment: Deployment, contents: Sequence[bytes], options: Options, answers: Sequence[Answer]
    ) -> BackgroundTask | None:
        """What is to be done when these answers have been sent; None if nothing is."""
        if not (self.shadow and self.shadow.chooses()):
            return None
        return BackgroundTask(self.shadow.offer, deployment.model, contents, options, answers)

    def _wait(self, more: int) -> None:
        self._waiting += more
        self.metrics.waiting.set(self._waiting)

    async def _see(self, model: LoadedModel, contents: Sequence[bytes], options: Options) -> list[ModelInput]:
        bound = self.settings.max_pixels
        if _may_be_small(contents) and not options.drawn:  # laying out takes long
            fair = self.settings.max_request_pixels // len(contents)
            try:
                return _decode(model, contents, options, min(SMALL_PIXELS, bound, fair))
            except RefusedImageError:
                pass  # perhaps only too large for that
        loop = asyncio.get_running_loop()
        pixels, effort = await loop.run_in_executor(self._decoders, _count_pixels, contents, bound)
        most = self.settings.max_request_pixels
        if pixels > most:
            raise RefusedImageError(
                f"{pixels:,} pixels in {len(contents)} images, more than the {most:,} of one request; send smaller "
                "images, or fewer at once"
            )
        if most < effort < inf:
            raise RefusedImageError(
                f"scans that take as long as {effort:,.0f} pixels, more than the {most:,} of one request; save the "
                "JPEG again with fewer scans"
            )
        if effort <= LARGE_PIXELS:
            return await loop.run_in_executor(self._decoders, _decode, model, contents, options, bound)
        if self._large_waiting >= LARGE_WAITING:
            raise BusyError
        self._large_waiting += 1
        try:
            return await loop.run_in_executor(self._large_decoders, _decode, model, contents, options, bound)
        finally:
            self._large_waiting -= 1

    def serve(self, champion: LoadedModel, since: str | None) -> None:
        """Answer with this version from now on; what was begun is ended with the one before."""
        reference = champion.reference
        # A version that becomes champion again begins with an empty window.
        file = self._shared / f"drift_{champion.version}_{since}" if self._shared else None
        drift = (
            DriftWatch(reference, champion.classes, self.settings.window, file, champion.sets) if reference else None
        )
        batcher = self._batcher(champion, partial(self._count, champion, drift))
        self.champion = Deployment(champion, batcher, drift=drift, since=since)
        self.uncounted = Deployment(champion, self._batcher(champion))
        self.metrics.now_serves(champion.version)

    def show_challenger(self, challenger: LoadedModel | None, verdict: str | None) -> None:
        """Answer with this version too where somebody asks for it, and perhaps for others in its shadow."""
        if self.shadow:
            self.shadow.challenger = challenger
        if challenger is None:
            self.challenger = None
        elif self.challenger is None or self.challenger.model is not challenger:
            self.challenger = Deployment(challenger, self._batcher(challenger), verdict=verdict)
        elif self.challenger.verdict != verdict:
            self.challenger = replace(self.challenger, verdict=verdict)

    def report_problem(self, trouble: str | None) -> None:
        """Why the newest champion does not answer, None if it does."""
        self.trouble = trouble
        self.metrics.trouble.set(trouble is not None)

    def note_registry(self, *, answers: bool) -> None:
        """Whether the registry answered when it was last asked."""
        self.metrics.registry_up.set(answers)

    def _batcher(self, model: LoadedModel, count: Count = lambda *findings: None) -> Batcher[Finding]:
        def interpret(logits: Logits) -> list[Finding]:
            found = model.interpret(logits)
            count(*found)
            sets = [None] * len(logits) if found.members is None else found.members
            return list(zip(found.probabilities, found.energies.tolist(), found.unlike.tolist(), sets, strict=True))

        return Batcher(
            model.runtime,
            self._model,
            interpret,
            batch_size=self.settings.batch_size,
            wait_seconds=self.settings.batch_wait_ms / 1000,
            observe=self.metrics.batches.observe,
        )

    def _count(
        self,
        champion: LoadedModel,
        drift: DriftWatch | None,
        probabilities: Floats,
        scores: Floats,
        unlike: NDArray[np.bool_],
        members: Members | None,
    ) -> None:
        labels = probabilities.argmax(1)
        names = [champion.classes[label] for label in labels]
        self.metrics.count_predictions(champion.version, names, int(unlike.sum()))
        if members is not None:
            self.metrics.count_sets(champion.version, members.sum(1))
        if drift:
            drift.add(labels, probabilities.max(1), scores, members)


def _may_be_small(contents: Sequence[bytes]) -> bool:
    return len(contents) <= SMALL_IMAGES and sum(map(len, contents)) <= SMALL_BYTES and not any(map(is_avif, contents))


def _count_pixels(contents: Sequence[bytes], max_pixels: int) -> tuple[int, float]:
    """The pixels of all pictures, and how many usual ones take as long."""
    pixels = [_named(place, count_pixels, content, max_pixels) for place, content in enumerate(contents)]
    return sum(pixels), sum(map(decoding_pixels, contents, pixels))


def _decode(model: LoadedModel, contents: Sequence[bytes], options: Options, max_pixels: int) -> list[ModelInput]:
    see = partial(model.transform, invert=options.invert, drawn=options.drawn, max_pixels=max_pixels)
    return [_named(place, see, content) for place, content in enumerate(contents)]


def _named(place: int, do: Callable[..., T], *arguments: Any) -> T:
    """``do`` something with a picture of a request, whose refusal says which one it is."""
    try:
        return do(*arguments)
    except RefusedImageError as problem:
        raise RefusedImageError(f"image {place + 1}: {problem}") from None
