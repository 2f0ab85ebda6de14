"""Keeps pictures for people to label, beside the requests: whatever happens to them, the answer is sent."""

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from darkroom.config.settings import Serve
from darkroom.data.digests import content_digest
from darkroom.inbox.picking import margins
from darkroom.inbox.store import FullInboxError, Reason, Record, keep
from darkroom.serving.loaded_model import LoadedModel
from darkroom.serving.metrics import ServerMetrics
from darkroom.utils.units import MEGABYTE

if TYPE_CHECKING:  # what makes answers has one of these
    from darkroom.serving.service import Answer

log = logging.getLogger(__name__)
# By how much the most probable class leads the next, at most, where the answer is undecided.
UNDECIDED = 0.2
# Pictures that wait to be written: more do only where the disk is slower than the model.
MOST_WAITING = 256


class InboxWriter:
    """Writes to the directory ``inbox`` in a thread of its own; ``metrics`` count what is kept and what is lost."""

    def __init__(self, inbox: str, settings: Serve, metrics: ServerMetrics) -> None:
        self._inbox = Path(inbox)
        self._max_images = settings.inbox_images
        self._max_bytes = int(settings.inbox_mb * MEGABYTE)
        self._metrics = metrics
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inbox")
        self._waiting = 0
        # Logged when it begins, and not again for every picture.
        self._trouble: str | None = None

    def offer(self, model: LoadedModel, answers: "Sequence[Answer]") -> None:
        """Keep those that are unlike the training images, or whose answer is undecided, as soon as possible."""
        for answer in answers:
            if reason := reason_to_keep(answer):
                self._submit(model, answer, reason)

    def dispute(self, model: LoadedModel, answer: "Answer") -> None:
        """Keep a picture that another version answers differently, as soon as possible."""
        self._submit(model, answer, "disputed")

    async def correct(self, model: LoadedModel, answer: "Answer", label: str) -> str | None:
        """Keep a picture whose class somebody has named. Returns None, or a text that says why it is not kept."""
        return await self._submit(model, answer, "named", label)

    def _submit(
        self, model: LoadedModel, answer: "Answer", reason: Reason, label: str | None = None
    ) -> "asyncio.Future[str | None]":
        loop = asyncio.get_running_loop()
        if self._waiting >= MOST_WAITING:
            self._metrics.inbox_lost("busy").inc()
            refused: asyncio.Future[str | None] = loop.create_future()
            refused.set_result("too many pictures are waiting to be kept")
            return refused
        self._waiting += 1
        written = loop.run_in_executor(self._thread, self._keep, model, answer, reason, label)
        written.add_done_callback(lambda _: self._count_down())
        return written

    def _count_down(self) -> None:
        self._waiting -= 1

    def _keep(self, model: LoadedModel, answer: "Answer", reason: Reason, label: str | None) -> str | None:
        record, pixels = make_record(model, answer, reason, label), answer.seen.pixels
        try:
            is_new = keep(self._inbox, pixels, record, max_images=self._max_images, max_bytes=self._max_bytes)
        except FullInboxError as problem:
            self._lose("full", f"{problem}; label some with `darkroom inbox`, or raise serve.inbox_images or inbox_mb")
            return "the inbox is full"
        except OSError as problem:
            self._lose("disk", f"cannot be written to ({(problem.strerror or str(problem)).lower()})")
            return "the inbox cannot be written to"
        self._trouble = None
        if is_new:
            self._metrics.inbox_kept(record.reason).inc()
        return None

    def _lose(self, why: str, message: str) -> None:
        self._metrics.inbox_lost(why).inc()
        if self._trouble != why:
            self._trouble = why
            log.warning("serve.inbox %s: %s. Pictures are answered, and not kept", self._inbox, message)


def reason_to_keep(answer: "Answer") -> Reason | None:
    """Why a label for this picture would teach something; None if it would not."""
    if answer.unlike_training:
        return "unlike"
    return "undecided" if margins(answer.probabilities[None])[0] <= UNDECIDED else None


def digest_of(answer: "Answer") -> str:
    """The BLAKE2b-128 of the pixels that the model saw, by which a picture is known in the inbox."""
    return content_digest(np.ascontiguousarray(answer.seen.pixels).data).hex()


def make_record(model: LoadedModel, answer: "Answer", reason: Reason, label: str | None) -> Record:
    best = int(answer.probabilities.argmax())
    return Record(
        digest=digest_of(answer),
        model=model.name,
        version=model.version,
        answer=model.classes[best],
        probability=float(min(1.0, answer.probabilities[best])),
        reason=reason,
        received=datetime.now(UTC).isoformat(timespec="seconds"),
        label=label,
    )
