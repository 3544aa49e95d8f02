"""One table of a policy's run: looked at, planned, worked on under its own lock, reported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from millstream_api import TableReport
from millstream_api.retentionpolicy import PartitionBy, RetentionPolicySpec
from millstream_pipelines.errors import ConfigurationError, DataError, MillstreamError
from millstream_pipelines.retention import astray, claims, ondemand, partitions, records, timescale, turning, unfinished
from millstream_pipelines.retention.approval import Approved, may
from millstream_pipelines.retention.beforehand import told
from millstream_pipelines.retention.chosen import Chosen
from millstream_pipelines.retention.convert import convert
from millstream_pipelines.retention.ddl import Ddl, alone
from millstream_pipelines.retention.dependence import standing
from millstream_pipelines.retention.erasing import Erasing
from millstream_pipelines.retention.facts import Partition, TableFacts
from millstream_pipelines.retention.leaving import DIFFERS, Leaving
from millstream_pipelines.retention.ownable import refuse
from millstream_pipelines.retention.planning import (
    Planned,
    TableState,
    cutoff,
    ended,
    plan_table,
    refuse_unkept,
    zone_of,
)
from millstream_pipelines.retention.records import Retired
from millstream_pipelines.retention.sessions import Sessions
from millstream_pipelines.retention.spans import Span, Value, parsed, spelled
from millstream_pipelines.retention.state import facts_of, state_of, steadily
from millstream_pipelines.retention.store import ArchiveStore
from millstream_pipelines.warehouses._postgres.connection import PostgresConfig

_DONE = {
    "create": "made", "detach": "detached", "archive": "archived and verified", "drop": "dropped",
    "expire": "archives expired", "erase": "erasures carried out",
    "changed": "changed since they were archived, and stay until they are archived anew",
}  # fmt: skip


@dataclass
class TableRun:
    """A table in one run of its policy. `patience_s`: see `alone`; `failure`: what ended its part of the run."""

    ddl: Ddl
    config: PostgresConfig
    policy: str
    spec: RetentionPolicySpec
    chosen: Chosen
    store: ArchiveStore | None
    now: datetime
    patience_s: float = 0.0
    failure: MillstreamError | None = None
    done: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)
    _turn: list[Planned] | None = None
    waited_s: float = 0.0
    _sessions: Sessions | None = None
    _erasing: Erasing = field(init=False)
    _refused: dict[tuple[Any, ...], str] = field(default_factory=dict)
    _approved: Approved = frozenset()
    _unproven: list[MillstreamError] = field(default_factory=list)
    before: frozenset[str] = frozenset()
    """Tables that this run drops before it comes to this one."""

    def __post_init__(self) -> None:
        self._erasing = Erasing(self.ddl, self.config, self.policy, self.spec, self.chosen.name, self.store, self.now)

    def plan(self) -> list[Planned]:
        """Look, and return what is due. ConfigurationError where the table is none that a policy can own."""
        claims.refuse_other(self.ddl, self.chosen.name, self.policy, self.spec.former_names)
        steps = steadily(self._planned)
        return [replace(step, blocked_by=step.blocked_by or self._refused.get(_key(step), "")) for step in steps]

    def drops(self, planned: Sequence[Planned]) -> frozenset[str]:
        """Return the tables that a run drops which carries out these steps without a person's approval."""
        steps = ("drop", "detach") if Span.of(self.spec.grace).count == 0 else ("drop",)
        if self.spec.approval == "manual":
            return frozenset()
        return frozenset(step.partition for step in planned if step.step in steps and not step.blocked_by)

    def _facts(self) -> TableFacts:
        return facts_of(self.ddl, self.chosen)

    def _planned(self) -> list[Planned]:
        facts = self._facts()
        by = self.chosen.by
        if facts.shape == "plain" and by is not None and by.convert:
            if self._turn is None:  # it looks at all rows
                self._turn = turning.planned_turn(self.ddl, facts, by, self.now)
            return self._turn
        if facts.shape == "missing" and by is not None:
            return []
        refuse(self.ddl.owner, facts, self.chosen, self.spec, erases=bool(self._erasing.wanted))
        if facts.shape == "hypertable":
            return timescale.plan(self.ddl, facts, self.chosen.keep.age, self.spec, self.now)
        later = [] if self.done["convert"] else turning.planned_split(self.ddl, facts.name, by, self.spec, self.now)
        try:
            state = state_of(self.ddl, facts, self.chosen, self.spec)
            steps = astray.named(self.ddl, plan_table(state, self.spec, self.now), self.spec.archive is not None)
            refuse_unkept(state, self.spec)
            steps = told(self.ddl, facts, [*steps, *later], self.before)
            return [*self._erasing.planned(facts, zone_of(by)), *steps]
        except ValueError as error:
            raise ConfigurationError(f"{self.ddl.owner}: table {self.chosen.name}: {error}") from error

    def go(self, approved: Approved) -> None:
        """Do what is due, step by step, until nothing more is: a detached partition is archived in the same run."""
        waited_before, self._approved = self.ddl.waited_s, approved
        try:
            with (
                alone(self.ddl, self.chosen.name, self.patience_s),
                Sessions(self.config, self.ddl.owner) as self._sessions,
            ):
                claims.claim(self.ddl, self.chosen.name, self.policy, self.spec.former_names)
                self._leaving().tidy(self.chosen.name)
                self.told += unfinished.removed(self.ddl, self.chosen.name)
                self._erasing.look_again_if_changed(self._facts())
                tried: set[tuple[Any, ...]] = set()
                self._remember()
                while steps := [step for step in self.plan() if self._may(step) and _key(step) not in tried]:
                    for step in steps:
                        tried.add(_key(step))
                        self._try(step)
                        if step.step == "erase":  # archives were written anew, which further steps rely on
                            break
                    if self._unproven:
                        first = self._unproven[0]
                        raise DataError("; ".join(map(str, self._unproven)), reason=first.reason) from first
                self._erasing.settle(self._facts(), zone_of(self.chosen.by))
                self._leaving().tidy(self.chosen.name)
                self._look_back()
        finally:
            self.waited_s = self.ddl.waited_s - waited_before

    def announce(self) -> None:
        """Tell loads how a table that is not there yet is to be cut; a dry run does it too, for a load may be first."""
        by = self.chosen.by
        if by is not None and self._facts().shape == "missing":
            ondemand.remember(self.ddl, self.chosen.name, by, None)

    def _remember(self) -> None:
        """Tell loads how the table is cut, so that they make what is missing."""
        facts, by = self._facts(), self.chosen.by
        if facts.shape == "ranges" and by is not None:
            ondemand.remember(self.ddl, facts.name, by, facts.kind)
        elif facts.shape == "ranges":
            ondemand.forget(self.ddl, facts.name)

    def report(self) -> TableReport:
        """Return how the table stands now."""
        name = self.chosen.name
        facts = self._facts()
        known = records.retired(self.ddl, name)
        blocked = [] if self.failure is not None else [step for step in self.plan() if step.blocked_by]
        done = [f"{count} {_DONE[step]}" for step, count in self.done.items() if step in _DONE]
        message = "; ".join(filter(None, [", ".join(done), *self.told]))
        if facts.shape == "missing":
            message = "waits for its first load, which makes it with partitions"
        if blocked:
            names = sorted({step.blocked_by for step in blocked})
            message = "; ".join([*filter(None, [message]), f"{len(blocked)} blocked by {'; '.join(names)[:300]}"])
        if self.failure is not None:
            message = str(self.failure)
        live = facts.partitions
        here = {part.name for part in live}
        return TableReport(
            name=name,
            outcome="failed" if self.failure is not None else "blocked" if blocked else "done",
            message=message,
            live=len(live),
            detached=sum(item.is_here and item.partition not in here for item in known),
            archived=sum(item.manifest is not None and item.state != "expired" for item in known),
            dropped=sum(item.state in ("dropped", "expired") for item in known),
            held=sum("hold '" in step.blocked_by for step in blocked),
            horizon=_shown(_horizon(facts, self.chosen.by), facts),
            oldest=_shown(live[0].low, facts) if live else None,
            archived_bytes=sum(item.archive_bytes or 0 for item in known if item.state != "expired"),
            pending_bytes=sum(item.bytes for item in known if item.is_here and item.partition not in here),
            dropped_bytes=sum(item.bytes for item in known if item.state in ("dropped", "expired")),
            verified_at=_latest(known),
            lock_wait_seconds=round(self.waited_s, 3),
            waiting=sum(item.state in ("retiring", "detached") for item in known) if self.store is not None else 0,
            verify_failures=int(self.failure is not None and self.failure.reason in DIFFERS),
        )

    def _may(self, step: Planned) -> bool:
        return step.step == "convert" or may(step, self._approved)  # a conversion that is blocked says so by failing

    def _try(self, step: Planned) -> None:
        """Do a step; the others go on where an object of the database refuses it, or an archive proves nothing."""
        try:
            self._do(step)
        except MillstreamError as error:
            if step.step in ("drop", "expire") and error.reason in {*DIFFERS, "ChangedSinceArchive"}:
                self._unproven.append(error)
                return
            why = standing(self.ddl, error) if step.step in ("detach", "drop") else ""
            if not why:
                raise
            self._refused[_key(step)] = why

    def _do(self, step: Planned) -> None:
        facts, by = self._facts(), self.chosen.by
        leaving = replace(self._leaving(), chunked=facts.shape == "hypertable")
        subject = step.subject
        if step.step == "erase":
            self.done["erase"] += self._erasing.go(facts, zone_of(by), self._may)
            return
        if step.step == "convert" and by is not None:
            self.told.append(convert(self.ddl, facts, by, self.now))
        elif isinstance(subject, Partition) and step.step == "drop":
            timescale.drop(self.ddl, facts, step)
        elif isinstance(subject, Partition) and step.step == "archive":  # a chunk, which stays where it is
            leaving.archive(leaving.detach(step, facts, zone_of(by).key))
        elif by is not None and subject is None and step.step in ("split", "drop"):
            self.told.append(turning.go_on(self.ddl, step, by, self.spec, self.now))
        elif step.step == "create":
            low, high = parsed(step.low or "", facts.kind), parsed(step.high or "", facts.kind)
            partitions.create(self.ddl, facts, step.partition, low, high)
        elif step.step == "detach":
            leaving.detach(step, facts, zone_of(self.chosen.by).key)
        elif isinstance(subject, Retired):
            if step.step == "archive":
                leaving.archive(subject)
            elif step.step == "drop":
                if not leaving.dropped(subject):
                    self.done["changed"] += 1
                    return
            elif step.step == "expire":
                leaving.expire(subject)
        self.done[step.step] += 1

    def _leaving(self) -> Leaving:
        return Leaving(self.ddl, self.config, self.policy, self.store, self.now, self._sessions)

    def _look_back(self) -> None:
        """After all was done, the oldest row must be young enough; where it is not, that is a failure."""
        facts = self._facts()
        if facts.shape == "hypertable":  # each drop has looked; chunks wait in their table, and late rows make new ones
            return
        age = self.chosen.keep.age
        limit = cutoff(age, facts, zone_of(self.chosen.by), self.now) if age else None
        blocked = {step.partition for step in self.plan() if step.blocked_by}
        state = TableState(facts, by=self.chosen.by)
        for part in facts.partitions if limit is not None else ():
            end = ended(state, part.low, part.high)
            if end is not None and end <= limit and part.name not in blocked:  # type: ignore[operator]
                raise DataError(
                    f"{facts.name}: partition {part.name} is older than {age} and is still attached after the run",
                    reason="RetentionNotReached",
                )


def _key(step: Planned) -> tuple[Any, ...]:
    return (step.step, step.partition, step.low, step.high)


def _horizon(facts: TableFacts, by: PartitionBy | None) -> Value | None:
    """Return the end of what is made ahead; None where nothing is: that others make in time is not ours to watch."""
    if facts.shape != "ranges" or by is None or not facts.partitions:
        return None
    last = facts.partitions[-1]
    try:
        return ended(TableState(facts, by=by), last.low, last.high)
    except ValueError:  # an interval that does not fit, which the run has failed for
        return last.high


def _shown(value: Value | None, facts: TableFacts) -> str | None:
    return None if value is None else spelled(value, facts.kind)


def _latest(known: Sequence[Retired]) -> str | None:
    moments = [item.verified_at for item in known if item.verified_at is not None]
    return f"{max(moments).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if moments else None


__all__ = ["TableRun"]
