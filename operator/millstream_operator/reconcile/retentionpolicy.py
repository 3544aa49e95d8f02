"""RetentionPolicy: accepted and kept, but nothing carries it out yet; its status says exactly that."""

from __future__ import annotations

from dataclasses import dataclass

from millstream_api import conditions
from millstream_api.retention_report import RetentionPolicyStatus
from millstream_api.retentionpolicy import RetentionPolicySpec
from millstream_operator.reconcile.observed import Body, Context
from millstream_operator.reconcile.outcome import Outcome
from millstream_operator.reconcile.standing import Standing, settled, stalled, status_of, turning_point
from millstream_operator.reconcile.validation import Problem, parsed


@dataclass(frozen=True)
class PolicyView:
    """A RetentionPolicy."""

    body: Body


def reconcile(view: PolicyView, ctx: Context) -> Outcome:
    """Decide what a RetentionPolicy needs."""
    status = status_of(RetentionPolicyStatus, view.body)
    spec = parsed(RetentionPolicySpec, view.body.get("spec"))
    standing = Standing(
        "Unknown",
        conditions.ENGINE_ABSENT,
        "this version has no retention engine: nothing is partitioned, archived or dropped",
    )
    if isinstance(spec, Problem):
        standing = stalled(conditions.INVALID_SPEC, spec.message)
    return Outcome(status=settled(status, view.body, ctx.now, standing), notes=turning_point(status, standing))
