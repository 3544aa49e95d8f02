"""What a policy's restores came to: the newest one in its status, an event for each, and which have had their time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from millstream_api import conditions
from millstream_api.pipeline import History
from millstream_api.retention_report import PolicyRestore, RetentionPolicyStatus
from millstream_operator.objects.naming import Owner
from millstream_operator.reconcile.observed import Body
from millstream_operator.reconcile.outcome import Note, Ref, RestoreFacts
from millstream_operator.reconcile.runs import RunState, finished_newest_first, runs_among

_MESSAGE_LIMIT = 600  # characters


@dataclass(frozen=True)
class Restored:
    """What has been read, and what was new."""

    last: PolicyRestore | None
    counted: tuple[str, ...] = ()  # UIDs of all that have been read and are still there
    notes: tuple[Note, ...] = ()
    facts: tuple[RestoreFacts, ...] = ()
    gone: tuple[Ref, ...] = ()  # beyond the history


def restored(owner: Owner, history: History, before: RetentionPolicyStatus, bodies: Iterable[Body]) -> Restored:
    """Read what was not told before. One deleted here and kept in Git is applied, and so carried out, once more."""
    done = finished_newest_first(runs_among(owner, bodies))
    new = [_told(run) for run in reversed(done) if run.uid not in before.counted_restores]
    known = [before.last_restore] if before.last_restore is not None else []
    good = [run for run in done if run.status.phase == "Succeeded"]
    bad = [run for run in done if run.status.phase != "Succeeded"]
    gone = [run for run in (*good[history.successful :], *bad[history.failed :]) if not run.leaving]
    return Restored(
        max((*known, *new), key=lambda item: (item.finished_at or "", item.name), default=None),
        tuple(sorted(run.uid for run in done)),
        tuple(_note(item) for item in new),
        tuple(RestoreFacts(item.outcome) for item in new),
        tuple(Ref("PipelineRun", owner.namespace, run.name, run.uid) for run in gone),
    )


def _told(run: RunState) -> PolicyRestore:
    ready = conditions.find(run.status.conditions, conditions.READY)
    reason, message = (ready.reason, ready.message) if ready is not None else (run.status.phase or "", "")
    return PolicyRestore(
        name=run.name, outcome=reason, message=message[:_MESSAGE_LIMIT], finished_at=run.status.finished_at
    )


def _note(item: PolicyRestore) -> Note:
    text = f"restore {item.name}: {item.message}"
    if item.outcome in (conditions.SUCCEEDED, conditions.CANCELLED):
        return Note("Normal", f"Restore{item.outcome}", text)
    return Note("Warning", conditions.RESTORE_FAILED, text)
