"""TimescaleDB hypertables: chunks that are too old are archived, proven, and dropped by the extension's own function.

A chunk stays in its table until it is dropped: rows are seen during the grace, and there is nothing to attach again.
What changes meanwhile, by a late row for example, is archived anew. Run against TimescaleDB 2.28.3: see CONTRIBUTING.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise

from millstream_api.retentionpolicy import PartitionBy, RetentionPolicySpec
from millstream_pipelines.errors import DataError
from millstream_pipelines.retention import records
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.facts import Partition, TableFacts
from millstream_pipelines.retention.hypertables import Rollup, rollups
from millstream_pipelines.retention.planning import Planned, cutoff, onward, overlaps, zone_of
from millstream_pipelines.retention.records import Retired
from millstream_pipelines.retention.spans import Kind, Span, Value, spelled
from millstream_pipelines.warehouses.names import quote_table


def refused(facts: TableFacts, by: PartitionBy | None, policy: RetentionPolicySpec, limits: Iterable[str]) -> str:
    """Return why a policy cannot own a hypertable; an empty text when it can. `limits`: those it sets, by name."""
    table, others = facts.name, [name for name in limits if name != "age"]
    if by is not None:
        return f"{table} is a TimescaleDB hypertable, which cuts itself into chunks; leave partitionBy out"
    if others:
        return f"{table} is a TimescaleDB hypertable, of which only keep.age can be kept, not {', '.join(others)}"
    if any(item.table == table for item in policy.dependents):
        return f"{table} is a TimescaleDB hypertable, for which `dependents` are not looked at; leave them out"
    for one, other in pairwise(facts.partitions if policy.archive is not None else ()):
        if one.high is not None and other.low is not None and other.low < one.high:  # type: ignore[operator]
            return (
                f"{table} is a TimescaleDB hypertable whose chunks {one.name} and {other.name} take the same time, as "
                "it is cut in space, too: they cannot be dropped one by one, so leave `archive` out"
            )
    return ""


def plan(ddl: Ddl, facts: TableFacts, age: str | None, policy: RetentionPolicySpec, now: datetime) -> list[Planned]:
    """Look, and return what is due. See `planned`."""
    return planned(facts, age, policy, now, records.retired(ddl, facts.name), rollups(ddl, facts.name, now))


def planned(
    facts: TableFacts,
    age: str | None,
    policy: RetentionPolicySpec,
    now: datetime,
    known: Sequence[Retired] = (),
    resting: Sequence[Rollup] = (),
) -> list[Planned]:
    """Return the steps, oldest chunk first; what a hold or a rollup forbids is among them, and says so. Pure.

    `known`: records of what has begun to leave; `resting`: the rollups.
    """
    zone, table = zone_of(None), facts.name
    limit = cutoff(age, facts, zone, now) if age is not None else None
    leaving = {item.partition: item for item in known if item.is_here}
    found = []
    for chunk in facts.partitions:
        if limit is None or chunk.low is None or chunk.high is None or chunk.high > limit:  # type: ignore[operator]
            continue
        low, high = spelled(chunk.low, facts.kind), spelled(chunk.high, facts.kind)
        record, why = leaving.pop(chunk.name, None), f"older than {age}"
        if policy.archive is not None and (record is None or record.state != "archived"):
            found.append(Planned("archive", table, chunk.name, low, high, why, chunk.bytes, subject=chunk))
            continue
        if policy.archive is not None and record is not None:
            if now < Span.of(policy.grace).after(record.archived_at or now, zone):
                continue
            why = f"archived for {policy.grace}"
        elif companions := _within(chunk, facts):
            why = f"{why}; with it {', '.join(companions)}"  # so that who approves it approves them, and no others
        held = [f"hold '{hold.name}'" for hold in policy.holds
                if hold.table == table and overlaps(hold, chunk.low, chunk.high, facts, zone)]  # fmt: skip
        blocked = "; ".join([*held, *filter(None, (_forbids(rollup, chunk.low, chunk.high) for rollup in resting))])
        subject = record if policy.archive is not None else chunk
        found.append(Planned("drop", table, chunk.name, low, high, why, chunk.bytes, blocked_by=blocked,
                             subject=subject))  # fmt: skip
    here = {chunk.name for chunk in facts.partitions}
    for record in known:
        if record.state == "dropped":
            found += onward(record, None, policy, now, record.high_value)
        elif record.state == "archived" and record.partition not in here:  # somebody dropped it by hand
            found.append(
                Planned("drop", table, record.partition, record.low, record.high, "it is gone", subject=record)
            )
    return found


def _within(chunk: Partition, facts: TableFacts) -> list[str]:
    """Return the other chunks that a drop of its range takes: where a table is cut in space, those of its time."""
    return [
        other.name
        for other in facts.partitions
        if other.name != chunk.name and other.low is not None and other.high is not None
        if other.low >= chunk.low and other.high <= chunk.high  # type: ignore[operator]  # they are of one kind
    ]


def _forbids(rollup: Rollup, low: Value, high: Value) -> str:
    """Return why a rollup forbids that a range of its rows goes; an empty text when it does not."""
    first, end = _micros(low), _micros(high)
    if any(begin < end and last >= first for begin, last in rollup.behind):
        return (
            f"continuous aggregate {rollup.name}, which has not taken in all of its rows: CALL "
            f"refresh_continuous_aggregate('{rollup.name}', …) over the range"
        )
    if rollup.reaches_to is not None and rollup.reaches_to < end:
        return (
            f"continuous aggregate {rollup.name}, whose refresh policy reaches back that far and would empty it there: "
            "give it a start_offset shorter than keep.age"
        )
    return ""


def _micros(value: Value) -> int:
    assert isinstance(value, datetime)  # noqa: S101 - a hypertable cut by a number is not ours
    moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    whole = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (whole.days * 86_400 + whole.seconds) * 1_000_000 + whole.microseconds


def dropping(table: str, kind: Kind, low: str, high: str) -> tuple[str, tuple[str, str, str]]:
    """Return the query, and its values, that drops the chunks which lie within a range, its ends included."""
    return (
        f"SELECT drop_chunks(%s::regclass, older_than => %s::{kind}, newer_than => %s::{kind})",
        (quote_table(table), high, low),
    )


def take_out(ddl: Ddl, table: str, kind: Kind, chunk: str, low: str, high: str, *, alone: bool) -> None:
    """Drop a chunk by its range, in the open transaction. DataError where another one goes with it, or it stays.

    `alone`: no other may go. The driver's errors stay its own.
    """
    with ddl.connection.cursor() as cursor:
        cursor.execute(*dropping(table, kind, low, high))
        gone = {row[0].replace('"', "") for row in cursor.fetchall()}
    if chunk not in gone or (alone and gone != {chunk}):
        raise DataError(
            f"{ddl.owner}: dropping chunk {chunk} of {table}: drop_chunks took {', '.join(sorted(gone)) or 'nothing'}; "
            "nothing was dropped",
            reason="RetentionNotReached",
        )


def drop(ddl: Ddl, facts: TableFacts, step: Planned) -> None:
    """Drop one chunk that is not archived. RetriableError when its lock was not to be had in time."""
    doing, low, high = f"dropping chunk {step.partition} of {facts.name}", step.low or "", step.high or ""
    if all(item.name != step.partition for item in facts.partitions):  # it went with one of the same time
        return
    ddl.transaction(
        doing,
        lambda: take_out(ddl, facts.name, facts.kind, step.partition, low, high, alone=False),
        (quote_table(facts.name),),
    )


__all__ = ["drop", "dropping", "plan", "planned", "refused", "take_out"]
