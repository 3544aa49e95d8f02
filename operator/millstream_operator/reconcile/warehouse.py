"""Warehouse: reachable? which version, and which `_millstream`?"""

from __future__ import annotations

from typing import Any

from millstream_api.datasource import Connected
from millstream_api.run_plan import RunPlan
from millstream_api.run_report import RunReport
from millstream_api.warehouse import WarehouseSpec, WarehouseStatus
from millstream_operator.objects.naming import Owner
from millstream_operator.reconcile import probe
from millstream_operator.reconcile.observed import Context, ProbeView
from millstream_operator.reconcile.outcome import Outcome
from millstream_operator.reconcile.plans import endpoint


def reconcile(view: ProbeView, ctx: Context) -> Outcome:
    """Decide what a Warehouse needs."""
    return probe.reconcile(_KIND, view, ctx)


def _plan(owner: Owner, spec: Connected) -> RunPlan:
    return RunPlan(
        action="probe-warehouse",
        namespace=owner.namespace,
        name=owner.name,
        uid=owner.uid,
        warehouse=endpoint(owner.name, spec),
    )


def _found(report: RunReport) -> dict[str, Any]:
    return {"server_version": report.server_version, "metadata_version": report.metadata_version}


_KIND = probe.ProbedKind("warehouse", WarehouseSpec, WarehouseStatus, _plan, _found)
