"""DataSource: reachable? which streams, columns, types?"""

from __future__ import annotations

from typing import Any

from millstream_api.datasource import Connected, DataSourceSpec, DataSourceStatus
from millstream_api.run_plan import RunPlan
from millstream_api.run_report import RunReport
from millstream_operator.objects.naming import Owner
from millstream_operator.reconcile import probe
from millstream_operator.reconcile.observed import Context, ProbeView
from millstream_operator.reconcile.outcome import Outcome
from millstream_operator.reconcile.plans import endpoint

_MAX_STREAMS = 50
_MAX_COLUMNS = 100


def reconcile(view: ProbeView, ctx: Context) -> Outcome:
    """Decide what a DataSource needs."""
    return probe.reconcile(_KIND, view, ctx)


def _plan(owner: Owner, spec: Connected) -> RunPlan:
    return RunPlan(
        action="probe-source",
        namespace=owner.namespace,
        name=owner.name,
        uid=owner.uid,
        source=endpoint(owner.name, spec),
    )


def _found(report: RunReport) -> dict[str, Any]:
    streams = [
        stream.model_copy(update={"columns": stream.columns[:_MAX_COLUMNS]})
        for stream in report.discovered[:_MAX_STREAMS]
    ]
    return {"streams": streams, "stream_count": max(report.discovered_count, len(report.discovered))}


_KIND = probe.ProbedKind("source", DataSourceSpec, DataSourceStatus, _plan, _found)
