"""Rows on their way into a DuckDB table: values cast, those it cannot take found, keys merged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from millstream_pipelines.batch import Reject
from millstream_pipelines.json_rows import json_rows
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.warehouses._duckdb.connection import rows as asked
from millstream_pipelines.warehouses._duckdb.tables import SCHEMA
from millstream_pipelines.warehouses._duckdb.types import is_cast
from millstream_pipelines.warehouses.names import quote, quote_table

ARRIVING = "millstream_arriving"
NAME = "temp.main.millstream_stage"
_ORDER = "_millstream_order"


@dataclass(frozen=True)
class StagePlan:
    """How rows get into the target. `stored`: column name in lower case → DuckDB's type, of all its columns."""

    target: str
    sent: Schema
    stored: Mapping[str, str]
    key: tuple[str, ...]
    cursor: str | None
    disposition: str
    newer_only: bool = False
    """Leave rows of the target alone whose cursor is larger: a backfill may have read before the forward load did."""

    @property
    def names(self) -> str:
        """The columns sent, for SQL."""
        return ", ".join(quote(name) for name in self.sent.names)

    @property
    def values(self) -> str:
        """The columns sent, cast to the types the target stores."""
        return ", ".join(f"CAST({self.cast(item)})" for item in self.sent)

    def cast(self, column: Column) -> str:
        """Return `value AS type` for one column. DuckDB knows no plus sign in an interval, PostgreSQL writes one."""
        stored, name = self.stored[column.name.lower()], quote(column.name)
        if stored == "INTERVAL" and column.arrow().type == pa.string():
            name = f"replace({name}, '+', '')"
        return f"{name} AS {stored}"

    @property
    def others(self) -> bool:
        """Whether the target has columns that the stream does not send, whose values an update must keep."""
        return len(self.stored) > len(self.sent)


def insert_statement(plan: StagePlan) -> str:
    """Return the statement that appends the arriving rows."""
    return f"INSERT INTO {quote_table(plan.target, SCHEMA)} ({plan.names}) SELECT {plan.values} FROM {ARRIVING}"


def stage_statements(plan: StagePlan) -> list[str]:
    """Return the DDL of an empty stage."""
    columns = ", ".join(f"{quote(item.name)} {plan.stored[item.name.lower()]}" for item in plan.sent)
    return [f"CREATE OR REPLACE TEMPORARY TABLE millstream_stage ({columns}, {_ORDER} BIGINT)"]


def restage_statements(plan: StagePlan) -> list[str]:
    """Return the SQL that gives a filled stage the plan's shape: its rows stay, in their order."""
    return [
        "CREATE OR REPLACE TEMPORARY TABLE millstream_stage_before AS FROM millstream_stage",
        *stage_statements(plan),
        f"INSERT INTO {NAME} BY NAME FROM millstream_stage_before",
        "DROP TABLE millstream_stage_before",
    ]


def fill_statement(plan: StagePlan) -> str:
    """Return the statement that adds the arriving rows to the stage, numbered."""
    return f"INSERT INTO {NAME} ({plan.names}, {_ORDER}) SELECT {plan.values}, {_ORDER} FROM {ARRIVING}"


def numbered(batch: pa.RecordBatch, first: int) -> pa.RecordBatch:
    """Return rows with their order of arrival as the last column."""
    ones = pa.repeat(pa.scalar(1, pa.int64()), batch.num_rows)
    return batch.append_column(_ORDER, pc.cumulative_sum(ones, start=first))


def merge_statements(plan: StagePlan) -> list[str]:
    """Return the statements that bring the stage into the target, each key once; the counts of all of them add up.

    Among rows of one key the largest cursor wins, then the one read last.
    """
    target = quote_table(plan.target, SCHEMA)
    keys = ", ".join(quote(name) for name in plan.key)
    newest = f"{quote(plan.cursor)} DESC NULLS LAST, " if plan.cursor and plan.cursor not in plan.key else ""
    best = (
        f"(SELECT {plan.names} FROM {NAME} "
        f"QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {newest}{_ORDER} DESC) = 1)"
    )
    same = " AND ".join(f"t.{quote(name)} = s.{quote(name)}" for name in plan.key)
    insert = f"INSERT INTO {target} ({plan.names}) SELECT {plan.names} FROM {best} s"
    if plan.disposition == "replace":
        return [insert]
    absent = f"{insert} WHERE NOT EXISTS (SELECT 1 FROM {target} t WHERE {same})"
    older = same
    if plan.newer_only and plan.cursor:
        name = quote(plan.cursor)
        older = f"{same} AND (t.{name} IS NULL OR s.{name} >= t.{name})"
    if not plan.others:
        if plan.newer_only:
            return [f"DELETE FROM {target} t USING {best} s WHERE {older}", absent]
        return [f"DELETE FROM {target} t USING (SELECT DISTINCT {keys} FROM {NAME}) s WHERE {same}", insert]
    changed = [name for name in plan.sent.names if name not in plan.key]
    update = ", ".join(f"{quote(name)} = s.{quote(name)}" for name in changed)
    return [absent] if not changed else [f"UPDATE {target} t SET {update} FROM {best} s WHERE {older}", absent]


def refused(
    connection: duckdb.DuckDBPyConnection, plan: StagePlan, batch: pa.RecordBatch
) -> tuple[pa.RecordBatch, list[Reject]]:
    """Return the rows whose values DuckDB takes, and the others with the rule that refuses them.

    `batch` is registered as ARRIVING.
    """
    columns = [item for item in plan.sent if is_cast(item, plan.stored[item.name.lower()])]
    if not columns or not batch.num_rows:
        return batch, []
    tests = ", ".join(
        f"coalesce(min({quote(item.name)} IS NULL OR TRY_CAST({plan.cast(item)}) IS NOT NULL), true)"
        for item in columns
    )
    fine = asked(connection, f"SELECT {tests} FROM {ARRIVING}")[0]
    suspects = [item for item, is_fine in zip(columns, fine, strict=True) if not is_fine]
    if not suspects:
        return batch, []
    flags = ", ".join(
        f"{quote(item.name)} IS NOT NULL AND TRY_CAST({plan.cast(item)}) IS NULL AS c{place}"
        for place, item in enumerate(suspects)
    )
    bad = connection.sql(f"SELECT {flags} FROM {ARRIVING}").to_arrow_table().combine_chunks()
    rejects: list[Reject] = []
    keep = pa.repeat(pa.scalar(True), batch.num_rows)
    for place, item in enumerate(suspects):
        hit = pc.and_(keep, bad.column(place).combine_chunks())
        why = f"column '{item.name}': DuckDB cannot take the value as {plan.stored[item.name.lower()]}"
        rejects += [Reject(f"cast({item.name})", why, row, "shaped") for row in json_rows(batch.filter(hit))]
        keep = pc.and_not(keep, hit)
    return batch.filter(keep), rejects
