"""Rows of the quarantine on their way back: what a warehouse hands out, what it is told, and the SQL all share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from millstream_pipelines.batch import Form
from millstream_pipelines.selection import RAW, Selection
from millstream_pipelines.warehouses.names import literal

if TYPE_CHECKING:
    import pyarrow as pa

MAX_BYTES = 16 * 1024 * 1024  # of rows as JSON, taken at once

Outcome = Literal["replayed", "superseded", "filtered", "open"]


@dataclass(frozen=True)
class SetAside:
    """A row of the quarantine. `form` and `masked` are None in rows of an older runner."""

    id: int
    run: str
    rule: str
    row: dict[str, Any]
    form: Form | None
    masked: tuple[str, ...] | None
    set_aside_us: int = 0
    """When, in microseconds since 1970."""


@dataclass(frozen=True)
class Verdict:
    """What a replay made of a row. `open` goes on with a new rule and message; `why` says the rest."""

    id: int
    outcome: Outcome
    rule: str = ""
    why: str = ""


class Replaying(Protocol):
    """The quarantine inside a load's transaction; the first call opens one. `StreamLoad.commit` commits all at once."""

    def take(self, selection: Selection, limit: int) -> list[SetAside]:
        """Lock and return open rows that this run has not tried and that were once parsed, in their order.

        At most `limit` rows and about MAX_BYTES; fewer when another session holds some. Empty: nothing is left.
        """
        ...

    def superseded(self, rows: pa.RecordBatch) -> list[int]:
        """Return the places of rows that must not be loaded, as the target or the batch has a newer row of their key.

        Newer: an equal or larger cursor; without a cursor, any row in the target, and the later one in the batch.
        `rows` has the columns that `shape` returned.
        """
        ...

    def resolve(self, verdicts: Sequence[Verdict]) -> None:
        """Write what became of rows that were taken."""
        ...


def take_sizes(selection: Selection, run: str, length: str) -> str:
    """Return the query for id and size of the rows to take, in order; `length`: SQL for the size of a row's text."""
    return (
        f"SELECT id, {length} FROM _millstream.quarantine WHERE {selection.condition()} AND status = 'open' "
        f"AND replay_run IS DISTINCT FROM {literal(run)} AND NOT {RAW} ORDER BY id"
    )


def within(sizes: Sequence[tuple[int, int]]) -> list[int]:
    """Return the first ids whose rows together stay below MAX_BYTES; the first at least."""
    ids: list[int] = []
    total = 0
    for number, size in sizes:
        total += size
        if ids and total > MAX_BYTES:
            break
        ids.append(number)
    return ids


def take_rows(ids: Sequence[int]) -> str:
    """Return the query for the rows with these ids."""
    return (
        'SELECT id, run, rule, CAST("row" AS text), form, CAST(masked AS text), '
        "CAST(extract(epoch FROM created_at) * 1000000 AS bigint) FROM _millstream.quarantine "
        f"WHERE id IN ({', '.join(str(number) for number in ids)}) ORDER BY id"
    )


def taken(found: Sequence[tuple[Any, ...]]) -> list[SetAside]:
    """Return the rows of `take_rows`."""
    return [
        SetAside(number, run, rule, json.loads(row), form, None if masked is None else tuple(json.loads(masked)), at_us)
        for number, run, rule, row, form, masked, at_us in found
    ]


def superseded_query(
    table: str, stage: str, order: str, key: Sequence[tuple[str, str]], cursor: tuple[str, str] | None
) -> str:
    """Return the query for the places of superseded rows in a stage. A pair is a column of the target and the SQL that
    gives its value from the stage `s`."""
    same = " AND ".join(f"t.{column} = {value}" for column, value in key)
    keys = ", ".join(value for _, value in key)
    newest = f"{cursor[1]} DESC NULLS LAST, " if cursor else ""
    newer = f" AND (t.{cursor[0]} >= {cursor[1]} OR {cursor[1]} IS NULL)" if cursor else ""
    return (
        f"SELECT s.{order} FROM {stage} s WHERE EXISTS (SELECT 1 FROM {table} t WHERE {same}{newer}) "
        f"UNION SELECT place FROM (SELECT s.{order} AS place, row_number() OVER "
        f"(PARTITION BY {keys} ORDER BY {newest}s.{order} DESC) AS age FROM {stage} s) ranked WHERE age > 1"
    )


def discard(selection: Selection, reason: str, who: str) -> str:
    """Return the statement that gives up open and refused rows; they stay where they are."""
    return (
        f"UPDATE _millstream.quarantine SET status = 'discarded', reason = {literal(reason)}, "
        f"closed_by = {literal(who)}, closed_at = now() "
        f"WHERE {selection.condition()} AND status IN ('open', 'refused')"
    )
