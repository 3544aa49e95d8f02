"""What a policy's finished Jobs told, read once each: the newest plan, how runs ended, Archived and Blocked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from millstream_api import PlannedStep, RetentionReport, TableReport, conditions
from millstream_api.meta import Condition
from millstream_api.retention_report import PolicyRun, RetentionPolicyStatus
from millstream_api.retentionpolicy import RetentionPolicySpec
from millstream_operator.reconcile import repeating
from millstream_operator.reconcile.ending import verdict
from millstream_operator.reconcile.observed import JobFacts
from millstream_operator.reconcile.outcome import Note, RetainFacts
from millstream_operator.reconcile.retaining import DRY_RUN_ROLE

_NAMED = 5  # steps or tables named in a message
_ALARMING = frozenset({conditions.VERIFICATION_FAILED, conditions.STEPS_BLOCKED})
_MESSAGE_LIMIT = 600  # characters


@dataclass(frozen=True)
class Read:
    """The status with all finished Jobs in it, and what was new."""

    status: RetentionPolicyStatus
    facts: tuple[RetainFacts, ...] = ()
    notes: tuple[Note, ...] = ()


def read(status: RetentionPolicyStatus, jobs: Iterable[JobFacts], token: str) -> Read:
    """Read what has ended since the last look. `token` names what a Job would be made from now."""
    done = sorted((item for item in jobs if item.state != "active"), key=lambda item: (item.finished or "", item.name))
    facts: list[RetainFacts] = []
    notes: list[Note] = []
    for item in (item for item in done if item.uid not in status.counted_jobs):
        ran = _ran(item)
        if item.role == DRY_RUN_ROLE:
            update: dict[str, object] = {"last_dry_run": ran, "dry_run_failures": repeating.failures(status, ran)}
        else:
            update = {"last_run": ran}
            facts.append(_facts(item, ran))
            if ran.outcome == conditions.SUCCEEDED:
                update["last_success_at"] = item.finished
                notes.append(Note("Normal", "RunSucceeded", f"run {item.name}: {ran.message}"))
        told = item.report.retention if item.report is not None else None
        current = item.configuration == token or status.planned_for != token
        fresh = current and (item.finished or "") >= (status.planned_at or "")
        if told is not None and fresh:
            update |= _planned(told, item)
        status = status.model_copy(update=update)
    status = status.model_copy(update={"counted_jobs": sorted(item.uid for item in done)})
    return Read(status, tuple(facts), tuple(notes))


def problem(status: RetentionPolicyStatus, token: str) -> PolicyRun | None:
    """Return the run, or dry run, whose failure still stands. A dry run's success mends a wrong configuration only."""
    last, dry = status.last_run, status.last_dry_run
    later = dry is not None and (last is None or (dry.finished_at or "") > (last.finished_at or ""))
    if dry is not None and later and dry.outcome != conditions.SUCCEEDED:
        return dry
    if last is None or last.outcome == conditions.SUCCEEDED:
        return None
    mended = later or last.configuration != token
    return None if last.outcome == conditions.INVALID_CONFIGURATION and mended else last


def domain(spec: RetentionPolicySpec, status: RetentionPolicyStatus, token: str) -> list[Condition]:
    """Return the domain conditions; where a plan is of another spec than `token` names, they stay as they were."""
    if status.plan is not None and status.planned_for != token:
        return []
    return [item for item in (archived(spec, status), blocked(status)) if item is not None]


def archived(spec: RetentionPolicySpec, status: RetentionPolicyStatus) -> Condition | None:
    """Return the Archived condition; None where nothing is archived."""
    if spec.archive is None:
        return None
    last, plan = status.last_run, status.plan
    if last is not None and last.verify_failures:
        return conditions.condition(conditions.ARCHIVED, "False", conditions.VERIFICATION_FAILED, last.message)
    if plan is None:
        text = "no run has told yet what waits for its archive"
        return conditions.condition(conditions.ARCHIVED, "Unknown", conditions.NOT_CHECKED, text)
    steps = [step for step in plan.plan if step.step == "archive" or (step.step == "detach" and not step.blocked_by)]
    waiting = max(plan.summed().waiting, len(steps))
    if waiting:
        text = f"{waiting} partition(s) wait for their archive{_named(steps)}"
        return conditions.condition(conditions.ARCHIVED, "False", conditions.ARCHIVE_PENDING, text)
    if failed := _failed(plan):
        text = f"whether something waits for its archive is not known of {failed}: see Ready"
        return conditions.condition(conditions.ARCHIVED, "Unknown", conditions.NOT_CHECKED, text)
    made = plan.summed().archived
    told = f"{made} range(s) have an archive that was read back and matched" if made else "no archive has been made yet"
    text = f"{told}; none waits"
    return conditions.condition(conditions.ARCHIVED, "True", conditions.ARCHIVES_VERIFIED, text)


