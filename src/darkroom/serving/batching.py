"""Images of requests that arrive together go through the model together."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

import numpy as np

from darkroom.serving.runtime import Images, Logits, Runtime

T = TypeVar("T")
# A batch that takes no longer is answered in the event loop: handing it to a thread and back takes as long.
QUICK_SECONDS = 0.0005


class Batcher(Generic[T]):
    """Collects images until ``batch_size`` are there, or no more are on their way, or ``wait_seconds`` have passed.

    While the model works on one batch the next one gathers. All methods are called from one event loop; ``executor``
    runs the model, but for batches that take no time. ``interpret`` makes an answer for each image of the logits of a
    batch, float32 [n, classes], in the event loop; ``observe`` is told the size of each batch.
    """

    def __init__(
        self,
        runtime: Runtime,
        executor: Executor,
        interpret: Callable[[Logits], Sequence[T]],
        *,
        batch_size: int,
        wait_seconds: float,
        observe: Callable[[int], None] = lambda images: None,
    ) -> None:
        self._runtime = runtime
        self._executor = executor
        self._interpret = interpret
        self._batch_size = batch_size
        self._wait_seconds = wait_seconds
        self._observe = observe
        self._waiting: deque[tuple[Images, asyncio.Future[Sequence[T]]]] = deque()
        self._on_their_way = 0
        self._changed = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    async def answer(self, preparing: Awaitable[Images]) -> Sequence[T]:
        """The answers for the images uint8 [n, C, H, W] that ``preparing`` gives.

        Raises what it raises, and what the model and ``interpret`` raise.
        """
        self._on_their_way += 1
        try:
            images = await preparing
        finally:
            self._on_their_way -= 1
            self._changed.set()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Sequence[T]] = loop.create_future()
        self._waiting.append((images, future))
        if self._worker is None:
            self._worker = loop.create_task(self._work())
        return await future

    async def _work(self) -> None:
        try:
            while self._waiting:
                await self._gather()
                await self._answer_batch(self._take())
        finally:
            self._worker = None

    async def _gather(self) -> None:
        """Wait for images that are on their way, if they are soon here."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._wait_seconds
        while self._on_their_way and self._count() < self._batch_size and (left := deadline - loop.time()) > 0:
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                return

    def _count(self) -> int:
        return sum(len(images) for images, _ in self._waiting)

    def _take(self) -> list[tuple[Images, asyncio.Future[Sequence[T]]]]:
        """The requests of the next batch: one at least, and more if all of them fit."""
        taken = [self._waiting.popleft()]
        count = len(taken[0][0])
        while self._waiting and count + len(self._waiting[0][0]) <= self._batch_size:
            taken.append(self._waiting.popleft())
            count += len(taken[-1][0])
        return taken

    async def _answer_batch(self, batch: list[tuple[Images, asyncio.Future[Sequence[T]]]]) -> None:
        images = batch[0][0] if len(batch) == 1 else np.concatenate([images for images, _ in batch])
        self._observe(len(images))
        loop = asyncio.get_running_loop()
        try:
            if len(images) * self._runtime.seconds < QUICK_SECONDS:
                logits = self._infer(images)
            else:
                logits = await loop.run_in_executor(self._executor, self._infer, images)
            answers = self._interpret(logits)
        except Exception as problem:
            for _, future in batch:
                if not future.done():
                    future.set_exception(problem)
            return
        start = 0
        for images, future in batch:
            end = start + len(images)
            if not future.done():  # whoever asked may have gone
                future.set_result(answers[start:end])
            start = end

    def _infer(self, images: Images) -> Logits:
        if len(images) <= self._batch_size:
            return self._runtime.infer(images)
        # A request may bring more images than a batch holds.
        parts = [images[start : start + self._batch_size] for start in range(0, len(images), self._batch_size)]
        return np.concatenate([self._runtime.infer(part) for part in parts])
