"""PipelineRun: starts a Job when nothing objects, follows it, records its end once.

Each step looks at the run and either decides or passes on to the next; the order of the chain is the whole logic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from millstream_api import RunOptions, conditions
from millstream_api.pipeline import PipelineSpec
from millstream_api.pipelinerun import PipelineRunSpec, PipelineRunStatus
from millstream_operator.objects.configmap import plan_configmap, plan_name
from millstream_operator.objects.job import job
from millstream_operator.objects.naming import MAX_JOB_NAME, Owner, child_name, owner_of
from millstream_operator.objects.pipelinerun import owned
from millstream_operator.reconcile import plans, policies, restoring
from millstream_operator.reconcile.ending import Ending, ended, progress
from millstream_operator.reconcile.execution import run_job_spec
from millstream_operator.reconcile.observed import Body, Context, RunView, generation, rfc3339
from millstream_operator.reconcile.outcome import Outcome, Ref
from millstream_operator.reconcile.runs import FINISHED, RunState, runs_of
from millstream_operator.reconcile.standing import Standing, settled, stalled, status_of, turning_point
from millstream_operator.reconcile.validation import Problem, parsed


@dataclass(frozen=True)
class _Run:
    view: RunView
    ctx: Context
    spec: PipelineRunSpec
    status: PipelineRunStatus
    owner: Owner  # what this run is to its Job
    pipeline: Owner | None
    policy: str  # concurrencyPolicy
    blocker: policies.Blocker | None
    pipeline_spec: PipelineSpec | None
    others: list[RunState]
    restore: restoring.Around | None = None

    @property
    def order(self) -> tuple[str, str]:
        meta = self.view.body["metadata"]
        return (meta.get("creationTimestamp", ""), meta["name"])


_MAX_SHOWN = 20  # streams listed in a message

Step = Callable[[_Run], Outcome | None]


def job_name(body: Body) -> str:
    """Return the name of a run's Job: a scheduled run is named after its Job, a manual one names it by its UID."""
    meta = body["metadata"]
    if body.get("spec", {}).get("trigger") == "schedule":
        return str(meta["name"])
    return child_name(meta["name"], meta["uid"], limit=MAX_JOB_NAME)


def reconcile(view: RunView, ctx: Context) -> Outcome:
    """Decide what a PipelineRun needs."""
    status = status_of(PipelineRunStatus, view.body)
    if status.phase in FINISHED:
        return _as_it_was(view, ctx, status)
    spec = parsed(PipelineRunSpec, view.body.get("spec"))
    if isinstance(spec, Problem):
        ending = Ending("Failed", stalled(conditions.INVALID_SPEC, spec.message), {"finished_at": rfc3339(ctx.now)})
        return _end(view, ctx, status, ending)
    run = _gathered(view, ctx, spec, status)
    outcome = next(found for step in _CHAIN if (found := step(run)) is not None)
    return replace(outcome, apply=(*_belonging(run), *outcome.apply))


def _gathered(view: RunView, ctx: Context, spec: PipelineRunSpec, status: PipelineRunStatus) -> _Run:
    owner = owner_of(view.body)
    around = view.pipeline
    if spec.policy_ref is not None:
        found = restoring.around(spec.policy_ref.name, view.policy)
        others = [run for run in found.others if run.uid != owner.uid]
        return _Run(view, ctx, spec, status, owner, found.owner, "Forbid", found.blocker, None, others, found)
    name = spec.pipeline_ref.name if spec.pipeline_ref is not None else ""
    if around is None:
        text = f"waiting for Pipeline '{name}': not found in this namespace; create it, or make a run of another one"
        blocker = policies.Blocker(conditions.PIPELINE_NOT_FOUND, text)
        return _Run(view, ctx, spec, status, owner, None, "Forbid", blocker, None, [])
    pipeline = owner_of(around.body)
    wanted = parsed(PipelineSpec, around.body.get("spec"))
    others = [run for run in runs_of(pipeline, around) if run.uid != owner.uid and run.name != owner.name]
    if isinstance(wanted, Problem):
        blocker = policies.Blocker(conditions.PIPELINE_NOT_READY, f"Pipeline '{pipeline.name}': {wanted.message}")
        return _Run(view, ctx, spec, status, owner, pipeline, "Forbid", blocker, None, others)
    gate = policies.first_blocker(policies.RUNNABLE, policies.Needs(wanted, around.source, around.warehouse))
    policy = wanted.schedule.concurrency_policy if wanted.schedule else "Forbid"
    return _Run(view, ctx, spec, status, owner, pipeline, policy, gate, wanted, others)


