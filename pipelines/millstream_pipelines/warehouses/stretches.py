"""The condition for a half-open stretch of a cursor, the same SQL in every warehouse we have."""

from __future__ import annotations

from millstream_pipelines.bounds import kind_of, spelled, value
from millstream_pipelines.errors import MillstreamError
from millstream_pipelines.schema import Column
from millstream_pipelines.warehouses.names import quote

_TYPES = {"timestamptz": "timestamptz", "timestamp": "timestamp", "date": "date"}


def within(column: Column, start: str, end: str) -> str:
    """Return `column` >= start AND `column` < end. The bounds are read and spelled anew: nothing else gets into SQL."""
    kind = kind_of(column.type)
    if kind is None:
        raise MillstreamError(f"column '{column.name}' of type {column.type} has no stretches")
    low, high = (spelled(value(kind, text)) for text in (start, end))
    if kind != "number":  # a number's literal takes the type it needs: a bound may be larger than the column's type
        low, high = (f"CAST('{text}' AS {_TYPES[kind]})" for text in (low, high))
    return f"{quote(column.name)} >= {low} AND {quote(column.name)} < {high}"
