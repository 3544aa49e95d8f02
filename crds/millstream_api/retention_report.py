"""What a run of a RetentionPolicy found and did: per table, and the plan of what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from millstream_api.meta import ConditionedStatus, StatusModel

_COUNTED = (
    "live",
    "detached",
    "waiting",
    "archived",
    "dropped",
    "held",
    "archived_bytes",
    "pending_bytes",
    "dropped_bytes",
    "lock_wait_seconds",
    "verify_failures",
)
_URGENCY = ("failed", "blocked", "done")

Step = Literal["create", "convert", "split", "detach", "archive", "drop", "expire", "erase", "keep"]


_RANK: dict[Step, int] = {
    **dict.fromkeys(("drop", "expire", "erase"), 0),
    **dict.fromkeys(("detach", "archive"), 1),
    **dict.fromkeys(("convert", "split"), 2),
    **dict.fromkeys(("create", "keep"), 3),
}


class PlannedStep(StatusModel):
    """One thing that a run would do, or would do if nothing stood in its way."""

    table: str = Field(description="Table.")
    step: Step = Field(description="What would be done.")
    partition: str = Field(default="", description="Partition it concerns.")
    from_: str = Field(default="", alias="from", description="First value of its range.")
    to: str = Field(default="", description="First value behind its range.")
    why: str = Field(default="", description="Which limit asks for it.")
    bytes: int = Field(default=0, description="Bytes that leave the warehouse with it.")
    rows: int = Field(default=0, description="Rows, as estimated.")
    blocked_by: str = Field(default="", description="What stands in its way, by name; empty when nothing does.")
    irreversible: bool = Field(default=False, description="Whether it waits for approval where approval is manual.")


def most_telling(steps: Sequence[PlannedStep], limit: int) -> list[PlannedStep]:
    """Return at most `limit` steps in their order: those that remove something before those that make something."""
    ranked = sorted(range(len(steps)), key=lambda number: (_RANK[steps[number].step], number))
    return [steps[number] for number in sorted(ranked[:limit])]


class TableReport(StatusModel):
    """How one table stands after a run."""

    name: str = Field(description="Table.")
    outcome: Literal["done", "blocked", "failed"] = Field(description="What became of it.")
    message: str = Field(default="", description="What was done, or what stands in the way and what to do.")
    live: int = Field(default=0, description="Partitions that are attached.")
    detached: int = Field(default=0, description="Partitions that wait, archived or not, for their drop.")
    waiting: int = Field(default=0, description="Partitions that are due and have no verified archive yet.")
    archived: int = Field(default=0, description="Ranges with a verified archive, dropped or not.")
    dropped: int = Field(default=0, description="Ranges that have left the warehouse.")
    held: int = Field(default=0, description="Partitions that a hold keeps.")
    horizon: str | None = Field(
        default=None, description="First value that no partition takes yet, where `partitionBy` makes them."
    )
    oldest: str | None = Field(default=None, description="First value of the oldest attached partition.")
    archived_bytes: int = Field(default=0, description="Bytes of verified archives in the store.")
    pending_bytes: int = Field(default=0, description="Bytes in the warehouse that wait for their archive or drop.")
    dropped_bytes: int = Field(default=0, description="Bytes that have left the warehouse, ever.")
    verified_at: str | None = Field(default=None, description="When an archive was last read back, RFC 3339 UTC.")
    lock_wait_seconds: float = Field(default=0, description="Time this run spent waiting for locks.")
    verify_failures: int = Field(default=0, description="Archives that this run read back and found different.")


class ErasedArchive(StatusModel):
    """An archive that was written anew without the rows of an erasure."""

    archive: str = Field(description="Its manifest, below the archive's url.")
    rows: int = Field(description="Rows that left with it.")
    supersedes: str = Field(default="", description="The manifest that it took the place of, which is gone.")
    old_hash: str = Field(default="", description="Content hash before.")
    new_hash: str = Field(default="", description="Content hash now, verified.")
    at: str = Field(default="", description="When, RFC 3339 UTC.")


class ErasureReceipt(StatusModel):
    """What an erasure did, without any data of the rows."""

    table: str = Field(description="Table.")
    reason: str = Field(description="Why, as the policy says.")
    condition: str = Field(description="SHA-256 of the condition's words.")
    live_rows: int = Field(default=0, description="Rows deleted from attached partitions.")
    detached_rows: int = Field(default=0, description="Rows deleted from partitions that wait for their drop.")
    quarantined_rows: int = Field(default=0, description="Rows of the quarantine that were emptied.")
    archived_rows: int = Field(default=0, description="Rows that left archives.")
    archives_judged: int = Field(default=0, description="Archives that were looked at.")
    archives: list[ErasedArchive] = Field(
        default_factory=list, description="Archives that were written anew; a report lists none, the command all."
    )
    unjudged: list[str] = Field(default_factory=list, description="What nobody can judge, and a person must look at.")
    begun_at: str | None = Field(default=None, description="When it began, RFC 3339 UTC.")
    done_at: str | None = Field(
        default=None, description="When nothing was left, RFC 3339 UTC; empty while something is."
    )


class RetentionReport(StatusModel):
    """The result of one run of a policy."""

    digest: str = Field(default="", description="Names the irreversible steps that are planned; what one approves.")
    approved: bool = Field(default=True, description="Whether no irreversible step waits for approval.")
    tables: list[TableReport] = Field(default_factory=list, description="Per table; at most 50 are listed.")
    tables_count: int = Field(default=0, description="How many tables there are, listed or not.")
    totals: TableReport | None = Field(default=None, description="Sum over all tables, listed or not.")
    plan: list[PlannedStep] = Field(default_factory=list, description="What comes next; at most 50 are listed.")
    plan_count: int = Field(default=0, description="How many steps are planned, listed or not.")
    bytes: int = Field(default=0, description="Bytes that would leave the warehouse.")
    saving: str = Field(default="", description="What is saved a month, such as `12.40 USD`.")
    blocked: int = Field(default=0, description="Steps that something stands in the way of.")
    erasures: list[ErasureReceipt] = Field(
        default_factory=list,
        description="The newest receipts of erasures, as many as fit; the command shows all.",
    )

    def summed(self) -> TableReport:
        """Return the sum over all tables: as told, or over those that are listed."""
        if self.totals is not None:
            return self.totals
        sums = {name: sum(getattr(table, name) for table in self.tables) for name in _COUNTED}
        return TableReport(
            name="", outcome=min((t.outcome for t in self.tables), key=_URGENCY.index, default="done"), **sums
        )

    def shorten(self) -> bool:
        """Drop the least telling row: a receipt, which the warehouse keeps, then one of the plan, then a table that is
        done. False when none is left.
        """
        if self.erasures:
            self.erasures = self.erasures[1:]
            return True
        if not (self.plan or self.tables):
            return False
        self.plan_count = max(self.plan_count, len(self.plan))
        self.tables_count = max(self.tables_count, len(self.tables))
        if self.plan:
            self.plan = most_telling(self.plan, len(self.plan) - 1)
            return True
        self.totals = self.summed()
        self.tables = sorted(self.tables, key=lambda table: _URGENCY.index(table.outcome))[:-1]
        return True


class PolicyRun(StatusModel):
    """A finished Job of the policy in short."""

    job: str = Field(description="Name of the Job.")
    outcome: str = Field(description="Succeeded, or the reason why not.")
    message: str = Field(default="", description="What was done, or what went wrong and what to do.")
    finished_at: str | None = Field(default=None, description="When it ended, RFC 3339 UTC.")
    configuration: str | None = Field(
        default=None, description="Hash of what it was made from: whether a fix came after it."
    )
    verify_failures: int = Field(default=0, description="Archives that it read back and found different.")


class PolicyRestore(StatusModel):
    """A finished restore from the policy's archives in short."""

    name: str = Field(description="Name of the PipelineRun.")
    outcome: str = Field(description="Succeeded, or the reason why not.")
    message: str = Field(default="", description="What came back, or what went wrong and what to do.")
    finished_at: str | None = Field(default=None, description="When it ended, RFC 3339 UTC.")


