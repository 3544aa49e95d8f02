"""What the API server refused, told in the status of the object it was made for."""

from __future__ import annotations

from typing import Any

from millstream_api import BY_NAME, conditions
from millstream_operator.reconcile.observed import Context
from millstream_operator.reconcile.outcome import Outcome
from millstream_operator.reconcile.standing import Standing, settled, stalled, status_of, turning_point, waiting


def standing(refusal: str, for_good: bool) -> Standing:
    """Return: stalled until the spec changes, or waiting for a right or a quota."""
    if for_good:
        return stalled(conditions.INVALID_SPEC, f"the API server refuses what follows from this spec: {refusal}")
    return waiting(conditions.FORBIDDEN, f"a right or a quota is missing: {refusal}")


def reconcile(view: Any, ctx: Context, refused: Standing) -> Outcome:
    """Say so, whatever the view's kind, and leave what was made before as it is."""
    status = status_of(BY_NAME[view.body["kind"]].status, view.body)
    return Outcome(status=settled(status, view.body, ctx.now, refused), notes=turning_point(status, refused))
