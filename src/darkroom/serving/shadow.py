"""The challenger on live traffic: some pictures that the champion has answered are answered by it too, later.

Nobody waits for it, and its errors are nobody's: a picture is given to it when its answer has been sent, in a thread of
its own, while no request is being answered.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from darkroom.config.settings import Serve
from darkroom.errors import ModelError, first_line
from darkroom.evaluation.prediction_sets import Members
from darkroom.serving import schemas
from darkroom.serving.disagreements import Disagreement, DisagreementLog
from darkroom.serving.inbox_writer import InboxWriter, digest_of
from darkroom.serving.loaded_model import LoadedModel
from darkroom.serving.metrics import ServerMetrics
from darkroom.serving.preprocessing import Options

if TYPE_CHECKING:  # what makes answers has one of these
    from darkroom.serving.service import Answer

log = logging.getLogger(__name__)
# For each request that came while the challenger worked it rests for so many others, so that fewer than one request in
# a hundred meets it: it shares the processors with the champion.
REST = 200
# Of pictures that wait for the challenger.
MAX_IMAGES = 64
MAX_BYTES = 16_000_000
# Between two looks at whether it may work.
LOOK_SECONDS = 0.1


@dataclass
class Traffic:
    """Requests that the champion has been asked, and those that it is answering now."""

    begun: int = 0
    under_way: int = 0


@dataclass(frozen=True)
class _Answered:
    """A picture and what the ``champion`` answered."""

    champion: LoadedModel
    answer: "Answer"
    content: bytes
    options: Options

    @property
    def label(self) -> str:
        return self.champion.classes[int(self.answer.probabilities.argmax())]


class Shadow:
    """Gives pictures to ``challenger`` and counts how its answers differ; without one it does nothing.

    ``traffic`` is that of the champion. Pictures with two answers are kept in the ``inbox``, if there is one: their
    labels say which answer is right. All methods are called from one event loop.
    """

    def __init__(
        self,
        settings: Serve,
        metrics: ServerMetrics,
        disagreements: DisagreementLog,
        traffic: Traffic,
        inbox: InboxWriter | None,
    ) -> None:
        self.challenger: LoadedModel | None = None
        self._settings = settings
        self._metrics = metrics
        self._disagreements = disagreements
        self._traffic = traffic
        self._inbox = inbox
        self._rests_until = 0
        self._waiting: deque[_Answered] = deque()
        self._bytes = 0
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="shadow")
        self._worker: asyncio.Task[None] | None = None
        self._random = np.random.default_rng()
        self._failed: str | None = None

    def chooses(self) -> bool:
        """Whether the challenger is to answer the next request too: of the share ``serve.shadow``, at random."""
        return self.challenger is not None and self._random.random() < self._settings.shadow

    async def offer(
        self, champion: LoadedModel, contents: Sequence[bytes], options: Options, answers: "Sequence[Answer]"
    ) -> None:
        """Let the challenger answer pictures, unless too many wait.

        Called when the ``answers`` of the ``champion`` have been sent.
        """
        for content, answer in zip(contents, answers, strict=True):
            if len(self._waiting) >= MAX_IMAGES or self._bytes + len(content) > MAX_BYTES:
                self._metrics.shadow_dropped.inc()
            else:
                self._waiting.append(_Answered(champion, answer, content, options))
                self._bytes += len(content)
        if self._worker is None and self._waiting:
            self._worker = asyncio.get_running_loop().create_task(self._work())

    def report(self, champion: LoadedModel) -> schemas.Shadow:
        """All that is known of the challenger beside ``champion``, of all processes. It reads files."""
        challenger, told = self.challenger, self._metrics.value
        pair = {"champion": champion.version, "challenger": challenger.version if challenger else ""}
        count = {
            outcome: int(told("darkroom_shadow_images_total", outcome=outcome, **pair))
            for outcome in ("equal", "different", "failed")
        }
        images = count["equal"] + count["different"]
        timed = told("darkroom_shadow_seconds_count", **pair)

        def describe(model: LoadedModel, of: str) -> schemas.ShadowedModel:
            have_sets = champion.sets and challenger and challenger.sets and images
            labels = told("darkroom_shadow_set_labels_total", of=of, **pair)
            return schemas.ShadowedModel(
                version=model.version,
                model_ms=1000 * model.runtime.seconds,
                set_size=labels / images if have_sets else None,
            )

        return schemas.Shadow(
            name=champion.name,
            share=self._settings.shadow,
            champion=describe(champion, "champion"),
            challenger=describe(challenger, "challenger") if challenger else None,
            images=images,
            different=count["different"],
            failed=count["failed"],
            dropped=int(told("darkroom_shadow_dropped_total")),
            mean_ms=1000 * told("darkroom_shadow_seconds_sum", **pair) / timed if timed else None,
            disagreements=[
                schemas.TwoAnswers(
                    digest=each.digest, champion=each.champion_label, challenger=each.challenger_label, when=each.when
                )
                for each in self._disagreements.read(champion.name, **pair)
            ],
        )

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                while self.challenger and (self._traffic.under_way or self._traffic.begun < self._rests_until):
                    await asyncio.sleep(LOOK_SECONDS)
                picture = self._waiting.popleft()
                self._bytes -= len(picture.content)
                challenger = self.challenger
                if challenger is None or challenger.version == picture.champion.version:  # it was promoted just now
                    continue
                before = self._traffic.begun
                differs = await loop.run_in_executor(self._executor, self._compare, challenger, picture)
                if differs and self._inbox:
                    self._inbox.dispute(picture.champion, picture.answer)
                now = self._traffic.begun
                # The requests of the other processes share the processors too.
                self._rests_until = now + REST * self._settings.processes * (now - before)
        finally:
            self._worker = None

    def _compare(self, challenger: LoadedModel, picture: _Answered) -> bool:
        """Whether the challenger answers differently."""
        champion = picture.champion.version
        began = perf_counter()
        try:
            label, members = _answer(challenger, picture, self._settings.max_pixels)
        except Exception as problem:  # whatever it is, the champion has answered
            outcome = "failed"
            if self._failed != challenger.version:
                self._failed = challenger.version
                log.error("version %s, the challenger, cannot answer (%s)", challenger.version, first_line(problem))
        else:
            outcome = "equal" if label == picture.label else "different"
            if members is not None and picture.answer.members is not None:
                sizes = int(picture.answer.members.sum()), int(members.sum())
                self._metrics.count_shadow_sets(champion, challenger.version, sizes)
        seconds = perf_counter() - began
        self._metrics.count_shadow(champion, challenger.version, outcome, seconds)
        if outcome == "different":
            self._disagreements.append(
                Disagreement(
                    digest=digest_of(picture.answer),
                    name=challenger.name,
                    champion=champion,
                    challenger=challenger.version,
                    champion_label=picture.label,
                    challenger_label=label,
                    when=datetime.now(UTC).isoformat(timespec="seconds"),
                )
            )
        return outcome == "different"


def _answer(model: LoadedModel, picture: _Answered, max_pixels: int) -> tuple[str, Members | None]:
    """The label, and the labels of the prediction set, bool [1, classes], if there is one. Raises whatever fails."""
    options = picture.options
    seen = model.transform(picture.content, invert=options.invert, drawn=options.drawn, max_pixels=max_pixels)
    logits = model.runtime.infer(seen.pixels[None])
    if not np.isfinite(logits).all():
        raise ModelError("its logits are not finite")
    return model.classes[int(logits[0].argmax())], model.interpret(logits).members
