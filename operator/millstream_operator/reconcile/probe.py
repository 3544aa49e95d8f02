"""Probing a DataSource or a Warehouse: one Job per window, its result in the status, repeated when due.

A window is (what is probed, time of the last result); the Job's name follows from it. So a crash at any point leads
back to the same Job, and a result is recorded once.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from millstream_api import conditions
from millstream_api.datasource import Connected, DataSourceStatus
from millstream_api.meta import ANNOTATION_PROBE, PodOverrides
from millstream_api.run_plan import RunPlan
from millstream_api.run_report import ExitCode, RunReport
from millstream_api.warehouse import WarehouseStatus
from millstream_operator.objects.configmap import plan_configmap, plan_name
from millstream_operator.objects.job import job, probe_spec
from millstream_operator.objects.naming import Owner, child_name, labels, owner_of, short_hash
from millstream_operator.objects.podtemplate import PodRequest, pod_template
from millstream_operator.reconcile import plans
from millstream_operator.reconcile.observed import Context, JobFacts, ProbeView, instant, rfc3339
from millstream_operator.reconcile.outcome import Outcome, Ref
from millstream_operator.reconcile.standing import Standing, settled, stalled, status_of, turning_point, waiting
from millstream_operator.reconcile.validation import Problem, parsed

ProbeStatus = DataSourceStatus | WarehouseStatus

_FIRST_BACKOFF_S = 30
_LAST_BACKOFF_S = 900
_SECRET_WAIT_S = 30  # Secrets are not watched (we want no right to list them), so we look again


@dataclass(frozen=True)
class ProbedKind:
    """What tells a DataSource from a Warehouse here."""

    role: Literal["source", "warehouse"]
    spec: type[Connected]
    status: type[ProbeStatus]
    plan: Callable[[Owner, Connected], RunPlan]
    found: Callable[[RunReport], dict[str, Any]]  # fields of the status


@dataclass(frozen=True)
class _Probe:
    kind: ProbedKind
    view: ProbeView
    ctx: Context
    owner: Owner
    spec: Connected
    status: ProbeStatus
    plan: RunPlan
    token: str

    @property
    def job_name(self) -> str:
        return child_name(
            f"probe-{self.owner.name}"[:50], self.owner.uid, self.token, self.status.last_probe_time or ""
        )


def reconcile(kind: ProbedKind, view: ProbeView, ctx: Context) -> Outcome:
    """Decide what a DataSource or Warehouse needs."""
    status = status_of(kind.status, view.body)
    spec = parsed(kind.spec, view.body.get("spec"))
    if isinstance(spec, Problem):
        return _told(status, view, ctx, stalled(conditions.INVALID_SPEC, spec.message))
    if view.secret is not None and view.secret.version is None:
        return _told(status, view, ctx, _no_secret(view.secret.name), requeue_s=_SECRET_WAIT_S)
    owner = owner_of(view.body)
    plan = kind.plan(owner, spec)
    probe = _Probe(kind, view, ctx, owner, spec, status, plan, _token(plan, spec, view))
    current = next((item for item in view.jobs if item.name == probe.job_name), None)
    stale = tuple(_job_ref(item) for item in view.jobs if item.name != probe.job_name)
    used = [plan_name(owner, plan), *(item.plan for item in view.jobs)]
    unused = plans.unused(owner.namespace, view.plans, used, ctx.now)
    outcome = _step(probe, current)
    return replace(outcome, delete=(*outcome.delete, *stale, *unused))


def _step(probe: _Probe, current: JobFacts | None) -> Outcome:
    if current is None:
        wait_s = _due_in(probe)
        return _start(probe) if wait_s is not None and wait_s <= 0 else _rest(probe, wait_s)
    return _probing(probe, current) if current.state == "active" else _ended(probe, current)


def _token(plan: RunPlan, spec: Connected, view: ProbeView) -> str:
    """Identify what is probed; a change of it makes a probe due at once."""
    pod = json.dumps(spec.pod.to_json(), sort_keys=True) if spec.pod else ""
    version = view.secret.version if view.secret is not None else None
    wish = view.body["metadata"].get("annotations", {}).get(ANNOTATION_PROBE, "")
    return short_hash(plan.digest(), pod, version or "", wish)


def _due_in(probe: _Probe) -> float | None:
    """Return seconds until the next probe; None: not before someone changes something."""
    status = probe.status
    if status.probe_hash != probe.token or status.last_probe_time is None:
        return 0.0
    if conditions.is_true(status.conditions, conditions.STALLED):
        return None
    wait_s: float = probe.spec.probe_interval_seconds
    if status.probe_failures:
        wait_s = min(wait_s, _LAST_BACKOFF_S, _FIRST_BACKOFF_S * 2.0 ** (status.probe_failures - 1))
    return _since(probe.ctx.now, status.last_probe_time, wait_s)


def _since(now: datetime, start: str, wait_s: float) -> float:
    return wait_s - (now - instant(start)).total_seconds()


def _start(probe: _Probe) -> Outcome:
    owner, name = probe.owner, plan_name(probe.owner, probe.plan)
    request = PodRequest(
        command="probe",
        plan=name,
        labels=labels(owner, "probe"),
        secrets=plans.mounted_secrets(probe.plan),
        overrides=probe.spec.pod or PodOverrides(),
    )
    spec = probe_spec(pod_template(request, probe.ctx.runner))
    outcome = _probing(probe, None)
    return replace(outcome, apply=(plan_configmap(owner, probe.plan), job(probe.job_name, owner, spec, name)))


def _probing(probe: _Probe, current: JobFacts | None) -> Outcome:
    """Say so when the answer is awaited for a new spec; a repetition leaves what is known as it is."""
    ready = conditions.find(probe.status.conditions, conditions.READY)
    generation = probe.view.body["metadata"].get("generation", 0)
    trouble = f": {current.trouble}" if current and current.trouble else ""
    if probe.status.probe_hash == probe.token and ready is not None and ready.observed_generation == generation:
        return _rest(probe, None)
    text = f"Job {probe.job_name} is asking the {probe.kind.role}{trouble}"
    standing = Standing("Unknown", conditions.PROBING, text, working=True)
    if ready is not None and ready.observed_generation == generation:  # a new Secret: the old answer holds meanwhile
        standing = replace(standing, ready=ready.status)
    return _told(probe.status, probe.view, probe.ctx, standing)


def _rest(probe: _Probe, wait_s: float | None) -> Outcome:
    """Keep what is known; only the generation may have moved on (a field that the probe does not depend on)."""
    ready = conditions.find(probe.status.conditions, conditions.READY)
    if ready is None:
        return Outcome(requeue_s=wait_s)
    is_stalled = conditions.is_true(probe.status.conditions, conditions.STALLED)
    standing = Standing(ready.status, ready.reason, ready.message, stalled=is_stalled)
    return _told(probe.status, probe.view, probe.ctx, standing, requeue_s=wait_s)


def _ended(probe: _Probe, ended: JobFacts) -> Outcome:
    standing, reachable = _verdict(probe, ended)
    retriable = standing.ready != "True" and not standing.stalled
    version = probe.view.secret.version if probe.view.secret is not None else None
    known: dict[str, Any] = {
        "last_probe_time": ended.finished or rfc3339(probe.ctx.now),
        "probe_hash": probe.token,
        "probe_failures": (probe.status.probe_failures or 0) + 1 if retriable else None,
        "secret_version": version,
    }
    if standing.ready == "True" and ended.report is not None:
        known |= probe.kind.found(ended.report)
    status = probe.status.model_copy(update=known)
    more = [conditions.condition(conditions.REACHABLE, reachable, standing.reason, standing.message)]
    document = settled(status, probe.view.body, probe.ctx.now, standing, more)
    again = _due_in(replace(probe, status=type(status).model_validate(document)))
    notes = turning_point(probe.status, standing)
    return Outcome(status=document, delete=(_job_ref(ended),), notes=notes, requeue_s=again)


def _verdict(probe: _Probe, ended: JobFacts) -> tuple[Standing, conditions.Status]:
    report = ended.report
    message = (report.message if report else "") or ended.trouble or ended.message
    if ended.state == "succeeded":
        text = message or f"the {probe.kind.role} answered"
        return Standing("True", conditions.PROBE_SUCCEEDED, text), "True"
    if ended.exit_code == ExitCode.CONFIGURATION:
        cure = f"; change the {probe.view.body['kind']} or its Secret, and it is probed again"
        return stalled(conditions.INVALID_CONFIGURATION, (message or "the configuration is wrong") + cure), "Unknown"
    if ended.exit_code == ExitCode.RETRIABLE:
        return waiting(conditions.UNREACHABLE, message or f"the {probe.kind.role} did not answer"), "False"
    return waiting(conditions.PROBE_FAILED, message or "the probe's pod ended without a report"), "Unknown"


def _no_secret(name: str) -> Standing:
    return waiting(
        conditions.SECRET_NOT_FOUND,
        f"spec.secretRef: Secret '{name}' is not in this namespace; create it or name another",
    )


def _told(
    status: ProbeStatus, view: ProbeView, ctx: Context, standing: Standing, requeue_s: float | None = None
) -> Outcome:
    document = settled(status, view.body, ctx.now, standing)
    return Outcome(status=document, notes=turning_point(status, standing), requeue_s=requeue_s)


def _job_ref(item: JobFacts) -> Ref:
    return Ref("Job", item.namespace, item.name, item.uid)