class RetentionPolicyStatus(ConditionedStatus):
    """How the tables stand, and what the next run would do."""

    plan: RetentionReport | None = Field(default=None, description="Newest report: tables, and the plan as a dry run.")
    planned_at: str | None = Field(default=None, description="When the plan was made, RFC 3339 UTC.")
    planned_for: str | None = Field(default=None, description="Hash of what the newest plan was made from.")
    plan_name: str | None = Field(default=None, description="Name of the ConfigMap with the current RunPlan.")
    cron_job: str | None = Field(default=None, description="Name of the CronJob.")
    active_job: str | None = Field(default=None, description="Run that has not ended.")
    last_run: PolicyRun | None = Field(default=None, description="Newest run that has ended.")
    last_dry_run: PolicyRun | None = Field(default=None, description="Newest dry run that has ended.")
    dry_run_failures: int | None = Field(
        default=None, description="Dry runs in a row that failed for a reason that may pass; the next one waits longer."
    )
    last_restore: PolicyRestore | None = Field(default=None, description="Newest restore that has ended.")
    last_success_at: str | None = Field(default=None, description="When a run last did all it should, RFC 3339 UTC.")
    last_trigger: str | None = Field(default=None, description="Newest value of the `millstream.dev/run` annotation.")
    last_triggered_job: str | None = Field(default=None, description="Job that was started for it.")
    approved: str | None = Field(default=None, description="Digest that was approved and is handed to runs.")
    approval_refused: str | None = Field(
        default=None, description="Value of the `millstream.dev/approve` annotation that names no current plan."
    )
    counted_jobs: list[str] = Field(
        default_factory=list, description="UIDs of finished Jobs that have been read; so each counts once."
    )
    counted_restores: list[str] = Field(
        default_factory=list, description="UIDs of finished restores that have been told; so each counts once."
    )
    live: int | None = Field(default=None, description="Attached partitions of all tables.")
    archived: int | None = Field(default=None, description="Ranges with a verified archive.")
    dropped: int | None = Field(default=None, description="Ranges that have left the warehouse.")


__all__ = [
    "ErasedArchive",
    "ErasureReceipt",
    "PlannedStep",
    "PolicyRestore",
    "PolicyRun",
    "RetentionPolicyStatus",
    "RetentionReport",
    "Step",
    "TableReport",
    "most_telling",
]
