"""What a policy asks for now: which ranges are made, leave, are archived, dropped, expire; and what forbids it. Pure.

A limit is decided on a partition's upper bound, never on a row: a partition leaves when no row in it can be within the
limit. The partition that takes rows now, and those ahead of it, never leave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

from millstream_api import PlannedStep
from millstream_api.retention_report import Step
from millstream_api.retentionpolicy import Hold, Keep, PartitionBy, RetentionPolicySpec
from millstream_pipelines.retention.condition import Condition
from millstream_pipelines.retention.facts import Partition, TableFacts
from millstream_pipelines.retention.limits import Counted
from millstream_pipelines.retention.partitions import missing_ranges, partition_name
from millstream_pipelines.retention.records import Retired
from millstream_pipelines.retention.spans import AWARE, Grid, Span, Value, following, parsed_in, spelled

IRREVERSIBLE: frozenset[Step] = frozenset({"drop", "expire", "erase"})


@dataclass(frozen=True)
class Planned:
    """A step for one range. `subject` is what it is done to."""

    step: Step
    table: str
    partition: str
    low: str | None
    high: str | None
    why: str
    bytes: int = 0
    rows: int = 0
    blocked_by: str = ""
    subject: Partition | Retired | Condition | None = None
    occurrence: str = ""
    """Tells a step from one like it that comes later, where the subject does not."""

    def told(self) -> PlannedStep:
        """Return it as reports have it."""
        told = {
            "table": self.table, "step": self.step, "partition": self.partition, "from": self.low or "",
            "to": self.high or "", "why": self.why, "bytes": self.bytes, "rows": self.rows,
            "blockedBy": self.blocked_by,
            "irreversible": self.step in IRREVERSIBLE,
        }  # fmt: skip
        return PlannedStep.model_validate(told)


@dataclass(frozen=True)
class TableState:
    """All that the decision about one table rests on. `newest`: its largest value, for integers. `watermarks`: how far
    each dependent has come. `over_bytes`: what must leave because the disk is full. `restored`: what came back."""

    facts: TableFacts
    records: Sequence[Retired] = ()
    by: PartitionBy | None = None
    keep: Keep = field(default_factory=Keep)
    newest: Value | None = None
    watermarks: Mapping[str, Value | None] = field(default_factory=dict)
    over_bytes: int = 0
    restored: Sequence[Retired] = ()


def zone_of(by: PartitionBy | None) -> ZoneInfo:
    """Return the zone in which a table's days begin."""
    return ZoneInfo(by.time_zone if by is not None else "Etc/UTC")


def grid_of(facts: TableFacts, by: PartitionBy) -> Grid:
    """Return the table's grid. ValueError when interval and column do not go together."""
    span = Span.of(by.interval)
    kind = facts.kind
    if (span.unit == "number") != (kind == "integer"):
        needs = "a bare number such as '100000'" if kind == "integer" else "a time such as '1 month'"
        more = ", or say with timeAs how it tells time" if kind == "integer" else ""
        raise ValueError(
            f"partitionBy.interval is '{by.interval}'; column '{by.column}' is of type {kind}: give {needs}{more}"
        )
    if span.unit == "hour" and kind in ("date", "yyyymmdd"):
        raise ValueError(f"partitionBy.interval is '{by.interval}'; a date has no hours: give '1 day' or more")
    months = span.count if span.unit == "month" else 0
    if (kind == "yyyymm" and not months) or (kind == "yyyy" and (not months or months % 12)):
        least = "1 month" if kind == "yyyymm" else "1 year"
        raise ValueError(f"partitionBy.interval is '{by.interval}'; numbers such as {kind} need '{least}' or more")
    return Grid(facts.kind, span, zone_of(by))


def plan_table(state: TableState, policy: RetentionPolicySpec, now: datetime) -> list[Planned]:
    """Return the steps that a run would take, in order; those that something forbids are among them, and say so."""
    leaving = _leaving(state, policy, now)
    attached = {part.name: part for part in state.facts.partitions}
    steps: list[Planned] = []
    for record in state.records:
        part = attached.get(record.partition) if record.is_here else None
        if part is None or part.detaching:  # else it came back, by whatever hand
            of_now = record.kind == state.facts.kind  # else of a table before this one, or counted otherwise
            end = ended(state, record.low_value, record.high_value) if of_now else record.high_value
            steps += onward(record, part, policy, now, end)
    begun = {step.partition for step in steps if step.step == "detach"}
    ended_first = [step for step in steps if step.step == "detach"]  # while one is pending, no other can begin
    leaving.sort(key=lambda step: not (isinstance(step.subject, Partition) and step.subject.detaching))
    return [
        *_created(state, now), *ended_first, *(step for step in leaving if step.partition not in begun),
        *(step for step in steps if step.step != "detach"),
    ]  # fmt: skip


