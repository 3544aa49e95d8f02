"""The stage of a transaction: a temporary table that merges by key, or casts what COPY cannot send."""

from __future__ import annotations

from dataclasses import dataclass

from millstream_pipelines.batch import DELETED, ROW
from millstream_pipelines.errors import MillstreamError
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.warehouses._postgres.native import is_native
from millstream_pipelines.warehouses.base import LoadSpec
from millstream_pipelines.warehouses.names import quote, quote_table

NAME = "pg_temp.millstream_stage"
ORDER = "_millstream_order"


@dataclass(frozen=True)
class StagePlan:
    """How rows get into the target: straight, or through the stage."""

    sent: Schema
    key: tuple[str, ...]
    cursor: str | None
    deletes: bool = False
    newer_only: bool = False
    """Leave rows of the target alone whose cursor is larger: a backfill may have read before the forward load did."""
    numbered: bool = False
    """Rows come with a last column ROW, to which child rows refer."""
    raw: bool = False
    """The rows come in their types' binary form already: COPY can send them all."""
    unique: bool = False
    """No two of the staged rows have one key."""
    only: tuple[int, int] | None = None
    """First and last of the staged rows that count, in their order of arrival; None: all."""

    @property
    def staged(self) -> bool:
        """A key to merge by, or a type that COPY cannot send, needs the stage."""
        return bool(self.key) or not all(self._as_is(column) for column in self.sent)

    @property
    def columns(self) -> Schema:
        """The columns that COPY fills. In the stage inexact types are text, and the mark of deleted rows comes last."""
        if not self.staged:
            return self.sent
        kept = [column if self._as_is(column) else Column(column.name, "text") for column in self.sent]
        marks = [Column(DELETED, "boolean")] if self.deletes else []
        numbers = [Column(ROW, "bigint")] if self.numbered else []
        return Schema((*kept, *marks, *numbers))

    def _as_is(self, column: Column) -> bool:
        return self.raw or is_native(column)

    @property
    def rows(self) -> str:
        """The staged rows in the target's types, for FROM: a text stage orders and compares as text otherwise."""
        values = ", ".join(
            quote(column.name)
            if self._as_is(column)
            else f"{quote(column.name)}::{column.type} AS {quote(column.name)}"
            for column in self.sent
        )
        marks = f"{DELETED if self.deletes else f'false AS {DELETED}'}{f', {ROW}' if self.numbered else ''}"
        return f"(SELECT {values}, {marks}, {ORDER} FROM {self.staged_rows}) s"

    @property
    def staged_rows(self) -> str:
        """The staged rows that count, for FROM."""
        return NAME if self.only is None else f"{NAME} WHERE {ORDER} BETWEEN {self.only[0]} AND {self.only[1]}"

    @property
    def newest(self) -> str:
        """ORDER BY terms: the largest cursor first, then what was read last."""
        by_cursor = self.cursor is not None and self.cursor not in self.key
        return f"{quote(self.cursor) + ' DESC NULLS LAST, ' if by_cursor and self.cursor else ''}{ORDER} DESC"

    @property
    def winners(self) -> str:
        """One staged row per key: the newest. Nothing is sorted where the keys are known to differ."""
        if self.unique:
            return self.rows
        keys = ", ".join(quote(name) for name in self.key)
        return f"(SELECT DISTINCT ON ({keys}) * FROM {self.rows} ORDER BY {keys}, {self.newest}) s"


def plan(sent: Schema, key: tuple[str, ...], spec: LoadSpec) -> StagePlan:
    """Return how rows of `sent` go into a target with this key."""
    cursor = spec.cursor_field if spec.cursor_field is not None and sent.get(spec.cursor_field) is not None else None
    return StagePlan(sent, key, cursor, spec.deletes, newer_only=spec.window is not None, numbered=spec.numbered)


def create_statements(made: StagePlan) -> list[str]:
    """Return the DDL of the stage; it ends with its transaction, and numbers rows as they arrive."""
    columns = ", ".join(f"{quote(column.name)} {column.type}" for column in made.columns)
    order = f"{ORDER} bigint GENERATED ALWAYS AS IDENTITY (CACHE 1000)"
    return [f"CREATE TEMPORARY TABLE millstream_stage ({columns}, {order}) ON COMMIT DROP"]


def copy_statement(made: StagePlan, target: str) -> str:
    """Return the COPY that takes the rows: into the stage where there is one, else straight into the target."""
    names = ", ".join(quote(name) for name in made.columns.names)
    return f"COPY {NAME if made.staged else quote_table(target)} ({names}) FROM STDIN (FORMAT binary)"