def blocked(status: RetentionPolicyStatus) -> Condition | None:
    """Return the Blocked condition; None before the first report."""
    plan = status.plan
    if plan is None:
        return None
    steps = [step for step in plan.plan if step.blocked_by]
    count = max(plan.blocked, len(steps))
    if not count and (failed := _failed(plan)):
        text = f"what stands in the way is not known of {failed}: see Ready"
        return conditions.condition(conditions.BLOCKED, "Unknown", conditions.NOT_CHECKED, text)
    if not count:
        text = "nothing stands in the way of what is due"
        return conditions.condition(conditions.BLOCKED, "False", conditions.NOTHING_BLOCKED, text)
    text = f"{count} step(s) wait{_named(steps)}"
    if not steps:  # the list of steps did not fit into the report
        told = [f"{table.name}: {table.message}" for table in plan.tables if table.outcome == "blocked"]
        text += f": {'; '.join(told[:_NAMED])}" if told else ""
    return conditions.condition(conditions.BLOCKED, "True", conditions.STEPS_BLOCKED, text[:_MESSAGE_LIMIT])


def turned(before: Sequence[Condition], now: Iterable[Condition]) -> tuple[Note, ...]:
    """Return an event for each domain condition that has an alarming reason it did not have before."""
    known = {item.reason for item in before}
    return tuple(Note("Warning", item.reason, item.message) for item in now if item.reason in _ALARMING - known)


def _ran(item: JobFacts) -> PolicyRun:
    _, outcome, message = verdict(item)
    told = item.report.retention if item.report is not None else None
    mismatches = told.summed().verify_failures if told is not None else 0
    if outcome == conditions.CHECKS_FAILED and mismatches:
        outcome = conditions.VERIFICATION_FAILED
    for table in told.tables if told is not None and outcome != conditions.SUCCEEDED else ():
        if table.outcome == "failed" and table.message and table.message not in message:
            message += f"; {table.name}: {table.message}"
    return PolicyRun(
        job=item.name,
        outcome=outcome,
        message=message[:_MESSAGE_LIMIT],
        finished_at=item.finished,
        configuration=item.configuration or None,
        verify_failures=mismatches,
    )


def _planned(told: RetentionReport, item: JobFacts) -> dict[str, object]:
    sums = told.summed()
    return {
        "plan": told,
        "planned_at": item.finished,
        "planned_for": item.configuration or None,
        "live": sums.live,
        "archived": sums.archived,
        "dropped": sums.dropped,
    }


def _facts(item: JobFacts, ran: PolicyRun) -> RetainFacts:
    told = item.report.retention if item.report is not None else None
    return RetainFacts(ran.outcome, told.summed().lock_wait_seconds if told is not None else 0.0, ran.verify_failures)


def trouble(item: JobFacts) -> str:
    """Return what an active Job suffers from: pods that do not start, or an attempt that failed before this one."""
    if item.trouble or item.report is None or not item.report.exit_code:
        return item.trouble
    return f"it is tried again: {item.report.message[:_MESSAGE_LIMIT]}"


def unborn(status: RetentionPolicyStatus) -> str:
    """Return which tables are not there yet, as the end of a sentence: one that is misspelt looks the same."""
    tables = status.plan.tables if status.plan is not None else []
    told = [f"{item.name} {item.message}" for item in tables if item.outcome == "done" and _is_unborn(item)]
    more = f" and {len(told) - _NAMED} more" if len(told) > _NAMED else ""
    return f"; {'; '.join(told[:_NAMED])}{more}" if told else ""


def _is_unborn(table: TableReport) -> bool:
    return bool(table.message) and not (table.live or table.detached or table.dropped)


def _failed(plan: RetentionReport) -> str:
    return ", ".join([table.name for table in plan.tables if table.outcome == "failed"][:_NAMED])


def _named(steps: list[PlannedStep]) -> str:
    lines = [_line(step) for step in steps[:_NAMED]]
    more = f" and {len(steps) - _NAMED} more" if len(steps) > _NAMED else ""
    return f": {'; '.join(lines)}{more}" if lines else ""


def _line(step: PlannedStep) -> str:
    what = f"{step.table} {step.partition}".strip() + f" ({step.step})"
    return f"{what}: {step.blocked_by}" if step.blocked_by else what
