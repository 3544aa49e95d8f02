"""Times that a column of whole numbers tells: counted since 1970, or the digits of a date. Pure."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta
from typing import TypeGuard, get_args

from millstream_api.retentionpolicy import TimeAs

TICKS: dict[TimeAs, int] = {"seconds": 1_000_000, "milliseconds": 1000, "microseconds": 1}
"""Microseconds that one of each stands for."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KINDS = frozenset(get_args(TimeAs))


def is_whole(kind: str) -> TypeGuard[TimeAs]:
    """Return whether a kind is a time that is told by whole numbers."""
    return kind in _KINDS


def number(value: datetime, kind: TimeAs) -> str:
    """Return the number that tells a time: an aware one where it is counted since 1970, else a naive one."""
    if kind in TICKS:
        return str((value - _EPOCH) // timedelta(microseconds=TICKS[kind]))
    return f"{value.year:04}{value.month:02}{value.day:02}"[: len(kind)]


def moment(value: int, kind: TimeAs) -> datetime:
    """Return the time that a number tells. ValueError for one that tells none between the years 1 and 9999.

    Digits that are no date, such as 20130132 or 201313, are the next one: as a bound they mean the same.
    """
    try:
        if kind in TICKS:
            return _EPOCH + timedelta(microseconds=value * TICKS[kind])
        digits = value * 10 ** (8 - len(kind))
        year, month, day = digits // 10_000, max(1, digits // 100 % 100), max(1, digits % 100)
        first = datetime(year + (month - 1) // 12, (month - 1) % 12 + 1, 1)
        last = calendar.monthrange(first.year, first.month)[1]
        return first + timedelta(days=min(day - 1, last))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{value} is no time in {kind} between the years 1 and 9999") from error


__all__ = ["TICKS", "is_whole", "moment", "number"]