def _job_ended(run: _Run) -> Outcome | None:
    item = run.view.job
    if item is None or item.state == "active":
        return None
    return _end(run.view, run.ctx, run.status, ended(item, _configuration(run)))


def _cancelled(run: _Run) -> Outcome | None:
    return _stop(run, "spec.cancel is true; what was committed stays") if run.spec.cancel else None


def _superseded(run: _Run) -> Outcome | None:
    """Under Replace a newer run that could start takes this one's place, unless this one makes up for a missed time."""
    if run.policy != "Replace" or run.blocker is not None or run.spec.trigger in ("backfill", "catchup"):
        return None
    newer = [
        other
        for other in _lane(run)
        if other.order > run.order and (other.queued or other.active) and other.trigger != "catchup"
    ]
    return _stop(run, f"replaced by run {newer[-1].name} (concurrencyPolicy Replace)") if newer else None


def _job_lost(run: _Run) -> Outcome | None:
    if run.view.job is not None or (run.status.phase != "Running" and run.spec.trigger != "schedule"):
        return None
    if run.policy == "Replace" and run.spec.trigger == "schedule":
        return _stop(run, "its Job was replaced by a newer one (concurrencyPolicy Replace)")
    text = "its Job was deleted before its result was read; what was committed stays, see _millstream in the warehouse"
    ending = Ending("Failed", stalled(conditions.RUN_FAILED, text), {"finished_at": rfc3339(run.ctx.now)})
    return _end(run.view, run.ctx, run.status, ending)


def _running(run: _Run) -> Outcome | None:
    item = run.view.job
    if item is None:
        return None
    known = {"job": item.name, "plan": item.plan or None, "started_at": item.started, "attempts": item.attempts or None}
    text = f"Job {item.name} is running" + (f": {item.trouble}" if item.trouble else "")
    standing = Standing("Unknown", conditions.RUNNING, text, working=True)
    return _told(run, "Running", standing, known | progress(item))


def _unknown_streams(run: _Run) -> Outcome | None:
    known = [stream.name for stream in run.pipeline_spec.streams] if run.pipeline_spec is not None else run.spec.streams
    unknown = sorted(set(run.spec.streams) - set(known))
    if not unknown:
        return None
    name = run.pipeline.name if run.pipeline is not None else ""
    text = f"spec.streams: Pipeline '{name}' has no stream {', '.join(unknown)}"
    shown = ", ".join(known[:_MAX_SHOWN]) + (f" and {len(known) - _MAX_SHOWN} more" if len(known) > _MAX_SHOWN else "")
    text += f"; it has {shown}; make a new PipelineRun"
    ending = Ending("Failed", stalled(conditions.INVALID_SPEC, text), {"finished_at": rfc3339(run.ctx.now)})
    return _end(run.view, run.ctx, run.status, ending)


def _blocked(run: _Run) -> Outcome | None:
    return _queue(run, run.blocker.reason, run.blocker.message) if run.blocker is not None else None


def _crowded(run: _Run) -> Outcome | None:
    """Without Allow, runs of a Pipeline go one at a time, oldest first; backfills always, since they share a lease."""
    alone = run.spec.trigger == "backfill"
    if run.policy == "Allow" and not alone:
        return None
    active = [other.name for other in _lane(run) if other.active]
    if active:
        why = "one backfill of a Pipeline at a time" if alone else f"concurrencyPolicy {run.policy}"
        return _queue(run, conditions.QUEUED, f"waiting for run {active[0]} to end ({why})")
    older = [other.name for other in _lane(run) if other.queued and other.order < run.order]
    return _queue(run, conditions.QUEUED, f"run {older[0]} came first") if older else None


def _lane(run: _Run) -> list[RunState]:
    """Return the runs that this one may have to wait for: a backfill goes beside all but other backfills."""
    return [other for other in run.others if other.beside == (run.spec.trigger == "backfill")]