def cutoff(age: str, facts: TableFacts, zone: ZoneInfo, now: datetime) -> datetime | None:
    """Return the moment before which rows are too old, as the column has it; None for a column without time."""
    if facts.kind == "integer":
        return None
    moment = Span.of(age).before(now, zone)
    return moment if facts.kind in AWARE else moment.astimezone(zone).replace(tzinfo=None)


def refuse_unkept(state: TableState, policy: RetentionPolicySpec) -> None:
    """Raise ValueError for a limit that the table's column cannot be held to."""
    archive = policy.archive.keep if policy.archive is not None else None
    for limit in (["keep.age"] if state.keep.age else []) + (["archive.keep.age"] if archive is not None else []):
        if state.facts.shape == "ranges" and state.facts.kind == "integer":
            raise ValueError(
                f"{limit} counts time, and column '{state.facts.column}' has numbers: say with partitionBy.timeAs how "
                "they tell time; if they tell none, give this table a `keep` of its own with rows or size"
                + (", and a policy of its own with archives that stay" if archive is not None else "")
            )


def ended(state: TableState, low: Value | None, high: Value | None) -> Value | None:
    """Return where the time of a partition ends: a value of a list stands for a whole interval."""
    facts, by = state.facts, state.by
    if not facts.listed or by is None or high is None or low is None:
        return high
    grid = grid_of(facts, by)
    value = low
    while (after := following(value, facts.kind)) < high:  # type: ignore[operator]  # both are of one kind
        value = after
    return max(high, grid.next(grid.floor(value)))


def _created(state: TableState, now: datetime) -> list[Planned]:
    facts, by = state.facts, state.by
    if by is None or facts.shape != "ranges":
        return []
    grid = grid_of(facts, by)
    current: Value | None = state.newest if facts.kind == "integer" else grid.now(now)
    first = grid.floor(current if current is not None else 0)
    last = grid.next(first, by.premake)
    if facts.horizon is not None:  # no run for a while: what is just missing is made too, the rest on demand
        first = min(first, max(facts.horizon, grid.next(first, -by.premake)))
    taken = {part.name for part in facts.partitions} | {item.partition for item in state.records if item.is_here}
    away = [(item.low_value, item.high_value) for item in state.records if item.kind == facts.kind]
    steps = []
    for low, high in missing_ranges(facts, grid, first, last, away):
        name = partition_name(facts.name, low, grid, taken)
        taken.add(name)
        steps.append(
            Planned("create", facts.name, name, spelled(low, facts.kind), spelled(high, facts.kind),
                    f"premake {by.premake}")
        )  # fmt: skip
    return steps


def _leaving(state: TableState, policy: RetentionPolicySpec, now: datetime) -> list[Planned]:
    facts = state.facts
    if facts.shape != "ranges":
        return []
    return [
        Planned(
            "detach", facts.name, part.name, _text(part.low, facts), _text(part.high, facts), why, part.bytes,
            part.rows, blocked, part,
        )
        for part, why, blocked in _over(state, policy, now)
    ]  # fmt: skip


def _over(state: TableState, policy: RetentionPolicySpec, now: datetime) -> list[tuple[Partition, str, str]]:
    """Return the partitions that a limit asks to leave, oldest first, with the limit and with what forbids it.

    What is forbidden counts as gone for a limit of rows or size, so that a hold takes out nothing else; a disk that is
    full is not helped by what stays, and there the next one that may leave takes its place.
    """
    facts, keep, zone = state.facts, state.keep, zone_of(state.by)
    too_old = cutoff(keep.age, facts, zone, now) if keep.age else None
    asked, left = (Counted.of(facts, keep, state.over_bytes) for _ in range(2))
    found = []
    for part in facts.partitions:
        if not _is_past(part, state, zone, now):
            continue
        end, blocked = ended(state, part.low, part.high), _blocked(state, policy, part, now)
        is_old = too_old is not None and end is not None and end <= too_old  # type: ignore[operator]
        why = f"older than {keep.age}" if is_old else (asked if blocked else left).why()
        if why:
            found.append((part, why, blocked))
            asked.take_off(part)
            left.take_off(part, stays=bool(blocked))
    return found


