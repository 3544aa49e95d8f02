"""The stage of a transaction: a temporary table that merges by key, or casts what COPY cannot send."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from millstream_pipelines.errors import MillstreamError
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.warehouses._postgres.encoding import is_native
from millstream_pipelines.warehouses.names import quote, quote_table

NAME = "pg_temp.millstream_stage"
_ORDER = "_millstream_order"


@dataclass(frozen=True)
class StagePlan:
    """How rows get into the target: straight, or through the stage."""

    sent: Schema
    key: tuple[str, ...]
    cursor: str | None

    @property
    def staged(self) -> bool:
        """A key to merge by, or a type that COPY cannot send, needs the stage."""
        return bool(self.key) or not all(is_native(column) for column in self.sent)

    @property
    def columns(self) -> Schema:
        """The stage's columns: inexact types as text, then the order of arrival."""
        kept = [column if is_native(column) else Column(column.name, "text") for column in self.sent]
        return Schema((*kept, Column(_ORDER, "bigint")))

    def numbered(self, rows: pa.RecordBatch, first: int) -> pa.RecordBatch:
        """Return rows with their order of arrival as the last column."""
        ones = pa.repeat(pa.scalar(1, pa.int64()), rows.num_rows)
        return rows.append_column(_ORDER, pc.cumulative_sum(ones, start=first))


def plan(sent: Schema, key: tuple[str, ...], cursor: str | None) -> StagePlan:
    """Return how rows of `sent` go into a target with this key."""
    return StagePlan(sent, key, cursor if cursor is not None and sent.get(cursor) is not None else None)


def create_statements(made: StagePlan) -> list[str]:
    """Return the DDL of the stage; it ends with its transaction."""
    columns = ", ".join(f"{quote(column.name)} {column.type}" for column in made.columns)
    return [f"CREATE TEMPORARY TABLE millstream_stage ({columns}) ON COMMIT DROP"]


def restage_statements(before: StagePlan, after: StagePlan) -> list[str]:
    """Return the SQL that gives a filled stage another shape: its rows stay, in their order.

    Raises MillstreamError when `after` lacks a column of `before`: its values would be lost.
    """
    absent = [name for name in before.sent.names if after.sent.get(name) is None]
    if absent or not after.staged:
        raise MillstreamError(f"a shape in mid-transaction must keep the columns it had; it lacks {absent}")
    if before.columns == after.columns:
        return []
    names = ", ".join(quote(name) for name in before.columns.names)
    return [
        f"ALTER TABLE {NAME} RENAME TO millstream_stage_before",
        *create_statements(after),
        f"INSERT INTO {NAME} ({names}) SELECT {names} FROM pg_temp.millstream_stage_before",
        "DROP TABLE pg_temp.millstream_stage_before",
    ]


def merge_statement(made: StagePlan, target: str, disposition: str) -> str:
    """Return the statement that brings the stage into the target; it touches each key once.

    Among rows of one key the largest cursor wins, then the one read last.
    """
    names = ", ".join(quote(column.name) for column in made.sent)
    values = ", ".join(
        quote(column.name) if is_native(column) else f"{quote(column.name)}::{column.type}" for column in made.sent
    )
    # OVERRIDING SYSTEM VALUE: an identity column that the stream sends keeps the stream's values, as with COPY.
    head = f"INSERT INTO {quote_table(target)} ({names}) OVERRIDING SYSTEM VALUE "
    if not made.key:
        return f"{head}SELECT {values} FROM {NAME} ORDER BY {quote(_ORDER)}"
    keys = ", ".join(quote(name) for name in made.key)
    newest = f"{quote(made.cursor)} DESC NULLS LAST, " if made.cursor and made.cursor not in made.key else ""
    select = f"SELECT DISTINCT ON ({keys}) {values} FROM {NAME} ORDER BY {keys}, {newest}{quote(_ORDER)} DESC"
    if disposition == "replace":
        return head + select
    others = [column.name for column in made.sent if column.name not in made.key]
    update = ", ".join(f"{quote(name)} = EXCLUDED.{quote(name)}" for name in others)
    action = (
        f"DO UPDATE SET {update}" if others else f"DO UPDATE SET {quote(made.key[0])} = EXCLUDED.{quote(made.key[0])}"
    )
    return f"{head}{select} ON CONFLICT ({keys}) {action}"


def key_count(made: StagePlan) -> str:
    """Return the query for how many keys the stage holds: as many rows as a merge must touch."""
    return f"SELECT count(*) FROM (SELECT DISTINCT {', '.join(quote(name) for name in made.key)} FROM {NAME}) k"
