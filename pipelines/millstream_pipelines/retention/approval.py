"""What a person approves of a plan: the steps that cannot be undone, by one short name. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from millstream_pipelines.retention.planning import IRREVERSIBLE, Planned
from millstream_pipelines.retention.records import Retired


def digest(steps: Iterable[Planned]) -> str:
    """Return what names the irreversible steps of a plan: what a person approves. Empty when there are none.

    A range that came back and leaves again has another record, and so is another thing to approve.
    """
    facts = sorted(
        [
            s.table,
            s.step,
            s.partition,
            s.low or "",
            s.high or "",
            s.why,
            s.subject.id if isinstance(s.subject, Retired) else 0,
        ]
        for s in steps
        if s.step in IRREVERSIBLE and not s.blocked_by
    )
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12] if facts else ""


__all__ = ["digest"]
