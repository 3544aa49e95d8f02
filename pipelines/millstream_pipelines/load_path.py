"""Which way the rows of a stream go, and why not a faster one. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from millstream_api.stream import Deletes, Nested, StreamSpec
from millstream_pipelines.schema import Schema

_AS_SENT = ("append", "replace", "merge")


@dataclass(frozen=True)
class LoadPath:
    """`raw`: rows pass undecoded. `arrow`: they are decoded into batches, shaped, checked and encoded."""

    name: Literal["raw", "arrow"]
    why: str

    def __str__(self) -> str:
        """Return it as `millstream explain` prints it."""
        return f"{self.name}: {self.why}"


class _Given(Protocol):
    schema: Schema


def chosen(stream: StreamSpec, given: _Given | str, target: Schema | str, row_checks: int) -> LoadPath:
    """Return the fastest path that changes nothing about the result.

    `given`: rows as the source would send them undecoded, or why it cannot. `target`: the columns as the
    warehouse would take them, or why it cannot take them undecoded. `row_checks`: how many there are.
    """
    reason = _touched(stream, row_checks) or _reason(given) or _reason(target)
    if not isinstance(given, str) and not isinstance(target, str):
        reason = reason or _unlike(stream, given.schema, target)
    if reason:
        return LoadPath("arrow", f"rows are decoded and encoded again, since {reason}")
    return LoadPath("raw", "rows pass as the source's server sends them: same types on both sides, nothing to look at")


def _reason(side: object) -> str:
    return side if isinstance(side, str) else ""


def _touched(stream: StreamSpec, row_checks: int) -> str:
    """Return what the stream wants done with rows on their way, "" for nothing."""
    if stream.columns:
        return f"`columns` changes {', '.join(column.name for column in stream.columns)}"
    if stream.filter:
        return "`filter` looks at each row"
    if row_checks:
        return f"{row_checks} check{'s look' if row_checks > 1 else ' looks'} at each row"
    if stream.nested != Nested():
        return "`nested` takes values apart"
    if stream.write_disposition not in _AS_SENT or stream.deletes != Deletes():
        return f"writeDisposition '{stream.write_disposition}' with `deletes` or history looks at each row"
    return ""


def _unlike(stream: StreamSpec, given: Schema, target: Schema) -> str:
    """Return how the two sides differ, "" when they do not."""
    for column in given:
        there = target.get(column.name)
        if there is None:
            return f"column '{column.name}' is left out by the contract"
        if there.type != column.type:
            return f"column '{column.name}' is {column.type} at the source and {there.type} in the target"
        if column.nullable and (not there.nullable or column.name in stream.primary_key):
            return f"column '{column.name}' may be NULL at the source and not in the target"
    return ""


__all__ = ["LoadPath", "chosen"]
