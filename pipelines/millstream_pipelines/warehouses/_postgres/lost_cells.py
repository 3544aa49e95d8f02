"""Of which ranges rows in the database have values: asked for as few, rounded ones that lie in the same ranges."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from millstream_pipelines.retention.spans import AWARE, Grid, Kind, Value, parsed
from millstream_pipelines.retention.whole_times import TICKS, is_whole

_EPOCH = datetime(1970, 1, 1)
_CELL_S = 900  # a quarter of an hour lies in one range, whatever the zone


def cells_query(rows: str, name: str, grid: Grid, listed: bool) -> str:
    """Return the query for the values of a column (quoted) in rows, `table WHERE condition`.

    `listed`: the table is cut by lists, so only the values themselves count.
    """
    kind = grid.kind
    if kind in ("yyyymmdd", "yyyymm", "yyyy"):
        return f"SELECT DISTINCT {name}::bigint FROM {rows}"
    if kind in TICKS:
        width = _CELL_S * 1_000_000 // TICKS[kind]
        cell, told = f"floor({name}::numeric / {width})::bigint * {width}", "cell"
    elif kind == "integer":
        cell, told = f"floor({name}::numeric / {grid.span.count})::bigint * {grid.span.count}", "cell"
    else:
        typed = "timestamptz" if kind == "timestamptz" else "timestamp"
        cell = f"date_bin('{_CELL_S} seconds', {name}::{typed}, '2000-01-01'::{typed})"
        told = "extract(epoch FROM cell)::bigint"
        rows = f"{rows} AND {name} >= '0001-01-03' AND {name} < '9999-12-01'"
    itself = f" AND {name} = {cell}" if listed else ""
    return f"SELECT DISTINCT {told} FROM (SELECT {cell} AS cell FROM {rows}{itself}) c"


def cells(found: Iterable[tuple[Any, ...]], kind: Kind) -> list[Value]:
    """Return the values that the query told; without those that are no time."""
    values: list[Value] = []
    for (number,) in found:
        with suppress(ValueError):
            values.append(_value(int(number), kind))
    return values


def _value(number: int, kind: Kind) -> Value:
    if kind == "integer" or is_whole(kind):
        return parsed(str(number), kind)
    moment = _EPOCH + timedelta(seconds=number)
    return moment.replace(tzinfo=UTC) if kind in AWARE else moment


__all__ = ["cells", "cells_query"]
