"""Images that arrive together go through the model together, and each request gets its own answers."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.serving.batching import QUICK_SECONDS, Batcher
from darkroom.serving.runtime import Runtime

FOREVER = 1000.0


def numbered(*values):
    """Images whose pixels are a number, uint8 [n, 1, 1, 1]."""
    return np.array(values, np.uint8).reshape(-1, 1, 1, 1)


def read(images):
    """Logits that are the number of each image, float32 [n, 1]."""
    return images.astype(np.float32).reshape(-1, 1)


def as_they_are(logits):
    return logits


async def soon(images):
    await asyncio.sleep(0)
    return images


@pytest.fixture
def make_batcher():
    with ThreadPoolExecutor(1) as executor:

        def make(infer=read, *, batch_size=8, wait_seconds=FOREVER, seconds=0.0):
            sizes = []
            runtime = Runtime("torch", infer, seconds)
            bounds = {"batch_size": batch_size, "wait_seconds": wait_seconds}
            batcher = Batcher(runtime, executor, as_they_are, **bounds, observe=sizes.append)
            return batcher, sizes

        yield make


def test_images_on_their_way_are_waited_for_and_answered_together(make_batcher):
    batcher, sizes = make_batcher()

    async def ask():
        return await asyncio.gather(*[batcher.answer(soon(numbered(value))) for value in range(5)])

    assert [answer.item() for answer in asyncio.run(ask())] == [0, 1, 2, 3, 4]
    assert sizes == [5]


def test_nobody_waits_for_images_that_are_not_on_their_way(make_batcher):
    batcher, sizes = make_batcher(wait_seconds=FOREVER)

    assert asyncio.run(batcher.answer(soon(numbered(7)))).item() == 7
    assert sizes == [1]


def test_images_that_take_too_long_are_not_waited_for(make_batcher):
    batcher, sizes = make_batcher(wait_seconds=0.01)

    async def ask():
        arrives = asyncio.Event()

        async def late():
            await arrives.wait()
            return numbered(2)

        slow = asyncio.create_task(batcher.answer(late()))
        await asyncio.sleep(0)
        first = await batcher.answer(soon(numbered(1)))
        arrives.set()
        return first.item(), (await slow).item()

    assert asyncio.run(ask()) == (1, 2)
    assert sizes == [1, 1]


def test_a_picture_that_is_refused_keeps_nobody_else_from_an_answer(make_batcher):
    batcher, sizes = make_batcher()

    async def refused():
        await asyncio.sleep(0)
        raise ValueError("no picture")

    async def ask():
        return await asyncio.gather(
            batcher.answer(soon(numbered(3))), batcher.answer(refused()), return_exceptions=True
        )

    answer, problem = asyncio.run(ask())
    assert answer.item() == 3
    assert str(problem) == "no picture"
    assert sizes == [1]


@pytest.mark.parametrize("seconds", [0.0, 1.0], ids=["in the event loop", "in a thread"])
def test_a_model_that_fails_fails_for_its_batch_alone(make_batcher, seconds):
    def infer(images):
        if (images == 13).any():
            raise RuntimeError("unlucky")
        return read(images)

    batcher, _ = make_batcher(infer, seconds=seconds)

    async def ask():
        unlucky = await asyncio.gather(
            batcher.answer(soon(numbered(13))), batcher.answer(soon(numbered(1))), return_exceptions=True
        )
        return unlucky, await batcher.answer(soon(numbered(2)))

    unlucky, answer = asyncio.run(ask())
    assert [str(problem) for problem in unlucky] == ["unlucky", "unlucky"]
    assert answer.item() == 2


def test_who_does_not_wait_for_the_answer_keeps_nobody_else_from_it(make_batcher):
    batcher, _ = make_batcher(seconds=1.0)

    async def ask():
        gone = asyncio.create_task(batcher.answer(soon(numbered(1))))
        stays = asyncio.create_task(batcher.answer(soon(numbered(2))))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gone.cancel()
        return await stays

    assert asyncio.run(ask()).item() == 2


@settings(max_examples=50, deadline=None)
@given(
    requests=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    batch_size=st.integers(1, 8),
    is_slow=st.booleans(),
)
def test_every_request_gets_its_own_answers_in_order_and_the_model_never_more_than_a_batch(
    requests, batch_size, is_slow
):
    given_at_once = []

    def infer(images):
        given_at_once.append(len(images))
        return read(images)

    numbers = iter(range(256))
    images = [[next(numbers) for _ in range(count)] for count in requests]
    seconds = 2 * QUICK_SECONDS if is_slow else 0.0
    with ThreadPoolExecutor(1) as executor:
        runtime = Runtime("torch", infer, seconds)
        batcher = Batcher(runtime, executor, as_they_are, batch_size=batch_size, wait_seconds=FOREVER)

        async def ask():
            return await asyncio.gather(*[batcher.answer(soon(numbered(*values))) for values in images])

        answers = asyncio.run(ask())

    assert [answer[:, 0].tolist() for answer in answers] == images
    assert max(given_at_once) <= batch_size
    assert sum(given_at_once) == sum(requests)