def _start(run: _Run) -> Outcome:
    if run.restore is not None:
        return _launched(run, *restoring.started(job_name(run.view.body), run.owner, run.spec, run.restore, run.ctx))
    around, pipeline, spec = run.view.pipeline, run.pipeline, run.pipeline_spec
    if not (around and pipeline and spec and around.source and around.warehouse):
        raise AssertionError("a run without source or warehouse was not blocked")
    plan = plans.run_plan(pipeline, spec, around.source, around.warehouse)
    options = RunOptions.model_validate(run.spec.model_dump(include=set(RunOptions.model_fields)))
    body = run_job_spec(pipeline, run.owner, spec, plan, run.ctx.runner, options)
    made = job(job_name(run.view.body), run.owner, body, plan_name(pipeline, plan))
    return _launched(run, plan_configmap(pipeline, plan), made)


def _launched(run: _Run, plan: dict[str, Any], made: dict[str, Any]) -> Outcome:
    known = {"job": made["metadata"]["name"], "plan": plan["metadata"]["name"]}
    standing = Standing("Unknown", conditions.RUNNING, f"Job {known['job']} is running", working=True)
    return replace(_told(run, "Running", standing, known), apply=(plan, made))


_CHAIN: tuple[Step, ...] = (
    _job_ended,
    _cancelled,
    _superseded,
    _job_lost,
    _running,
    _unknown_streams,
    _blocked,
    _crowded,
    _start,
)


def _configuration(run: _Run) -> str | None:
    if run.restore is not None:
        return run.restore.token or None
    around = run.view.pipeline
    if run.pipeline is None or run.pipeline_spec is None or not (around and around.source and around.warehouse):
        return None
    try:
        plan = plans.run_plan(run.pipeline, run.pipeline_spec, around.source, around.warehouse)
    except ValueError:  # a source or warehouse whose spec was broken during the run: its own status says so
        return None
    item = run.view.job
    if item is not None and item.plan and item.plan != plan_name(run.pipeline, plan):
        return None  # the spec has changed since: whatever was wrong may be mended already
    return plans.configuration(plan, around.source, around.warehouse)


def _queue(run: _Run, reason: str, message: str) -> Outcome:
    return _told(run, "Queued", Standing("False", reason, message), {})


def _stop(run: _Run, why: str) -> Outcome:
    """End the run; its Job is counted as active until its pods are gone."""
    ending = Ending("Cancelled", stalled(conditions.CANCELLED, why), {"finished_at": rfc3339(run.ctx.now)})
    item = run.view.job
    refs = (Ref("Job", item.namespace, item.name, item.uid, wait_for_pods=True),) if item else ()
    known = {"job": item.name, "started_at": item.started} if item else {}
    return replace(_end(run.view, run.ctx, run.status.model_copy(update=known), ending), delete=refs)


def _belonging(run: _Run) -> tuple[dict[str, Any], ...]:
    """A user's run goes when its Pipeline or RetentionPolicy goes."""
    references = run.view.body["metadata"].get("ownerReferences", [])
    if run.pipeline is None or any(item["uid"] == run.pipeline.uid for item in references):
        return ()
    return (owned(run.view.body, run.pipeline),)


def _told(run: _Run, phase: str, standing: Standing, known: dict[str, Any]) -> Outcome:
    status = run.status.model_copy(update={**known, "phase": phase})
    document = settled(status, run.view.body, run.ctx.now, standing)
    return Outcome(status=document, notes=turning_point(run.status, standing))


def _end(view: RunView, ctx: Context, status: PipelineRunStatus, ending: Ending) -> Outcome:
    finished = status.model_copy(update={**ending.fields, "phase": ending.phase})
    document = settled(finished, view.body, ctx.now, ending.standing)
    return Outcome(status=document, notes=turning_point(status, ending.standing))


def _as_it_was(view: RunView, ctx: Context, status: PipelineRunStatus) -> Outcome:
    """A finished run stays what it is; only the generation may move (spec.cancel set too late)."""
    if status.observed_generation == generation(view.body):
        return Outcome()
    kept = [item.model_copy(update={"observed_generation": generation(view.body)}) for item in status.conditions]
    moved = status.model_copy(update={"conditions": kept, "observed_generation": generation(view.body)})
    return Outcome(status=moved.to_json())