def _is_past(part: Partition, state: TableState, zone: ZoneInfo, now: datetime) -> bool:
    end = ended(state, part.low, part.high)
    if end is None:
        return False
    if state.facts.kind == "integer":
        return state.newest is not None and end <= state.newest  # type: ignore[operator]
    current = now if state.facts.kind in AWARE else now.astimezone(zone).replace(tzinfo=None)
    return end <= current  # type: ignore[operator]


def _blocked(state: TableState, policy: RetentionPolicySpec, part: Partition, now: datetime) -> str:
    """Return what forbids that a partition leaves, by name."""
    low, high, zone = part.low, part.high, zone_of(state.by)
    reasons = [
        f"hold '{hold.name}'"
        for hold in policy.holds
        if hold.table == state.facts.name and overlaps(hold, low, ended(state, low, high), state.facts, zone)
    ]
    for name, seen in state.watermarks.items():
        if seen is None or high is None or seen < high:  # type: ignore[operator]
            reached = "nothing" if seen is None else spelled(seen, state.facts.kind)
            reasons.append(f"{name}, which has come to {reached} only")
    for record in state.restored:
        until = Span.of(policy.grace).after(record.restored_at or now, zone)
        if now < until and (record.low, record.high) == (_text(low, state.facts), _text(high, state.facts)):
            reasons.append(f"its restore: it stays for {policy.grace}; a hold keeps it longer")
    if state.facts.has_default:
        reasons.append("the DEFAULT partition: with one, PostgreSQL detaches nothing without shutting everybody out")
    return "; ".join(reasons)


def overlaps(hold: Hold, low: Value | None, high: Value | None, facts: TableFacts, zone: ZoneInfo) -> bool:
    """Return whether a hold covers a part of a range."""
    first = parsed_in(hold.from_, facts.kind, zone) if hold.from_ else None
    last = parsed_in(hold.to, facts.kind, zone) if hold.to else None
    begins_before = first is None or high is None or first < high  # type: ignore[operator]
    ends_after = last is None or low is None or last > low  # type: ignore[operator]
    return begins_before and ends_after


def _may_cover(hold: Hold, low: Value | None, high: Value | None, facts: TableFacts, zone: ZoneInfo) -> bool:
    """Return whether a hold may cover a part of a range: one that speaks of dates holds all that was cut by numbers."""
    try:
        return overlaps(hold, low, high, facts, zone)
    except ValueError:
        return True


def onward(
    record: Retired, attached: Partition | None, policy: RetentionPolicySpec, now: datetime, end: Value | None
) -> list[Planned]:
    """Return what comes next for a range that has begun to leave, and whose time ends there."""
    facts = TableFacts(record.table, "ranges", record.column, record.kind)
    zone = ZoneInfo(record.time_zone)
    held = [
        f"hold '{hold.name}'"
        for hold in policy.holds
        if hold.table == record.table and _may_cover(hold, record.low_value, end, facts, zone)
    ]
    blocked = "; ".join(held)

    def planned(step: Step, why: str, size: int, forbidden: str) -> Planned:
        return Planned(step, record.table, record.partition, record.low, record.high, why, size, record.rows or 0,
                       forbidden, record)  # fmt: skip

    if record.state == "retiring":  # a run was killed; what it had not begun to detach is decided anew
        begun = attached is None or attached.detaching
        return [planned("detach", record.why, record.bytes, "")] if begun else []
    if record.state == "detached" and policy.archive is not None:
        return [planned("archive", "detached", 0, "")]
    if record.state in ("detached", "archived"):
        due = Span.of(policy.grace).after(record.detached_at or now, zone)
        if now < due:
            return []
        return [planned("drop", f"detached for {policy.grace}", record.bytes, blocked)]
    keep = policy.archive.keep if policy.archive is not None else None
    if record.state == "dropped" and record.manifest and keep is not None and end is not None:
        limit = cutoff(keep.age, facts, zone, now)
        if limit is not None and end <= limit:  # type: ignore[operator]
            return [planned("expire", f"archive older than {keep.age}", 0, blocked)]
    return []


def _text(value: Value | None, facts: TableFacts) -> str | None:
    return None if value is None else spelled(value, facts.kind)


__all__ = [
    "IRREVERSIBLE", "Planned", "TableState", "cutoff", "ended", "grid_of", "onward", "overlaps", "plan_table",
    "refuse_unkept", "zone_of",
]  # fmt: skip
