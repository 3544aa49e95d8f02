"""What a decision asks for: objects, a status, events, and when to look again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Ref:
    """An object to delete. With a UID, nothing else of that name is ever hit."""

    kind: str
    namespace: str
    name: str
    uid: str = ""
    wait_for_pods: bool = False  # the object stays until its pods are gone, and so counts as active until then


@dataclass(frozen=True)
class Note:
    """A Kubernetes Event, for a turning point."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True)
class RunFacts:
    """A finished run that was just counted: what the metrics are fed from."""

    outcome: str
    duration_s: float
    bytes_read: int
    rows: dict[str, int]  # stage → rows
    failed_checks: dict[str, int]  # severity → checks
    quarantined: dict[str, int]  # check → rows


@dataclass(frozen=True)
class RetainFacts:
    """A finished run of a policy that was just counted."""

    outcome: str
    lock_wait_s: float
    verify_failures: int


@dataclass(frozen=True)
class RestoreFacts:
    """A finished restore that was just told by its policy."""

    outcome: str


@dataclass(frozen=True)
class Outcome:
    """Everything one look at an object leads to. It is carried out in this order, status before deletions."""

    apply: tuple[dict[str, Any], ...] = ()
    status: dict[str, Any] | None = None
    delete: tuple[Ref, ...] = ()
    notes: tuple[Note, ...] = ()
    counted: tuple[RunFacts | RetainFacts | RestoreFacts, ...] = field(default=())
    requeue_s: float | None = None
