"""Condition types, reasons and how conditions change. Nowhere else are these words written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from millstream_api.meta import Condition

READY = "Ready"
RECONCILING = "Reconciling"
STALLED = "Stalled"
REACHABLE = "Reachable"
FRESH = "Fresh"
PASSING = "Passing"
SCHEMA_DRIFT = "SchemaDrift"
ARCHIVED = "Archived"
BLOCKED = "Blocked"

# Reasons. CamelCase, stable: alerts and Argo CD health checks match on them.
INVALID_SPEC = "InvalidSpec"
INVALID_CONFIGURATION = "InvalidConfiguration"
SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105 - a reason, not a secret
PROBING = "Probing"
PROBE_SUCCEEDED = "ProbeSucceeded"
PROBE_FAILED = "ProbeFailed"
UNREACHABLE = "Unreachable"
SOURCE_NOT_FOUND = "SourceNotFound"
SOURCE_NOT_READY = "SourceNotReady"
WAREHOUSE_NOT_FOUND = "WarehouseNotFound"
WAREHOUSE_NOT_READY = "WarehouseNotReady"
PIPELINE_NOT_FOUND = "PipelineNotFound"
PIPELINE_NOT_READY = "PipelineNotReady"
SUSPENDED = "Suspended"
SCHEDULED = "Scheduled"
ON_DEMAND = "OnDemand"
QUEUED = "Queued"
RUNNING = "Running"
SUCCEEDED = "Succeeded"
CHECKS_FAILED = "ChecksFailed"
RUN_FAILED = "RunFailed"
CANCELLED = "Cancelled"
DEADLINE_EXCEEDED = "DeadlineExceeded"
NOT_CHECKED = "NotChecked"
CHECKS_PASSED = "ChecksPassed"
WITHIN_LIMIT = "WithinLimit"
STALE = "Stale"
SCHEMA_CHANGED = "SchemaChanged"
SCHEMA_UNCHANGED = "SchemaUnchanged"
RUNS_MISSED = "RunsMissed"
PLANNING = "Planning"
UNSUPPORTED_WAREHOUSE = "UnsupportedWarehouse"
AWAITING_APPROVAL = "AwaitingApproval"
APPROVED = "Approved"
APPROVAL_REFUSED = "ApprovalRefused"
APPROVAL_WITHDRAWN = "ApprovalWithdrawn"
SPEC_CHANGED = "SpecChanged"
RESTORE_FAILED = "RestoreFailed"
VERIFICATION_FAILED = "VerificationFailed"
ARCHIVE_PENDING = "ArchivePending"
ARCHIVES_VERIFIED = "ArchivesVerified"
STEPS_BLOCKED = "StepsBlocked"
NOTHING_BLOCKED = "NothingBlocked"
POLICY_NOT_FOUND = "PolicyNotFound"
POLICY_NOT_READY = "PolicyNotReady"
FORBIDDEN = "Forbidden"

Status = Literal["True", "False", "Unknown"]


def condition(kind: str, status: Status, reason: str, message: str = "") -> Condition:
    """Return a condition without time or generation; `merged` fills them in."""
    return Condition(type=kind, status=status, reason=reason, message=message)


def merged(
    old: Sequence[Condition], new: Iterable[Condition], generation: int, now: str, drop: Iterable[str] = ()
) -> list[Condition]:
    """Return `old` with `new` put in: the transition time stays where the status stays.

    `drop` names types to remove. The result is sorted by type, so that equal facts give equal documents.
    """
    known = {item.type: item for item in old}
    for item in new:
        before = known.get(item.type)
        since = before.last_transition_time if before is not None and before.status == item.status else now
        known[item.type] = item.model_copy(
            update={"observed_generation": generation, "last_transition_time": since or now}
        )
    for kind in drop:
        known.pop(kind, None)
    return sorted(known.values(), key=lambda item: item.type)


def find(conditions: Iterable[Condition], kind: str) -> Condition | None:
    """Return the condition of that type, or None."""
    return next((item for item in conditions if item.type == kind), None)


def is_true(conditions: Iterable[Condition], kind: str) -> bool:
    """Return whether the condition of that type is there and True."""
    found = find(conditions, kind)
    return found is not None and found.status == "True"
