"""Reading ahead: order, errors, bounds, and an end in every case."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from millstream_pipelines.prefetch import prefetched


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "millstream-reader"]


def test_items_come_in_order_and_the_thread_ends() -> None:
    assert list(prefetched(iter(range(1000)))) == list(range(1000))
    assert list(prefetched(iter(()))) == []
    assert readers() == []


def test_values_that_look_like_nothing_come_through() -> None:
    items = [None, 0, "", ValueError("an item, not an error")]
    assert list(prefetched(iter(items))) == items


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise LookupError("source")

    found = prefetched(items())
    assert next(found) == 1
    with pytest.raises(LookupError, match="source"):
        next(found)
    assert readers() == []


def test_reading_is_at_most_two_items_ahead() -> None:
    made: list[int] = []
    paused = threading.Semaphore(0)

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            paused.release()
            yield number

    found = prefetched(items())
    assert next(found) == 0
    for _ in range(3):
        assert paused.acquire(timeout=30)
    assert made == [0, 1, 2], "one waits, one is in the making"
    assert next(found) == 1
    assert paused.acquire(timeout=30)
    assert len(made) == 4
    found.close()
    assert readers() == []


def test_a_consumer_that_stops_closes_the_source_in_its_own_thread() -> None:
    closed_in: list[str] = []

    def items() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed_in.append(threading.current_thread().name)

    found = prefetched(items())
    next(found)
    found.close()
    assert closed_in == ["millstream-reader"]
    assert readers() == []


def test_an_error_of_the_consumer_ends_the_thread() -> None:
    def consume() -> None:
        for _ in prefetched(iter(range(1000))):
            raise KeyError("consumer")

    with pytest.raises(KeyError, match="consumer"):
        consume()
    assert readers() == []


def test_an_error_while_closing_is_not_lost() -> None:
    def items() -> Iterator[int]:
        try:
            yield 1
        finally:
            raise OSError("closing failed")

    with pytest.raises(OSError, match="closing failed"):
        list(prefetched(items()))
