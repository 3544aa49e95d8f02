"""The runs of a Pipeline as one list: who is active, who waits, who is finished, in which order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from millstream_api import conditions
from millstream_api.pipelinerun import PipelineRunStatus
from millstream_api.run_options import Trigger
from millstream_operator.objects.naming import Owner
from millstream_operator.reconcile.observed import Body, JobFacts, PipelineView
from millstream_operator.reconcile.standing import status_of

FINISHED = frozenset({"Succeeded", "Failed", "ChecksFailed", "Cancelled"})


@dataclass(frozen=True)
class RunState:
    """One run, whether it has a PipelineRun already or is only a Job yet."""

    name: str
    created: str
    status: PipelineRunStatus
    uid: str = ""
    trigger: Trigger = "manual"
    scheduled_for: str = ""
    cancelled: bool = False
    leaving: bool = False  # being deleted
    job: JobFacts | None = None

    @property
    def scheduled(self) -> bool:
        """Whether its Job comes from the CronJob."""
        return self.trigger == "schedule"

    @property
    def beside(self) -> bool:
        """Whether it goes its own way: a backfill has its own lease and leaves the cursor where it is."""
        return self.trigger == "backfill"

    @property
    def tells(self) -> bool:
        """Whether its end says something of the Pipeline: it was no backfill, and not refused for its own spec."""
        ready = conditions.find(self.status.conditions, conditions.READY)
        return not self.beside and (ready is None or ready.reason != conditions.INVALID_SPEC)

    @property
    def began(self) -> str:
        """When it started, or was made."""
        return self.status.started_at or (self.job.created if self.job else "") or self.created

    @property
    def finished(self) -> bool:
        """Whether its result is recorded."""
        return self.status.phase in FINISHED

    @property
    def active(self) -> bool:
        """Whether pods of it may be running; also true for one that was cancelled until its pods are gone."""
        if self.job is not None:
            return self.job.state == "active"
        return self.status.phase == "Running"

    @property
    def queued(self) -> bool:
        """Whether it has not started and still wants to."""
        return not (self.finished or self.cancelled or self.leaving) and self.job is None and not self.active

    @property
    def order(self) -> tuple[str, str]:
        """Oldest first."""
        return (self.created, self.name)


def runs_of(owner: Owner, view: PipelineView) -> list[RunState]:
    """Return every run of this Pipeline (not those of an earlier one with its name), oldest first."""
    bodies = [body for body in view.runs if _belongs(body, owner)]
    uids = {body["metadata"].get("uid") for body in bodies}
    jobs = {item.run: item for item in view.jobs if item.owner_uid == owner.uid or item.owner_uid in uids}
    known = [_state(body, jobs.pop(body["metadata"]["name"], None)) for body in bodies]
    unadopted = [
        RunState(
            item.run,
            item.created,
            PipelineRunStatus(),
            trigger="schedule",
            scheduled_for=item.scheduled_for,
            job=item,
        )
        for item in jobs.values()
        if item.scheduled
    ]
    return sorted([*known, *unadopted], key=lambda run: run.order)


def runs_among(owner: Owner, bodies: Iterable[Body]) -> list[RunState]:
    """Return the PipelineRuns of this owner, oldest first, without their Jobs."""
    return sorted((_state(body, None) for body in bodies if _belongs(body, owner)), key=lambda run: run.order)


def finished_newest_first(runs: Iterable[RunState]) -> list[RunState]:
    """Return the finished runs that have a PipelineRun, newest end first."""
    done = [run for run in runs if run.finished and run.uid]
    return sorted(done, key=lambda run: (run.status.finished_at or "", run.name), reverse=True)


def _belongs(body: Body, owner: Owner) -> bool:
    owners = [ref["uid"] for ref in body["metadata"].get("ownerReferences", []) if ref.get("kind") == owner.kind]
    return not owners or owner.uid in owners


def _state(body: Body, found: JobFacts | None) -> RunState:
    meta, spec = body["metadata"], body.get("spec", {})
    return RunState(
        name=meta["name"],
        created=meta.get("creationTimestamp", ""),
        status=status_of(PipelineRunStatus, body),
        uid=meta.get("uid", ""),
        trigger=spec.get("trigger", "manual"),
        scheduled_for=spec.get("scheduledFor", ""),
        cancelled=bool(spec.get("cancel")),
        leaving="deletionTimestamp" in meta,
        job=found,
    )
