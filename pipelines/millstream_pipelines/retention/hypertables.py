"""What TimescaleDB says of a hypertable: its time column, its chunks, and the rollups that rest on it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.facts import Partition, TableFacts
from millstream_pipelines.retention.spans import AWARE, KINDS, parsed
from millstream_pipelines.schema import normalized

_TIME = """
SELECT column_name, column_type::text FROM timescaledb_information.dimensions
WHERE hypertable_schema = %s AND hypertable_name = %s ORDER BY dimension_number LIMIT 1
"""
# A compressed chunk's own file is empty: what it takes is elsewhere.
_CHUNKS = """
SELECT c.chunk_schema || '.' || c.chunk_name, (c.range_start AT TIME ZONE 'UTC')::text,
  (c.range_end AT TIME ZONE 'UTC')::text, coalesce(s.total_bytes, 0)
FROM timescaledb_information.chunks c LEFT JOIN chunks_detailed_size(%s::regclass) s USING (chunk_schema, chunk_name)
WHERE c.hypertable_schema = %s AND c.hypertable_name = %s ORDER BY c.range_start, c.range_end, c.chunk_name
"""
_OWN_POLICY = """
SELECT job_id FROM timescaledb_information.jobs
WHERE proc_name = 'policy_retention' AND hypertable_schema = %s AND hypertable_name = %s
"""
_ROLLUPS = """
SELECT a.user_view_schema || '.' || a.user_view_name,
  ARRAY(SELECT ARRAY[l.lowest_modified_value, l.greatest_modified_value] FROM (
    SELECT * FROM _timescaledb_catalog.continuous_aggs_materialization_invalidation_log m
    WHERE m.materialization_id = a.mat_hypertable_id
    UNION ALL SELECT * FROM _timescaledb_catalog.continuous_aggs_hypertable_invalidation_log r
    WHERE r.hypertable_id = a.raw_hypertable_id) l),
  (SELECT min(coalesce(extract(epoch FROM %s - (j.config ->> 'start_offset')::interval) * 1000000, %s))::bigint
    FROM timescaledb_information.jobs j WHERE j.proc_name = 'policy_refresh_continuous_aggregate'
    AND (j.config ->> 'mat_hypertable_id')::int = a.mat_hypertable_id)
FROM _timescaledb_catalog.continuous_agg a JOIN _timescaledb_catalog.hypertable h ON h.id = a.raw_hypertable_id
WHERE h.schema_name = %s AND h.table_name = %s ORDER BY 1
"""
BEGINNING = -(2**63)
"""Before all time, as TimescaleDB counts: in microseconds since 1970."""


@dataclass(frozen=True)
class Rollup:
    """A continuous aggregate, in microseconds since 1970. `behind`: stretches, both ends included, that it has not
    taken in as they are now. `reaches_to`: the first moment that its refresh policy looks at; None without one."""

    name: str
    behind: tuple[tuple[int, int], ...] = ()
    reaches_to: int | None = None


def hypertable_facts(ddl: Ddl, table: str, quoted: str) -> TableFacts:
    """Return what a hypertable is; shape `foreign` says why it is not ours to manage."""
    schema, _, name = table.rpartition(".")
    named = (schema or "public", name)
    if job := ddl.rows(_OWN_POLICY, named):
        why = (
            f"a retention policy of TimescaleDB (job {job[0][0]}) drops its chunks, and a table has one manager: "
            f"SELECT remove_retention_policy('{table}'), or leave it out of the policy"
        )
        return TableFacts(table, "foreign", why=why)
    column, type_name = ddl.rows(_TIME, named)[0]
    kind = KINDS.get(normalized(type_name))
    if kind not in ("timestamptz", "timestamp", "date"):
        why = f"it is a TimescaleDB hypertable cut by column '{column}' of type {type_name}; only time is known"
        return TableFacts(table, "foreign", why=why)
    zone = "+00" if kind in AWARE else ""
    day = slice(10) if kind == "date" else slice(None)
    parts = tuple(
        Partition(chunk, parsed(low[day] + zone, kind), parsed(high[day] + zone, kind), int(size))
        for chunk, low, high, size in ddl.rows(_CHUNKS, (quoted, *named))
    )
    return TableFacts(table, "hypertable", column, kind, parts)


def rollups(ddl: Ddl, table: str, now: datetime) -> list[Rollup]:
    """Return the continuous aggregates that rest on a hypertable."""
    schema, _, name = table.rpartition(".")
    return [
        Rollup(view, tuple((low, high) for low, high in behind), reaches)
        for view, behind, reaches in ddl.rows(_ROLLUPS, (now, BEGINNING, schema or "public", name))
    ]


__all__ = ["BEGINNING", "Rollup", "hypertable_facts", "rollups"]
