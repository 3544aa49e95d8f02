"""Where a stream and its target differ, and what the contract makes of it. Pure: runs report it, explain foretells."""

from __future__ import annotations

from millstream_api import Drift
from millstream_api.stream import Contract, StreamSpec
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.warehouses.fitting import TableShape, cure, renamed, same, widens

_ROWS = {"quarantine": "are set aside", "freeze": "fail the run", "discard": "are dropped"}


def drifts(
    stream: str, schema: Schema, shape: TableShape | None, contract: Contract, own: frozenset[str] = frozenset()
) -> list[Drift]:
    """Return the differences between the columns that a stream makes and its target, in the stream's order.

    `shape`: the target as it is, None where it is not there: a new table is no drift. `own`: columns that the loader
    itself fills. Columns with a default that the stream does not send are the user's own.
    """
    if shape is None:
        return []
    pair = renamed(shape, schema)
    found = [_of(stream, column, shape, contract, pair) for column in schema]
    gone = [
        column for column in shape.schema if schema.get(column.name) is None and column.name not in shape.filled | own
    ]
    found += [
        Drift(stream=stream, column=item.name, change="dropped", before=item.type, action=_left(item, shape))
        for item in gone
    ]
    return [item for item in found if item is not None]


def own_columns(stream: StreamSpec) -> frozenset[str]:
    """Return the columns of a target that the loader fills by itself."""
    if stream.write_disposition != "scd2":
        return frozenset()
    return frozenset({stream.scd2.valid_from, stream.scd2.valid_to})


def _of(
    stream: str, column: Column, shape: TableShape, contract: Contract, pair: tuple[str, str] | None
) -> Drift | None:
    present = shape.schema.get(column.name)
    if present is None:
        action = {
            "evolve": "added",
            "freeze": "refused: the run fails",
            "quarantine": "not added: rows with a value in it are set aside",
            "discard": "left out",
        }[contract.columns]
        hint = f"; if '{pair[0]}' was renamed: {cure(*pair)}" if pair is not None else ""
        return Drift(stream=stream, column=column.name, change="added", after=column.type, action=action + hint)
    if same(present.type, column.type):
        return None
    given = {"stream": stream, "column": column.name, "before": present.type, "after": column.type}
    unfit = f"rows that do not fit {_ROWS[contract.rows]}"
    if widens(present.type, column.type):
        # A floating type promises the nearest value only: all fit, and lose digits.
        unfit = "values are rounded to it" if present.type == "real" else unfit
        action = "widened" if contract.types == "evolve" else f"stays {present.type}: {unfit}"
        return Drift(change="widened", action=action, **given)
    if widens(column.type, present.type):
        return Drift(change="narrowed", action=f"stays {present.type}", **given)
    holds_all = present.type in ("text", "character varying")
    action = f"stays {present.type}" if holds_all else f"stays {present.type}: {unfit}"
    return Drift(change="retyped", action=action, **given)


def _left(column: Column, shape: TableShape) -> str:
    if column.name in shape.required:
        return "refused: it is NOT NULL without a default, the run fails"
    return "stays, NULL in new rows"


__all__ = ["drifts", "own_columns"]
