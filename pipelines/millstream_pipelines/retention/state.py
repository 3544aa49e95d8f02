"""All that the decision about one table rests on, read from the warehouse; and again where it changed meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import psycopg2

from millstream_api.retentionpolicy import RetentionPolicySpec
from millstream_pipelines.errors import MillstreamError
from millstream_pipelines.retention import records
from millstream_pipelines.retention.chosen import Chosen
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.facts import TableFacts, table_facts
from millstream_pipelines.retention.planning import TableState
from millstream_pipelines.retention.spans import Value, parsed
from millstream_pipelines.sizes import size_of
from millstream_pipelines.warehouses.names import quote, quote_table

Seen = TypeVar("Seen")
_NO_SUCH_TABLE = "42P01"
# Detached partitions take room until their grace is over; counted, each would ask for another one to leave.
_ON_ITS_WAY = """
SELECT coalesce(sum(pg_total_relation_size(c.oid) + (
  SELECT coalesce(sum(pg_total_relation_size(t.relid)), 0) FROM pg_partition_tree(c.oid) t WHERE t.relid <> c.oid)),
  0)::bigint
FROM pg_class c WHERE c.relkind IN ('r', 'p')
AND c.oid IN (SELECT oid FROM _millstream.retired WHERE state IN ('detached', 'archived'))
AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid)
"""


def steadily(look: Callable[[], Seen]) -> Seen:
    """Look, and again where a table went in the middle of it. One that is missed twice was never there."""
    missed = ""
    while True:
        try:
            return look()
        except MillstreamError as error:
            cause = error.__cause__
            is_gone = isinstance(cause, psycopg2.Error) and cause.pgcode == _NO_SUCH_TABLE
            if not is_gone or str(error) == missed:
                raise
            missed = str(error)


def facts_of(ddl: Ddl, chosen: Chosen) -> TableFacts:
    """Return what the table is at this moment, its numbers read as the policy says."""
    return table_facts(ddl, chosen.name, chosen.by.time_as if chosen.by is not None else None)


def state_of(ddl: Ddl, facts: TableFacts, chosen: Chosen, spec: RetentionPolicySpec) -> TableState:
    """Return the state of a table that is cut by ranges. A limit of rows may let PostgreSQL look at some of them."""
    if chosen.keep.rows is not None:
        facts = _counted(ddl, facts, chosen)
    newest = _largest(ddl, facts.name, facts.column, facts) if facts.kind == "integer" else None
    seen = {
        item.name: _largest(ddl, item.name, item.column, facts) for item in spec.dependents if item.table == facts.name
    }
    return TableState(
        facts, records.retired(ddl, facts.name), chosen.by, chosen.keep, newest, seen,
        _over_bytes(ddl, chosen), records.restored(ddl, facts.name),
    )  # fmt: skip


def _counted(ddl: Ddl, facts: TableFacts, chosen: Chosen) -> TableFacts:
    """Let PostgreSQL look at partitions that it knows nothing of: a limit of rows rests on its estimate."""
    unknown = [part.name for part in facts.partitions if not part.is_counted]
    for name in unknown:
        ddl.alone(f"analyzing {name}", f"ANALYZE {quote_table(name)}", (quote_table(name),))
    return facts_of(ddl, chosen) if unknown else facts


def _largest(ddl: Ddl, table: str, column: str, facts: TableFacts) -> Value | None:
    found = ddl.rows(f"SELECT max({quote(column)})::text FROM {quote_table(table)}")[0][0]
    return None if found is None else parsed(found, facts.kind)


def _over_bytes(ddl: Ddl, chosen: Chosen) -> int:
    keep = chosen.keep
    if keep.disk_pressure is None or keep.disk_size is None:
        return 0
    size = int(ddl.rows("SELECT pg_database_size(current_database())")[0][0]) - int(ddl.rows(_ON_ITS_WAY)[0][0])
    return size - size_of(keep.disk_size) * int(keep.disk_pressure.rstrip("%")) // 100


__all__ = ["facts_of", "state_of", "steadily"]
