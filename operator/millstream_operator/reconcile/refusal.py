"""What the API server refused, told in the status of the object it was made for."""

from __future__ import annotations

from millstream_api import BY_NAME, conditions
from millstream_operator.reconcile.observed import Body, Context
from millstream_operator.reconcile.outcome import Outcome
from millstream_operator.reconcile.standing import settled, stalled, status_of, turning_point, waiting


def reconcile(body: Body, refusal: str, for_good: bool, ctx: Context) -> Outcome:
    """Return: stalled until the spec changes, or waiting for a right or a quota."""
    status = status_of(BY_NAME[body["kind"]].status, body)
    if for_good:
        standing = stalled(conditions.INVALID_SPEC, f"the API server refuses what follows from this spec: {refusal}")
    else:
        standing = waiting(conditions.FORBIDDEN, f"a right or a quota is missing: {refusal}")
    return Outcome(status=settled(status, body, ctx.now, standing), notes=turning_point(status, standing))
