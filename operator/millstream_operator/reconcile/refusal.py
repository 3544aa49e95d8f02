"""What the API server refused for good, told in the status of the object it was made for."""

from __future__ import annotations

from millstream_api import BY_NAME, conditions
from millstream_operator.reconcile.observed import Body, Context
from millstream_operator.reconcile.outcome import Outcome
from millstream_operator.reconcile.standing import settled, stalled, status_of, turning_point


def reconcile(body: Body, refusal: str, ctx: Context) -> Outcome:
    """Return: stalled until the spec changes."""
    status = status_of(BY_NAME[body["kind"]].status, body)
    standing = stalled(conditions.INVALID_SPEC, f"the API server refuses what follows from this spec: {refusal}")
    return Outcome(status=settled(status, body, ctx.now, standing), notes=turning_point(status, standing))
