"""TimescaleDB hypertables: chunks that are too old are dropped, by the extension's own functions.

NOT RUN HERE: the extension is not among the servers of the tests, so only what is pure is tested, and the calls rest on
the documentation of `show_chunks`, `drop_chunks` and the view `timescaledb_information.chunks`. A chunk cannot be
detached, so there is neither grace nor archive: what the policy asks for beyond an age, is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from millstream_api.retentionpolicy import PartitionBy, RetentionPolicySpec
from millstream_pipelines.errors import ConfigurationError, DataError
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.facts import Partition, TableFacts
from millstream_pipelines.retention.planning import Planned, cutoff, overlaps, zone_of
from millstream_pipelines.retention.spans import Value, spelled
from millstream_pipelines.warehouses.names import quote_table

_CHUNKS = """
SELECT format('%%s.%%s', chunk_schema, chunk_name), range_start AT TIME ZONE 'UTC', range_end AT TIME ZONE 'UTC',
  pg_total_relation_size(format('%%I.%%I', chunk_schema, chunk_name)::regclass)
FROM timescaledb_information.chunks WHERE hypertable_schema = %s AND hypertable_name = %s ORDER BY range_start
"""


def refused(table: str, by: PartitionBy | None, policy: RetentionPolicySpec, limits: Iterable[str]) -> str:
    """Return why a policy cannot own a hypertable; an empty text when it can. `limits`: those it sets, by name."""
    others = [name for name in limits if name != "age"]
    if by is not None:
        return f"{table} is a TimescaleDB hypertable, which cuts itself into chunks; leave partitionBy out"
    if policy.archive is not None:
        return f"{table} is a TimescaleDB hypertable: its chunks cannot be detached, so none is archived before it goes"
    if others:
        return f"{table} is a TimescaleDB hypertable, of which only keep.age can be kept, not {', '.join(others)}"
    if any(item.table == table for item in policy.dependents):
        return f"{table} is a TimescaleDB hypertable, for which `dependents` are not looked at; leave them out"
    return ""


def planned(
    table: str, chunks: Iterable[Partition], age: str | None, policy: RetentionPolicySpec, now: datetime
) -> list[Planned]:
    """Return the chunks that are too old, oldest first; those that a hold keeps are among them, and say so. Pure."""
    facts, zone = TableFacts(table, "hypertable"), zone_of(None)
    limit = cutoff(age, facts, zone, now) if age is not None else None
    found = []
    for chunk in chunks:
        if limit is None or chunk.high is None or chunk.high > limit:  # type: ignore[operator]  # of one kind
            continue
        held = [f"hold '{hold.name}'" for hold in policy.holds
                if hold.table == table and overlaps(hold, chunk.low, chunk.high, facts, zone)]  # fmt: skip
        low, high = (None if v is None else spelled(v, "timestamptz") for v in (chunk.low, chunk.high))
        found.append(Planned("drop", table, chunk.name, low, high, f"older than {age}", chunk.bytes,
                             blocked_by="; ".join(held), subject=chunk))  # fmt: skip
    return found


def dropping(table: str, low: Value, high: Value) -> tuple[str, tuple[str, str, str]]:
    """Return the query, and its values, that drops the chunks which lie within a range, its ends included."""
    return (
        "SELECT drop_chunks(%s::regclass, older_than => %s::timestamptz, newer_than => %s::timestamptz)",
        (quote_table(table), spelled(high, "timestamptz"), spelled(low, "timestamptz")),
    )


def chunks(ddl: Ddl, table: str) -> list[Partition]:
    """Return the chunks of a hypertable that is cut by time. ConfigurationError for one cut by a number."""
    schema, _, name = table.rpartition(".")
    rows = ddl.rows(_CHUNKS, (schema or "public", name))
    if any(row[1] is None for row in rows):
        raise ConfigurationError(
            f"{ddl.owner}: {table} is a TimescaleDB hypertable cut by a number; only time is known"
        )
    return [Partition(row[0], row[1].replace(tzinfo=UTC), row[2].replace(tzinfo=UTC), int(row[3])) for row in rows]


def drop(ddl: Ddl, table: str, chunk: Partition) -> None:
    """Drop one chunk. RetriableError when its lock was not to be had in time; DataError when it is still there."""
    if chunk.low is None or chunk.high is None:
        raise ConfigurationError(f"{ddl.owner}: chunk {chunk.name} of {table} has no range")
    query, values = dropping(table, chunk.low, chunk.high)
    doing = f"dropping chunk {chunk.name} of {table}"
    ddl.transaction(doing, lambda: ddl.execute(query, values), (quote_table(table),))
    if any(item.name == chunk.name for item in chunks(ddl, table)):
        raise DataError(f"{ddl.owner}: {doing}: drop_chunks left it there", reason="RetentionNotReached")


__all__ = ["chunks", "drop", "dropping", "planned", "refused"]
