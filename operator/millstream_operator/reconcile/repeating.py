"""When a policy's dry run is made again: after it failed for a reason that may pass, ever more slowly.

Under `suspend`, or until the nightly run, nothing else would find out that the reason has passed.
"""

from __future__ import annotations

from datetime import datetime

from millstream_api import conditions
from millstream_api.retention_report import PolicyRun, RetentionPolicyStatus
from millstream_operator.reconcile.observed import instant

_FIRST_WAIT_S = 300
_LAST_WAIT_S = 3600
_PASSING = frozenset({conditions.RUN_FAILED, conditions.DEADLINE_EXCEEDED})


def failures(status: RetentionPolicyStatus, ran: PolicyRun) -> int | None:
    """Return how many dry runs of one configuration have so failed in a row, with the one that ended now."""
    if ran.outcome not in _PASSING:
        return None
    last = status.last_dry_run
    again = last is not None and last.configuration == ran.configuration
    return 1 + ((status.dry_run_failures or 0) if again else 0)


def failed_at(status: RetentionPolicyStatus, token: str) -> str:
    """Return when the newest dry run of this configuration so failed; empty: it did not."""
    last = status.last_dry_run
    if last is None or last.configuration != token or last.outcome not in _PASSING:
        return ""
    return last.finished_at or ""


def due_in(status: RetentionPolicyStatus, problem: PolicyRun | None, token: str, now: datetime) -> float | None:
    """Return seconds until it is made again; None: it is not, being no `problem` (any more), or only a change helps."""
    since = failed_at(status, token)
    if not since or problem is not status.last_dry_run:
        return None
    wait_s = min(_LAST_WAIT_S, _FIRST_WAIT_S * 2.0 ** ((status.dry_run_failures or 1) - 1))
    return wait_s - (now - instant(since)).total_seconds()
