"""What a policy's run plans and does about a plain table: turn it, split its old range, drop what is left over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from millstream_api.retentionpolicy import PartitionBy, RetentionPolicySpec
from millstream_pipelines.retention import convert, keys_in, keys_out, split
from millstream_pipelines.retention.conversion_sql import before
from millstream_pipelines.retention.conversions import conversion
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.facts import TableFacts
from millstream_pipelines.retention.planning import Planned, zone_of
from millstream_pipelines.retention.spans import Span
from millstream_pipelines.warehouses.names import quote_table


def planned_turn(ddl: Ddl, facts: TableFacts, by: PartitionBy, now: datetime) -> list[Planned]:
    """Return the step that turns a plain table, with all that stands in its way."""
    stands = "; ".join(convert.plan(ddl, facts, by, now))
    why = f"partitionBy.convert; splitting it later takes about {_size(ddl, facts.name)} more of the disk for a while"
    return [Planned("convert", facts.name, before(facts.name), None, None, why, blocked_by=stands)]


def planned_split(
    ddl: Ddl, table: str, by: PartitionBy | None, policy: RetentionPolicySpec, now: datetime
) -> list[Planned]:
    """Return the next step of a table that was turned; nothing where there is none."""
    found = conversion(ddl, table)
    if found is None or by is None or found.state in ("checking", "ended", "whole"):
        return []
    if found.state != "switched":
        why = (
            f"the rows of before lie in one range, {found.copied} are copied; it needs {_size(ddl, found.old)} of disk"
        )
        return [Planned("split", table, found.old, None, None, why)]
    if keys_out.pending(ddl, table) or keys_in.unvalidated(ddl, table):
        return [Planned("split", table, found.old, None, None, "foreign keys are to be validated for its rows")]
    if found.switched_at is None or now < Span.of(policy.grace).after(found.switched_at, zone_of(by)):
        return []
    why, since = f"its rows were split into partitions {policy.grace} ago", found.switched_at.astimezone(UTC)
    return [Planned("drop", table, found.old, None, None, why, occurrence=since.isoformat())]


def go_on(ddl: Ddl, step: Planned, by: PartitionBy, policy: RetentionPolicySpec, now: datetime) -> str:
    """Take the next steps of a split, for half of a run's time at most; only a drop that is planned is done."""
    grace = timedelta(0) if step.step == "drop" else None
    return split.advance(ddl, step.table, by, policy.timeout_seconds / 2, grace, now)


def _size(ddl: Ddl, table: str) -> str:
    size = ddl.rows("SELECT pg_size_pretty(pg_total_relation_size(to_regclass(%s)))", (quote_table(table),))[0][0]
    return str(size or "0 bytes")


__all__ = ["go_on", "planned_split", "planned_turn"]
