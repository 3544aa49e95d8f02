"""`_millstream.approvals`: what a person has approved, step by step, so that a run that was cut short can be finished.

After a part of an approved plan the rest is another plan, with another digest. So the steps that a digest stood for are
noted before the first of them is taken, and the next run that is given the digest takes what is left of them. What a
step is named by tells one occurrence from the next (see `approval`), so what is done is not covered a second time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from millstream_pipelines.retention.approval import Fact, digest, facts
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.planning import Planned


def covered(ddl: Ddl, policy: str, named: str, planned: Iterable[Planned], *, noting: bool) -> frozenset[Fact]:
    """Return the steps that the digest `named` stands for: those of this plan, or of the one that was approved by it.

    `policy` is `namespace/name`. `noting`: note them for later runs, in place of what was approved before.
    """
    planned = list(planned)
    if not named:
        return frozenset()
    if digest(planned) != named:
        return _noted(ddl, policy, named)
    if noting:
        ddl.rows(
            "INSERT INTO _millstream.approvals (policy, digest, steps) VALUES (%s, %s, %s::jsonb) ON CONFLICT (policy) "
            "DO UPDATE SET digest = excluded.digest, steps = excluded.steps, noted_at = now()",
            (policy, named, json.dumps(sorted(facts(planned)))),
        )
    return facts(planned)


def _noted(ddl: Ddl, policy: str, named: str) -> frozenset[Fact]:
    found = ddl.rows("SELECT steps FROM _millstream.approvals WHERE policy = %s AND digest = %s", (policy, named))
    return frozenset(tuple(step) for row in found for step in row[0])


__all__ = ["covered"]
