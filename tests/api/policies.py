"""A RetentionPolicy with everything around it, as its decisions see it, and what its runs report."""

from __future__ import annotations

from typing import Any

from api.manifests import Body, body, ready, retention_spec, warehouse_spec
from millstream_api import PlannedStep, RetentionReport, RunReport, TableReport
from millstream_operator.reconcile.observed import JobFacts, PolicyView, SecretFacts
from millstream_operator.reconcile.outcome import Outcome

WAREHOUSE = body("Warehouse", "dw", warehouse_spec(), status=ready(secretVersion="7"))
ARCHIVE = {"url": "s3://cold/flights", "secretRef": {"name": "cold-s3"}}
SECRET = SecretFacts("cold-s3", "3")
HELD = PlannedStep(table="raw.flights", step="drop", partition="p2024_01", blocked_by="hold case7")
DROP = PlannedStep(table="raw.flights", step="drop", partition="p2024_01", bytes=4096, irreversible=True)


def view(spec: Body | None = None, **more: Any) -> PolicyView:
    meta = more.pop("meta", {})
    found = body("RetentionPolicy", "keep", spec or retention_spec(), status=more.pop("status", None), **meta)
    return PolicyView(found, **({"warehouse": WAREHOUSE} | more))


def table(**more: Any) -> TableReport:
    return TableReport(**({"name": "raw.flights", "outcome": "done", "live": 15, "archived": 3, "dropped": 2} | more))


def report(code: int = 0, message: str = "done", **more: Any) -> RunReport:
    """Return what a run of a policy reports."""
    told = RetentionReport(**({"tables": [table()], "tables_count": 1} | more))
    return RunReport(exit_code=code, reason="Done", message=message, retention=told)


def ended(name: str, told: RunReport, minute: int = 0, **more: Any) -> JobFacts:
    """Return a run that ended at 11:`minute`."""
    code = told.exit_code
    return JobFacts(
        name,
        **{
            "uid": f"uid-{name}",
            "namespace": "shop",
            "owner_uid": "uid-keep",
            "role": "retain",
            "state": "succeeded" if code == 0 else "failed",
            "finished": f"2026-03-01T11:{minute:02}:00Z",
            "exit_code": code,
            "report": told,
            **more,
        },
    )


def made(outcome: Outcome) -> Body:
    """Return the Job that an outcome starts."""
    return next(item for item in outcome.apply if item["kind"] == "Job")


def env(made_from: Body) -> str | None:
    """Return the options of a Job or of a CronJob's template."""
    spec = made_from["spec"].get("jobTemplate", made_from)["spec"]
    values = {item["name"]: item.get("value") for item in spec["template"]["spec"]["containers"][0]["env"]}
    return values.get("MILLSTREAM_RETENTION")


def as_facts(manifest: Body, told: RunReport, minute: int = 0, **more: Any) -> JobFacts:
    """Return a Job that an outcome has started, ended."""
    meta = manifest["metadata"]
    role = meta["labels"]["millstream.dev/role"]
    said = {name: meta["annotations"][f"millstream.dev/{name}"] for name in ("plan", "configuration")}
    said["approved"] = meta["annotations"].get("millstream.dev/approved", "")
    return ended(meta["name"], told, minute, **({"role": role, **said, "generation": 1} | more))


def like(other: JobFacts) -> dict[str, str]:
    """Return what a run has in common with one that was made from the same."""
    return {"plan": other.plan, "configuration": other.configuration}
