"""Pipeline: schedule, adoption of scheduled Jobs, missed times, the run annotation, history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from millstream_api import conditions
from millstream_api.meta import ANNOTATION_ADOPTED, ANNOTATION_PLAN, ANNOTATION_RUN
from millstream_api.pipeline import History, PipelineSpec, PipelineStatus, Schedule
from millstream_api.run_plan import RunPlan
from millstream_operator.objects.configmap import plan_configmap, plan_name
from millstream_operator.objects.cronjob import Timing, cronjob, cronjob_name, suspended
from millstream_operator.objects.naming import Owner, child_name, owner_of
from millstream_operator.objects.pipelinerun import pipelinerun
from millstream_operator.reconcile import catchup, drift, plans, policies, totals
from millstream_operator.reconcile.execution import run_job_spec
from millstream_operator.reconcile.observed import Body, Context, JobFacts, PipelineView
from millstream_operator.reconcile.outcome import Note, Outcome, Ref
from millstream_operator.reconcile.runs import RunState, finished_newest_first, runs_of
from millstream_operator.reconcile.standing import Standing, settled, stalled, status_of, turning_point, waiting
from millstream_operator.reconcile.validation import Problem, parsed


@dataclass(frozen=True)
class _Pipeline:
    """A Pipeline whose spec makes sense."""

    view: PipelineView
    ctx: Context
    owner: Owner
    spec: PipelineSpec
    status: PipelineStatus
    runs: list[RunState]
    plan: RunPlan | None  # None while source or warehouse is missing
    blocker: policies.Blocker | None
    catchup: catchup.Plan


def reconcile(view: PipelineView, ctx: Context) -> Outcome:
    """Decide what a Pipeline needs."""
    status = status_of(PipelineStatus, view.body)
    spec = parsed(PipelineSpec, view.body.get("spec"))
    owner = owner_of(view.body)
    runs = runs_of(owner, view)
    if isinstance(spec, Problem):
        return _invalid(view, ctx, status, spec, runs)
    needs = policies.Needs(spec, view.source, view.warehouse)
    plan = _plan(owner, spec, view)
    blocker = policies.first_blocker(policies.CONNECTED, needs)
    if isinstance(plan, Problem):
        blocker, plan = blocker or policies.Blocker(conditions.SOURCE_NOT_READY, plan.message), None
    missed = catchup.plan(spec, status.catch_up, runs, view.cronjob, ctx.now)
    return _conclude(_Pipeline(view, ctx, owner, spec, status, runs, plan, blocker, missed))


def _conclude(pipeline: _Pipeline) -> Outcome:
    counted = totals.count(pipeline.status, pipeline.runs)
    standing = _standing(pipeline)
    freshness, stale_in_s = totals.fresh(pipeline.spec, counted.status, pipeline.ctx.now)
    passing = totals.passing(pipeline.runs) or conditions.find(pipeline.status.conditions, conditions.PASSING)
    known = conditions.find(pipeline.status.conditions, conditions.SCHEMA_DRIFT)
    drifted = drift.condition(pipeline.runs, known)
    more = [item for item in (freshness, passing, drifted) if item is not None]
    status = counted.status.model_copy(
        update={
            "plan": plan_name(pipeline.owner, pipeline.plan) if pipeline.plan else pipeline.status.plan,
            "cron_job": cronjob_name(pipeline.owner) if pipeline.spec.schedule else None,
            "active_runs": [run.name for run in pipeline.runs if run.active],
            "catch_up": pipeline.catchup.status,
            "last_trigger": _wish(pipeline) or pipeline.status.last_trigger,
        }
    )
    drop = () if pipeline.spec.freshness else (conditions.FRESH,)
    document = settled(status, pipeline.view.body, pipeline.ctx.now, standing, more, drop)
    adopted, orphaned = _adoption(pipeline.owner, pipeline.runs)
    return Outcome(
        apply=(*_plan_objects(pipeline), *_schedule(pipeline), *adopted, *_triggered(pipeline), *_late(pipeline)),
        status=document,
        delete=(*orphaned, *_unscheduled(pipeline), *_expired(pipeline), *_unused_plans(pipeline)),
        notes=(
            *turning_point(pipeline.status, standing),
            *counted.notes,
            *_staleness(pipeline, freshness),
            *drift.turning_point(known, drifted),
            *pipeline.catchup.notes,
        ),
        counted=counted.facts,
        requeue_s=min((wait for wait in (stale_in_s, pipeline.catchup.again_s) if wait is not None), default=None),
    )


def _invalid(
    view: PipelineView, ctx: Context, status: PipelineStatus, problem: Problem, runs: list[RunState]
) -> Outcome:
    kept = "; the schedule goes on with the last valid spec" if view.cronjob else ""
    standing = stalled(conditions.INVALID_SPEC, problem.message + kept)
    counted = totals.count(status, runs)
    document = settled(counted.status, view.body, ctx.now, standing)
    notes = (*turning_point(status, standing), *counted.notes)
    adopted, orphaned = _adoption(owner_of(view.body), runs)  # what the last valid spec still starts is reported too
    return Outcome(tuple(adopted), document, tuple(orphaned), notes, counted.facts)


def _plan(owner: Owner, spec: PipelineSpec, view: PipelineView) -> RunPlan | Problem | None:
    if view.source is None or view.warehouse is None:
        return None
    try:
        return plans.run_plan(owner, spec, view.source, view.warehouse)
    except ValueError as error:  # a source or warehouse whose own status says what is wrong with its spec
        return Problem(f"the spec of DataSource or Warehouse is not valid: {str(error).splitlines()[0]}")


def _standing(pipeline: _Pipeline) -> Standing:
    """Return the first of: wrong configuration, waiting, suspended, last run failed, ready."""
    last = next((run for run in finished_newest_first(pipeline.runs) if run.tells), None)
    reason, message = totals.verdict(last) if last is not None else ("", "")
    if reason == conditions.INVALID_CONFIGURATION and last is not None and _unmended(pipeline, last):
        return stalled(reason, f"run {last.name}: {message}")
    if pipeline.blocker is not None:
        return waiting(pipeline.blocker.reason, pipeline.blocker.message)
    if pipeline.spec.suspend:
        return Standing("True", conditions.SUSPENDED, "no new run starts until spec.suspend is false")
    if last is not None and last.status.phase == "Failed" and reason != conditions.INVALID_CONFIGURATION:
        return waiting(reason, f"run {last.name}: {message}")
    if pipeline.spec.schedule is None:
        return Standing("True", conditions.ON_DEMAND, "runs when a PipelineRun asks for it")
    schedule = pipeline.spec.schedule
    return Standing("True", conditions.SCHEDULED, _told(schedule, pipeline.catchup))


def _told(schedule: Schedule, missed: catchup.Plan) -> str:
    return f"runs at {schedule.cron} ({schedule.time_zone}){catchup.message(missed.status)}"


def _unmended(pipeline: _Pipeline, last: RunState) -> bool:
    view = pipeline.view
    if pipeline.plan is None or view.source is None or view.warehouse is None:
        return True
    return last.status.configuration == plans.configuration(pipeline.plan, view.source, view.warehouse)


def _plan_objects(pipeline: _Pipeline) -> tuple[dict[str, Any], ...]:
    return (plan_configmap(pipeline.owner, pipeline.plan),) if _may_schedule(pipeline) and pipeline.plan else ()


def _may_schedule(pipeline: _Pipeline) -> bool:
    """A new schedule waits for source and warehouse; one that runs already is never stopped by their bad days."""
    return pipeline.spec.schedule is not None and (pipeline.blocker is None or pipeline.view.cronjob is not None)


def _schedule(pipeline: _Pipeline) -> tuple[dict[str, Any], ...]:
    schedule, live = pipeline.spec.schedule, pipeline.view.cronjob
    if schedule is None or pipeline.plan is None:  # only a wish to stop can still be carried out
        stop = live is not None and not live["spec"].get("suspend") and (schedule is None or pipeline.spec.suspend)
        return (suspended(live),) if stop and live is not None else ()
    if not _may_schedule(pipeline) or (pipeline.catchup.begins and live is not None and _changes(schedule, live)):
        return ()
    owner, jitter_s = pipeline.owner, schedule.jitter_seconds
    spec = run_job_spec(owner, owner, pipeline.spec, pipeline.plan, pipeline.ctx.runner, jitter_s=jitter_s)
    timing = Timing(schedule, pipeline.spec.suspend, pipeline.spec.history)
    return (cronjob(owner, timing, spec, {ANNOTATION_PLAN: plan_name(owner, pipeline.plan)}),)


def _changes(schedule: Schedule, live: Body) -> bool:
    """Whether the CronJob will take up other times: the moment from which they count must be written down before."""
    spec = live["spec"]
    same = (spec.get("schedule"), spec.get("timeZone")) == (schedule.cron, schedule.time_zone)
    return bool(spec.get("suspend")) or not same


def _unscheduled(pipeline: _Pipeline) -> tuple[Ref, ...]:
    live = pipeline.view.cronjob
    if live is None or pipeline.spec.schedule is not None:
        return ()
    # Its Jobs go with it; runs that are not finished or not counted yet keep it alive.
    if any(run.scheduled and not _counted(pipeline, run) for run in pipeline.runs):
        return ()
    return (Ref("CronJob", pipeline.owner.namespace, live["metadata"]["name"], live["metadata"].get("uid", "")),)


def _adoption(owner: Owner, runs: Sequence[RunState]) -> tuple[Sequence[dict[str, Any]], Sequence[Ref]]:
    """Give every scheduled Job its PipelineRun; a Job whose PipelineRun was deleted goes too."""
    made: list[dict[str, Any]] = []
    orphans: list[Ref] = []
    for run in runs:
        if run.job is None or not run.job.scheduled:
            continue
        if not run.uid and run.job.adopted:
            orphans.append(Ref("Job", run.job.namespace, run.job.name, run.job.uid))
        elif not run.uid:
            made.append(pipelinerun(run.name, owner, "schedule", run.scheduled_for))
        if not run.job.adopted:
            made.append(_mark(run.job))
    return made, orphans


def _mark(item: JobFacts) -> dict[str, Any]:
    metadata = {"name": item.name, "namespace": item.namespace, "uid": item.uid}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata | {"annotations": {ANNOTATION_ADOPTED: item.run}},
    }


def _wish(pipeline: _Pipeline) -> str | None:
    value = pipeline.view.body["metadata"].get("annotations", {}).get(ANNOTATION_RUN)
    return value if value and value != pipeline.status.last_trigger else None


def _triggered(pipeline: _Pipeline) -> tuple[dict[str, Any], ...]:
    wish = _wish(pipeline)
    if wish is None:
        return ()
    name = child_name(pipeline.owner.name, pipeline.owner.uid, wish)
    return (pipelinerun(name, pipeline.owner, "manual"),)


def _late(pipeline: _Pipeline) -> tuple[dict[str, Any], ...]:
    due = pipeline.catchup.due
    if due is None:
        return ()
    name = child_name(pipeline.owner.name, pipeline.owner.uid, due)
    return (pipelinerun(name, pipeline.owner, "catchup", due),)


def _counted(pipeline: _Pipeline, run: RunState) -> bool:
    return run.finished and run.uid in pipeline.status.counted_runs


def _expired(pipeline: _Pipeline) -> tuple[Ref, ...]:
    """Return the finished runs beyond the history, with their Jobs; only what is in the totals is ever deleted.

    Backfills have a history of their own: else the next runs of the schedule would push their results out.
    """
    done = [run for run in finished_newest_first(pipeline.runs) if not run.leaving]
    history = pipeline.spec.history
    refs: list[Ref] = []
    for run in (run for beside in (False, True) for run in _beyond(history, [r for r in done if r.beside == beside])):
        if _counted(pipeline, run):
            refs.append(Ref("PipelineRun", pipeline.owner.namespace, run.name, run.uid))
            if run.job is not None:
                refs.append(Ref("Job", run.job.namespace, run.job.name, run.job.uid))
    return tuple(refs)


def _beyond(history: History, done: Sequence[RunState]) -> list[RunState]:
    good = [run for run in done if run.status.phase == "Succeeded"]
    bad = [run for run in done if run.status.phase != "Succeeded"]
    return [*good[history.successful :], *bad[history.failed :]]


def _unused_plans(pipeline: _Pipeline) -> tuple[Ref, ...]:
    current = [plan_name(pipeline.owner, pipeline.plan)] if pipeline.plan else []
    live = pipeline.view.cronjob
    if live is not None:
        volumes = live["spec"]["jobTemplate"]["spec"]["template"]["spec"].get("volumes", [])
        current += [volume["configMap"]["name"] for volume in volumes if "configMap" in volume]
    used = [*current, *(run.job.plan for run in pipeline.runs if run.job)]
    return plans.unused(pipeline.owner.namespace, pipeline.view.plans, used, pipeline.ctx.now)


def _staleness(pipeline: _Pipeline, now: Any) -> tuple[Note, ...]:
    before = conditions.find(pipeline.status.conditions, conditions.FRESH)
    if now is None or now.status != "False" or (before is not None and before.status == "False"):
        return ()
    return (Note("Warning", now.reason, now.message),)
