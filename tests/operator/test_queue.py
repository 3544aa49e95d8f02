"""The queue: dedupe, exclusion, back-off, delays; and the token bucket. The clock is ours, nothing sleeps."""

from __future__ import annotations

import asyncio
import random

import pytest

from millstream_operator.metrics import Metrics
from millstream_operator.queue import Key, TokenBucket, WorkQueue

A, B = Key("Pipeline", "shop", "a"), Key("Pipeline", "shop", "b")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> WorkQueue:
    return WorkQueue(clock, Metrics(), random.Random(1))


async def test_a_key_waits_once(queue: WorkQueue) -> None:
    for key in (A, B, A, A):
        queue.add(key)
    assert [await queue.take(), await queue.take()] == [A, B]
    assert len(queue) == 0


async def test_a_held_key_is_not_given_twice(queue: WorkQueue) -> None:
    queue.add(A)
    assert await queue.take() == A
    queue.add(A)
    assert len(queue) == 0
    queue.done(A)
    assert await queue.take() == A


async def test_done_without_a_wish_leaves_nothing(queue: WorkQueue) -> None:
    queue.add(A)
    queue.done(await queue.take())
    assert len(queue) == 0


async def test_no_key_is_worked_by_two_of_many_workers(queue: WorkQueue) -> None:
    busy: set[Key] = set()
    seen: list[Key] = []

    async def worker() -> None:
        while True:
            key = await queue.take()
            assert key not in busy
            busy.add(key)
            await asyncio.sleep(0)
            busy.discard(key)
            seen.append(key)
            queue.done(key)

    workers = [asyncio.create_task(worker()) for _ in range(5)]
    for number in range(200):
        queue.add((A, B)[number % 2])
        await asyncio.sleep(0)
    for task in workers:
        task.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    assert set(seen) == {A, B}


def test_back_off_grows_and_is_forgotten(queue: WorkQueue) -> None:
    delays = [queue.retry(A) for _ in range(14)]
    assert 0.25 <= delays[0] <= 0.5
    assert all(delay <= 300.0 for delay in delays)
    assert delays[-1] >= 150.0
    queue.forget(A)
    assert queue.retry(A) <= 0.5
    assert queue.retry(B, at_least_s=42.0) == 42.0


async def test_delayed_keys_come_when_due_and_earliest_wins(queue: WorkQueue, clock: Clock) -> None:
    queue.add_after(A, 50)
    queue.add_after(A, 10)
    queue.add_after(A, 30)
    queue.add_after(B, 20)
    clock.now += 10
    assert await queue.take() == A
    queue.done(A)
    clock.now += 10
    assert await queue.take() == B
    clock.now += 100
    queue._promote()
    assert len(queue) == 0  # the later wishes for A were the same wish


async def test_waiting_worker_wakes_for_a_new_key(queue: WorkQueue) -> None:
    waiting = asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    queue.add(B)
    assert await waiting == B


async def test_dropped_key_has_no_wishes_left(queue: WorkQueue, clock: Clock) -> None:
    queue.add_after(A, 1)
    queue.drop(A)
    clock.now += 5
    queue._promote()
    assert len(queue) == 0


def test_oldest_is_measured(queue: WorkQueue, clock: Clock) -> None:
    assert queue.oldest_s() == 0.0
    queue.add(A)
    clock.now += 7
    assert queue.oldest_s() == 7.0


def test_bucket_lets_bursts_through_then_spaces(clock: Clock) -> None:
    bucket = TokenBucket(2.0, 3.0, clock)
    assert [bucket.reserve() for _ in range(5)] == [0.0, 0.0, 0.0, 0.5, 1.0]
    clock.now += 10
    assert bucket.reserve() == 0.0


def test_bucket_refuses_without_cost(clock: Clock) -> None:
    bucket = TokenBucket(1.0, 1.0, clock)
    assert [bucket.try_take() for _ in range(3)] == [True, False, False]
    clock.now += 1
    assert bucket.try_take()
