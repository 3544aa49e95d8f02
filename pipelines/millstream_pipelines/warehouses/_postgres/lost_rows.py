"""Values of an Arrow batch that lie inside or outside of ranges."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.compute as pc

from millstream_pipelines.retention.spans import Kind, Value, parsed, spelled
from millstream_pipelines.retention.whole_times import is_whole


def inside(values: pa.Array, low: Value | None, high: Value | None, kind: Kind) -> pa.Array:
    """Return which values lie in a range; one that is missing lies in none."""
    mask = pc.is_valid(values)
    for bound, compared in ((low, pc.greater_equal), (high, pc.less)):
        if bound is not None:
            mask = pc.and_(mask, pc.fill_null(compared(values, _scalar(bound, values.type, kind)), False))
    return mask


def _scalar(bound: Value, kind_of_array: pa.DataType, kind: Kind) -> pa.Scalar:
    if kind == "date" and isinstance(bound, datetime):
        return pa.scalar(bound.date(), kind_of_array)
    if is_whole(kind):
        return pa.scalar(int(spelled(bound, kind)))
    return pa.scalar(bound) if isinstance(bound, int) else pa.scalar(bound, kind_of_array)


def outside(values: pa.Array, ranges: Iterable[tuple[Value | None, Value | None]], kind: Kind) -> pa.Array:
    """Return which values lie in none of the ranges; one that is missing is no matter of theirs."""
    mask = pc.is_valid(values)
    for low, high in ranges:
        mask = pc.and_(mask, pc.invert(inside(values, low, high, kind)))
    return mask


def spoken(values: pa.Array, kind: Kind) -> list[Value]:
    """Return the different values, as bounds are; those without a date, such as infinity, are left out."""
    found: list[Value] = []
    for scalar in pc.unique(values):
        with suppress(ValueError, OverflowError):
            value = scalar.as_py()
            if is_whole(kind):
                value = parsed(str(value), kind)
            elif kind == "timestamptz":
                value = value.astimezone(UTC)
            elif isinstance(value, date) and not isinstance(value, datetime):
                value = datetime(value.year, value.month, value.day)
            found.append(value)
    return found


__all__ = ["inside", "outside", "spoken"]
