"""What a person approves of a plan: the steps that cannot be undone, by one short name. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC

from millstream_pipelines.retention.planning import IRREVERSIBLE, Planned
from millstream_pipelines.retention.records import Retired

Fact = tuple[str, ...]
Approved = frozenset[Fact] | None
"""The irreversible steps that a person has approved; None where nobody is asked: all that are due."""


def digest(steps: Iterable[Planned]) -> str:
    """Return what names the irreversible steps of a plan: what a person approves. Empty when there are none."""
    found = sorted(facts(steps))
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:12] if found else ""


def facts(steps: Iterable[Planned]) -> frozenset[Fact]:
    """Return what a person approves of a plan, step by step."""
    return frozenset(fact(step) for step in steps if step.step in IRREVERSIBLE and not step.blocked_by)


def fact(step: Planned) -> Fact:
    """Return what a person approves of one step.

    A range that came back and leaves again has another record, or another time at which it was detached, and so is
    another thing to approve.
    """
    occurrence = step.occurrence
    if isinstance(step.subject, Retired):
        left = step.subject.detached_at
        occurrence = f"{step.subject.id} {left.astimezone(UTC).isoformat() if left is not None else ''}"
    return (step.table, step.step, step.partition, step.low or "", step.high or "", step.why, occurrence)


def may(step: Planned, approved: Approved) -> bool:
    """Return whether a run may take a step."""
    return not step.blocked_by and (step.step not in IRREVERSIBLE or approved is None or fact(step) in approved)


__all__ = ["Approved", "Fact", "digest", "fact", "facts", "may"]
