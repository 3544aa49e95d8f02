"""The three kstatus conditions as one fact, and statuses made from conditions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from millstream_api import conditions
from millstream_api.meta import Condition, ConditionedStatus
from millstream_operator.reconcile.observed import Body, generation, rfc3339
from millstream_operator.reconcile.outcome import Note

S = TypeVar("S", bound=ConditionedStatus)

_ALARMING = frozenset(
    {
        conditions.UNREACHABLE,
        conditions.PROBE_FAILED,
        conditions.SECRET_NOT_FOUND,
        conditions.RUN_FAILED,
        conditions.CHECKS_FAILED,
        conditions.VERIFICATION_FAILED,
        conditions.DEADLINE_EXCEEDED,
        conditions.FORBIDDEN,
    }
)
_MESSAGE_LIMIT = 1000  # characters of a condition's message; etcd is not a log


@dataclass(frozen=True)
class Standing:
    """Where an object stands: Ready, and whether we are working on it or nobody can until someone changes it."""

    ready: conditions.Status
    reason: str
    message: str
    working: bool = False
    stalled: bool = False

    @property
    def alarming(self) -> bool:
        """Whether a person should look; waiting its turn is nothing to worry about."""
        return (self.stalled and self.reason != conditions.CANCELLED) or self.reason in _ALARMING

    def conditions(self) -> list[Condition]:
        """Return Ready, Reconciling and Stalled, none of which contradicts another."""
        message = self.message[:_MESSAGE_LIMIT]
        return [
            conditions.condition(conditions.READY, self.ready, self.reason, message),
            conditions.condition(
                conditions.RECONCILING, _flag(self.working), self.reason, message if self.working else ""
            ),
            conditions.condition(conditions.STALLED, _flag(self.stalled), self.reason, message if self.stalled else ""),
        ]


def stalled(reason: str, message: str) -> Standing:
    """Return: nothing helps but a change by a person."""
    return Standing("False", reason, message, stalled=True)


def waiting(reason: str, message: str) -> Standing:
    """Return: not ready, for a reason outside this object."""
    return Standing("False", reason, message)


def status_of(model: type[S], body: Body) -> S:
    """Return the status as last written. One that cannot be read raises: guessing could start a run twice."""
    return model.model_validate(body.get("status") or {})


def settled(
    status: S, body: Body, now: Any, standing: Standing, more: Iterable[Condition] = (), drop: Iterable[str] = ()
) -> dict[str, Any]:
    """Return the whole status as JSON, with the conditions put in for the current generation."""
    number = generation(body)
    new = [*standing.conditions(), *more]
    merged = conditions.merged(status.conditions, new, number, rfc3339(now), drop)
    return status.model_copy(update={"conditions": merged, "observed_generation": number}).to_json()


def turning_point(status: ConditionedStatus, standing: Standing) -> tuple[Note, ...]:
    """Return an event where Ready changes its status or reason, else nothing."""
    before = conditions.find(status.conditions, conditions.READY)
    if before is not None and (before.status, before.reason) == (standing.ready, standing.reason):
        return ()
    return (Note("Warning" if standing.alarming else "Normal", standing.reason, standing.message),)


def _flag(value: bool) -> conditions.Status:
    return "True" if value else "False"
