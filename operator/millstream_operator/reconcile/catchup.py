"""Missed scheduled times and the runs that make up for them. Pure; why not by the CronJob alone: docs/decisions.

A time is missed when nothing was started for it within `startingDeadlineSeconds`, or when a later one was started: the
CronJob controller never goes back. Settled times and missed ones are remembered in the status, since runs are deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from millstream_api import conditions
from millstream_api.pipeline import CatchUp, PipelineSpec, Schedule
from millstream_operator.objects.cronjob import MARGIN
from millstream_operator.reconcile.observed import Body, instant, rfc3339
from millstream_operator.reconcile.outcome import Note
from millstream_operator.reconcile.runs import RunState
from millstream_operator.reconcile.ticks import ticks

LIMIT = 100  # missed times that get a run; a schedule of every minute misses 1440 a day


@dataclass(frozen=True)
class Plan:
    """What is to be remembered, and the missed time whose run is to start now."""

    status: CatchUp | None
    due: str | None = None
    begins: bool = False  # times count from now on: first write that down, then let the CronJob start runs
    notes: tuple[Note, ...] = ()
    again_s: float | None = None


def plan(
    spec: PipelineSpec, known: CatchUp | None, runs: Sequence[RunState], cronjob: Body | None, now: datetime
) -> Plan:
    """Decide which missed time gets its run now, if any: one at a time, oldest first."""
    schedule = spec.schedule
    if schedule is None or schedule.catch_up == "none":
        return Plan(None)
    if spec.suspend or cronjob is None:  # nothing is due
        return Plan(known and known.model_copy(update={"since": None}))
    name = f"{schedule.cron} {schedule.time_zone} {schedule.catch_up}"
    if known is None or known.schedule != name:
        return Plan(CatchUp(schedule=name, since=rfc3339(now)), begins=True)
    if known.since is None:
        return Plan(known.model_copy(update={"since": rfc3339(now)}), begins=True)
    return _planned(schedule, known, _Past(schedule, runs, cronjob), runs, now)


def message(status: CatchUp | None) -> str:
    """Return what the Ready condition says of it, as the end of a sentence."""
    if status is None or not status.missed:
        return ""
    return f"; {len(status.missed)} missed run(s) still to start, one after the other{_more(status)}"


class _Past:
    """What was started, and when runs were active."""

    def __init__(self, schedule: Schedule, runs: Sequence[RunState], cronjob: Body) -> None:
        last = cronjob.get("status", {}).get("lastScheduleTime")
        own = [instant(run.scheduled_for) for run in runs if run.scheduled and run.scheduled_for]
        by_cronjob = {*own, *([instant(last)] if last else [])}
        self.started = by_cronjob | {instant(run.scheduled_for) for run in runs if run.scheduled_for}
        self._newest = max(by_cronjob, default=None)
        # The CronJob controller deletes its oldest Jobs: of what was before the first that is left nothing is known.
        self._known_from = min(own) if len(own) >= MARGIN else None
        forbid = schedule.concurrency_policy == "Forbid"
        self._active = [_activity(run) for run in runs if forbid and run.scheduled and run.began]

    def settled(self, tick: datetime) -> bool:
        """Whether it has its run, or came while one was active and so was left out on purpose (Forbid)."""
        forgotten = self._known_from is not None and tick < self._known_from
        return tick in self.started or forgotten or any(last and first <= tick <= last for first, last in self._active)

    def undecided(self, tick: datetime) -> bool:
        """Whether a run is active whose end decides."""
        return any(last is None and first <= tick for first, last in self._active)

    def overtaken(self, tick: datetime) -> bool:
        """Whether the CronJob controller started a later one."""
        return self._newest is not None and tick < self._newest


def _activity(run: RunState) -> tuple[datetime, datetime | None]:
    """Return from when to when a run was active. A Job's own end may be written long after, when an outage is over."""
    status, first = run.status, instant(run.began)
    if not run.finished:
        return first, None
    last = instant(status.finished_at or run.began)
    if status.attempts == 1 and status.duration_seconds is not None:
        last = min(last, first + timedelta(seconds=status.duration_seconds))
    return first, last


def _planned(schedule: Schedule, known: CatchUp, past: _Past, runs: Sequence[RunState], now: datetime) -> Plan:
    deadline = timedelta(seconds=schedule.starting_deadline_seconds)
    since = instant(known.since or rfc3339(now))
    missed = [moment for text in known.missed if (moment := instant(text)) not in past.started]
    again_s = None
    young = max(since, now - deadline - timedelta(microseconds=1))
    late = ticks(schedule, since, young, LIMIT + 1)
    for tick in (*late, *ticks(schedule, young, now, LIMIT + 1)):
        if past.settled(tick):
            missed = [] if schedule.catch_up == "latest" else missed
        elif past.undecided(tick):
            break
        elif past.overtaken(tick) or tick + deadline < now:
            missed.append(tick)
        else:
            again_s = (tick + deadline - now).total_seconds() + 1
            break
        since = tick
    missed = missed[-1:] if schedule.catch_up == "latest" else missed
    status = known.model_copy(
        update={
            "since": rfc3339(since),
            "missed": [rfc3339(tick) for tick in missed[-LIMIT:]],
            "dropped": len(missed) > LIMIT or (known.dropped and bool(missed)),
        }
    )
    return _due(status, known, runs, again_s)


def _due(status: CatchUp, known: CatchUp, runs: Sequence[RunState], again_s: float | None) -> Plan:
    notes = _told(status) if len(status.missed) > len(known.missed) else ()
    busy = any(run.trigger == "catchup" and not (run.finished or run.leaving) for run in runs)
    if not status.missed or busy:
        return Plan(status, notes=notes, again_s=again_s)
    due, left = status.missed[0], status.missed[1:]
    after = status.model_copy(update={"missed": left, "dropped": status.dropped and bool(left)})
    return Plan(after, due=due, notes=notes, again_s=again_s)


def _told(status: CatchUp) -> tuple[Note, ...]:
    count = len(status.missed)
    later = f" and {count - 1} later time(s); runs make up for them, one after the other" if count > 1 else ""
    text = f"no run was started at {status.missed[0]}{later or '; a run makes up for it'}{_more(status)}"
    return (Note("Warning", conditions.RUNS_MISSED, text),)


def _more(status: CatchUp) -> str:
    return f"; more than {LIMIT} were missed, the oldest get no run" if status.dropped else ""
