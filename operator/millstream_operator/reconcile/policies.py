"""Chains of small questions: why may this not run now? The first that blocks gives reason and message."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from millstream_api import conditions
from millstream_api.meta import Condition
from millstream_api.pipeline import PipelineSpec
from millstream_operator.reconcile.observed import Body, generation


@dataclass(frozen=True)
class Blocker:
    """Why something waits, and for what."""

    reason: str
    message: str


@dataclass(frozen=True)
class Needs:
    """What a run of a Pipeline needs."""

    spec: PipelineSpec
    source: Body | None
    warehouse: Body | None


Gate = Callable[[Needs], Blocker | None]


def first_blocker(gates: tuple[Gate, ...], needs: Needs) -> Blocker | None:
    """Return the first gate's objection, or None when all are content."""
    return next((blocker for gate in gates if (blocker := gate(needs)) is not None), None)


def suspended(needs: Needs) -> Blocker | None:
    """No new run starts while spec.suspend is true."""
    if not needs.spec.suspend:
        return None
    return Blocker(conditions.SUSPENDED, "spec.suspend is true; set it to false to let runs start")


def source_exists(needs: Needs) -> Blocker | None:
    """The DataSource must be there."""
    name = needs.spec.source_ref.name
    return None if needs.source else Blocker(conditions.SOURCE_NOT_FOUND, absent("DataSource", name, "sourceRef"))


def warehouse_exists(needs: Needs) -> Blocker | None:
    """The Warehouse must be there."""
    return _found(needs.spec.warehouse_ref.name, needs.warehouse)


def source_ready(needs: Needs) -> Blocker | None:
    """The DataSource must have answered its probe."""
    return _ready(needs.source, conditions.SOURCE_NOT_READY)


def warehouse_ready(needs: Needs) -> Blocker | None:
    """The Warehouse must have answered its probe."""
    return _ready(needs.warehouse, conditions.WAREHOUSE_NOT_READY)


def warehouse_usable(name: str, warehouse: Body | None) -> Blocker | None:
    """The Warehouse of that name must be there and have answered its probe."""
    return _found(name, warehouse) or _ready(warehouse, conditions.WAREHOUSE_NOT_READY)


CONNECTED: tuple[Gate, ...] = (source_exists, warehouse_exists, source_ready, warehouse_ready)
RUNNABLE: tuple[Gate, ...] = (suspended, *CONNECTED)


def absent(kind: str, name: str, field: str) -> str:
    """Return what is waited for and what to do."""
    return f"waiting for {kind} '{name}': not found in this namespace; create it, or correct spec.{field}"


def _found(name: str, warehouse: Body | None) -> Blocker | None:
    if warehouse is not None:
        return None
    return Blocker(conditions.WAREHOUSE_NOT_FOUND, absent("Warehouse", name, "warehouseRef"))


def _ready(body: Body | None, reason: str) -> Blocker | None:
    if body is None:
        return None
    found = _condition(body, conditions.READY)
    title = f"{body['kind']} '{body['metadata']['name']}'"
    if found is None or found.observed_generation != generation(body):
        return Blocker(reason, f"waiting for {title}: it is being probed")
    if found.status == "True":
        return None
    return Blocker(reason, f"waiting for {title}: {found.reason}: {found.message}")


def _condition(body: Body, kind: str) -> Condition | None:
    items = body.get("status", {}).get("conditions", [])
    return conditions.find([Condition.model_validate(item) for item in items], kind)
