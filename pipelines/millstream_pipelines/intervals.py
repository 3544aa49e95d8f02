"""The intervals of a backfill: a window of the cursor, cut into half-open stretches that commit one by one. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from millstream_api.run_options import Window
from millstream_pipelines.bounds import Kind, Value, bound, spelled
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.freshness import duration
from millstream_pipelines.sources.base import Range

MAX_INTERVALS = 10_000
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Intervals:
    """A window and its stretches in order. `identity` is the same for the same window, however it was spelled."""

    start: Value
    end: Value
    identity: str
    ranges: tuple[Range, ...]


def cut(window: Window, kind: Kind, where: str) -> Intervals:
    """Return the intervals of a window over a cursor of that kind; times are cut in UTC, the last one may be shorter.

    Raises ConfigurationError, which begins with `where`: a bound that is no such value, a window that is empty, an
    interval that does not go with the kind, more than MAX_INTERVALS of them.
    """
    start, end = (
        bound(kind, text, f"{where}: window.{name}") for name, text in (("from", window.from_), ("to", window.to))
    )
    if not _less(start, end):
        raise ConfigurationError(f"{where}: window.from '{window.from_}' is not before window.to '{window.to}'")
    step = _step(window, kind, where)
    count = -(-_between(start, end) // step)
    if count > MAX_INTERVALS:
        least = -(-_between(start, end) // MAX_INTERVALS)
        cure = (
            f"a step of {least} or more" if isinstance(least, int) else f"an interval of {_words(least, kind)} or more"
        )
        raise ConfigurationError(
            f"{where}: the window makes {count} intervals, and {MAX_INTERVALS} are the most; say {cure}"
        )
    length = f"{step}" if isinstance(step, int) else f"{step // timedelta(microseconds=1)}us"
    identity = f"{spelled(start)}..{spelled(end)}/{length}"
    return Intervals(start, end, identity, tuple(_ranges(start, end, step)))


def _step(window: Window, kind: Kind, where: str) -> Any:
    if kind == "number":
        if window.interval is not None:
            raise ConfigurationError(
                f"{where}: interval '{window.interval}' is a time, and the cursor is a whole number; say a step"
            )
        if window.step is None:
            raise ConfigurationError(f"{where}: a cursor of whole numbers needs a step, the length of one interval")
        return window.step
    if window.step is not None:
        raise ConfigurationError(
            f"{where}: step {window.step} is a number, and the cursor is {kind}; say an interval such as 1d"
        )
    length = duration(window.interval) if window.interval is not None else _DAY
    if length <= timedelta(0):
        raise ConfigurationError(f"{where}: interval '{window.interval}' is no time at all; say one such as 1d")
    if kind == "date" and length % _DAY:
        raise ConfigurationError(
            f"{where}: interval '{window.interval}' cuts days, and the cursor is a date; say whole days such as 1d"
        )
    return length


def _less(one: Any, other: Any) -> bool:
    return bool(one < other)


def _between(start: Any, end: Any) -> Any:
    return end - start


def _words(length: timedelta, kind: Kind) -> str:
    """Return a length in the smallest whole unit of days, hours, minutes or seconds that is no shorter."""
    unit, name = (_DAY, "d") if kind == "date" or length >= _DAY else (timedelta(hours=1), "h")
    if kind != "date" and length < timedelta(hours=1):
        unit, name = (timedelta(minutes=1), "m") if length >= timedelta(minutes=1) else (timedelta(seconds=1), "s")
    return f"{-(-length // unit)}{name}"


def _ranges(start: Any, end: Any, step: Any) -> Iterator[Range]:
    while start < end:
        stop = start + step if end - start > step else end  # never behind the window: the calendar may end there
        yield Range(spelled(start), spelled(stop))
        start = stop
