"""What loads must know to make partitions themselves, when rows come for a range that has none."""

from __future__ import annotations

from millstream_api.retentionpolicy import PartitionBy
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.spans import Kind


def remember(ddl: Ddl, table: str, by: PartitionBy, kind: Kind | None) -> None:
    """Tell loads how a table that a policy owns is cut. Idempotent; each run of the policy says it anew.

    `kind` is None for a table that is still to be made: the load that makes it tells its kind.
    """
    ddl.rows(
        'INSERT INTO _millstream.partitioned (table_name, column_name, kind, "interval", time_zone, premake) '
        "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (table_name) DO UPDATE SET column_name = EXCLUDED.column_name, "
        'kind = EXCLUDED.kind, "interval" = EXCLUDED."interval", time_zone = EXCLUDED.time_zone, '
        "premake = EXCLUDED.premake, seen_at = now()",
        (full_name(table), by.column, kind or by.time_as or "", by.interval, by.time_zone, by.premake),
    )


def forget(ddl: Ddl, table: str) -> None:
    """Tell loads that no policy makes partitions of this table any more."""
    ddl.rows("DELETE FROM _millstream.partitioned WHERE table_name = %s", (full_name(table),))


def full_name(table: str) -> str:
    """Return `schema.table`; a bare name lies in `public`."""
    return table if "." in table else f"public.{table}"


__all__ = ["forget", "full_name", "remember"]