def bounds_query(made: StagePlan) -> str:
    """Return the query for the first and the last of the staged rows, and how many there are."""
    return f"SELECT min({ORDER}), max({ORDER}), count(*) FROM {made.staged_rows}"


def repeats_query(made: StagePlan) -> str:
    """Return the query for whether any key is staged twice."""
    keys = ", ".join(quote(name) for name in made.key)
    return f"SELECT EXISTS (SELECT FROM {made.rows} GROUP BY {keys} HAVING count(*) > 1)"


def thinning_statements(made: StagePlan) -> list[str]:
    """Return the SQL that leaves one row per key in the stage, the newest; the last statement counts the others."""
    index = f"CREATE INDEX ON {NAME} ({ORDER})"
    losers = f"DELETE FROM {NAME} t WHERE NOT EXISTS (SELECT FROM {made.winners} WHERE s.{ORDER} = t.{ORDER})"
    return [index, losers] if made.key else [index]


def set_aside_statements(rows: str, into: str) -> list[str]:
    """Return the SQL that moves staged rows into quarantine, with its columns but the row and status as parameters.

    `rows`: which, for FROM, such as `StagePlan.staged_rows`.
    """
    row = f"to_jsonb(s) - ARRAY['{ORDER}', '{DELETED}', '{ROW}']"
    values = ", ".join(["%s"] * 7)
    return [
        f"INSERT INTO {into} SELECT {values}, {row}, 'open', 'shaped', '[]'::jsonb FROM (SELECT * FROM {rows}) s",
        f"DELETE FROM {rows}",
    ]


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
        f"INSERT INTO {NAME} ({names}) SELECT {names} FROM pg_temp.millstream_stage_before ORDER BY {ORDER}",
        "DROP TABLE pg_temp.millstream_stage_before",
    ]


def merge_statement(made: StagePlan, target: str, disposition: str) -> str:
    """Return the statement that brings the stage into the target; it touches each key once.

    Among rows of one key the largest cursor wins, then the one read last; one that is marked as deleted only wins.
    """
    names = ", ".join(quote(column.name) for column in made.sent)
    # OVERRIDING SYSTEM VALUE: an identity column that the stream sends keeps the stream's values, as with COPY.
    head = f"INSERT INTO {quote_table(target)} AS t ({names}) OVERRIDING SYSTEM VALUE SELECT {names} FROM "
    if not made.key:
        return f"{head}{made.rows} ORDER BY {ORDER}"
    head += f"{made.winners}{f' WHERE NOT {DELETED}' if made.deletes else ''}"
    if disposition == "replace":
        return head
    keys = ", ".join(quote(name) for name in made.key)
    others = [column.name for column in made.sent if column.name not in made.key] or [made.key[0]]
    update = ", ".join(f"{quote(name)} = EXCLUDED.{quote(name)}" for name in others)
    guard = ""
    if made.newer_only and made.cursor:
        name = quote(made.cursor)
        guard = f" WHERE t.{name} IS NULL OR EXCLUDED.{name} >= t.{name}"
    return f"{head} ON CONFLICT ({keys}) DO UPDATE SET {update}{guard}"


def delete_statement(made: StagePlan, target: str) -> str:
    """Return the statement that takes out the keys marked as deleted; its row: how many there were, and were there."""
    keys = ", ".join(quote(name) for name in made.key)
    same = " AND ".join(f"t.{quote(name)} = g.{quote(name)}" for name in made.key)
    return (
        f"WITH g AS (SELECT {keys} FROM {made.winners} WHERE {DELETED}), "
        f"d AS (DELETE FROM {quote_table(target)} t USING g WHERE {same} RETURNING 1) "
        "SELECT (SELECT count(*) FROM g), (SELECT count(*) FROM d)"
    )


def key_count(made: StagePlan, target: str) -> str:
    """Return the query for how many keys the stage holds, less those left alone: as many rows as a merge must touch."""
    if not (made.newer_only and made.cursor):
        return (
            f"SELECT count(*) FROM (SELECT DISTINCT {', '.join(quote(name) for name in made.key)} FROM {made.rows}) k"
        )
    same = " AND ".join(f"t.{quote(name)} = s.{quote(name)}" for name in made.key)
    newer = f"SELECT FROM {quote_table(target)} t WHERE {same} AND t.{quote(made.cursor)} > s.{quote(made.cursor)}"
    return f"SELECT count(*) FROM {made.winners} WHERE NOT EXISTS ({newer})"
