"""What the decisions look at: snapshots of the cache, one view per kind. Bodies are Kubernetes JSON."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from millstream_api.run_report import RunReport
from millstream_operator.objects.podtemplate import RunnerDefaults

Body = dict[str, Any]


@dataclass(frozen=True)
class Context:
    """What every decision may know besides the objects."""

    now: datetime
    runner: RunnerDefaults


@dataclass(frozen=True)
class JobFacts:
    """A Job and what its pods said."""

    name: str
    uid: str = ""
    namespace: str = ""
    owner_uid: str = ""  # label: UID of whom it is made for: Pipeline, PipelineRun, RetentionPolicy, source, warehouse
    role: str = ""  # label: what it does for it
    generation: int = 0  # annotation: of the spec it was made for; 0 where that is not told
    configuration: str = ""  # annotation: hash of all that a person may change to mend it, as it was when it was made
    approved: str = ""  # annotation: digest of the plan whose irreversible steps it may take
    run: str = ""  # name of its PipelineRun
    scheduled: bool = False
    scheduled_for: str = ""  # the time of the schedule it was made for
    adopted: bool = False
    leaving: bool = False  # being deleted; active until its pods are gone
    plan: str = ""
    state: Literal["active", "succeeded", "failed"] = "active"
    reason: str = ""  # of the Job's Failed condition
    message: str = ""
    created: str = ""
    started: str | None = None
    finished: str | None = None
    attempts: int = 0
    shards: int = 1
    shards_done: int = 0
    exit_code: int | None = None
    report: RunReport | None = None
    trouble: str = ""  # why a pod does not start, or how it died without a word


@dataclass(frozen=True)
class PlanFacts:
    """A ConfigMap with a plan."""

    name: str
    created: str = ""


@dataclass(frozen=True)
class SecretFacts:
    """A Secret that is referred to: there or not, and its version; never its content."""

    name: str
    version: str | None  # None: it is not there


@dataclass(frozen=True)
class ProbeView:
    """A DataSource or Warehouse."""

    body: Body
    jobs: tuple[JobFacts, ...] = ()
    plans: tuple[PlanFacts, ...] = ()
    secret: SecretFacts | None = None


@dataclass(frozen=True)
class PipelineView:
    """A Pipeline with everything around it."""

    body: Body
    source: Body | None = None
    warehouse: Body | None = None
    cronjob: Body | None = None
    runs: tuple[Body, ...] = ()
    jobs: tuple[JobFacts, ...] = ()
    plans: tuple[PlanFacts, ...] = ()


@dataclass(frozen=True)
class PolicyView:
    """A RetentionPolicy with everything around it."""

    body: Body
    warehouse: Body | None = None
    cronjob: Body | None = None
    jobs: tuple[JobFacts, ...] = ()
    plans: tuple[PlanFacts, ...] = ()
    secret: SecretFacts | None = None  # of the archive
    restores: tuple[Body, ...] = ()  # PipelineRuns


@dataclass(frozen=True)
class RunView:
    """A PipelineRun, its Job, what it runs (a Pipeline or, for a restore, a RetentionPolicy) and the other runs."""

    body: Body
    job: JobFacts | None = None
    pipeline: PipelineView | None = None
    policy: PolicyView | None = None


def generation(body: Body) -> int:
    """Return metadata.generation."""
    return int(body["metadata"].get("generation", 0))


def rfc3339(moment: datetime) -> str:
    """Return the time as Kubernetes writes it: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def instant(text: str) -> datetime:
    """Return the time of an RFC 3339 text."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
