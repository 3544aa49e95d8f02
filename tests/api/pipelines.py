"""A Pipeline with everything around it, as its decisions see it; and how its outcomes are read."""

from __future__ import annotations

from typing import Any

from api.manifests import Body, body, ready, run_spec, scheduled, source_spec, warehouse_spec
from millstream_operator.reconcile.observed import JobFacts, PipelineView
from millstream_operator.reconcile.outcome import Outcome

SOURCE = body("DataSource", "files", source_spec(), status=ready())
WAREHOUSE = body("Warehouse", "dw", warehouse_spec(), status=ready(secretVersion="7"))


def view(spec: Body | None = None, **more: Any) -> PipelineView:
    meta = more.pop("meta", {})
    found = body("Pipeline", "flights", spec or scheduled(), status=more.pop("status", None), **meta)
    return PipelineView(found, **({"source": SOURCE, "warehouse": WAREHOUSE} | more))


def conditions(outcome: Outcome) -> dict[str, tuple[str, str]]:
    assert outcome.status is not None
    return {item["type"]: (item["status"], item["reason"]) for item in outcome.status["conditions"]}


def message(outcome: Outcome, kind: str = "Ready") -> str:
    assert outcome.status is not None
    return next(item["message"] for item in outcome.status["conditions"] if item["type"] == kind)


def kinds(outcome: Outcome) -> list[str]:
    return [item["kind"] for item in outcome.apply]


def live_cronjob(outcome: Outcome) -> Body:
    return next(item for item in outcome.apply if item["kind"] == "CronJob")


def run(name: str, phase: str | None = None, minute: int = 0, **more: Any) -> Body:
    status: Body = {"phase": phase, **more.pop("status", {})} if phase else {}
    if phase not in (None, "Running", "Queued"):
        status["finishedAt"] = f"2026-03-01T11:{minute:02}:00Z"
    meta = {"ownerReferences": [{"kind": "Pipeline", "uid": "uid-flights"}]} | more.pop("meta", {})
    created = f"2026-03-01T10:{minute:02}:00Z"
    return body("PipelineRun", name, run_spec(**more), status=status, **{"creationTimestamp": created, **meta})


def job(name: str, **more: Any) -> JobFacts:
    values = {"uid": f"uid-{name}", "namespace": "shop", "owner_uid": "uid-flights", "run": name, "scheduled": True}
    return JobFacts(name, **(values | more))
