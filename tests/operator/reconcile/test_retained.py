"""What a policy's status claims of its tables, and what it does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

from api.manifests import retention_spec
from api.pipelines import conditions, message
from api.policies import ARCHIVE, SECRET, as_facts, made, report, table, view
from millstream_api import PlannedStep, RetentionReport, RunReport
from millstream_api.retention_report import most_telling
from millstream_api.retentionpolicy import RetentionPolicySpec
from millstream_operator.reconcile import retentionpolicy
from millstream_operator.reconcile.observed import Context
from millstream_pipelines.retention.approval import digest
from millstream_pipelines.retention.facts import Partition, TableFacts
from millstream_pipelines.retention.planning import TableState, plan_table


def test_tables_that_are_not_there_yet_are_named(ctx: Context) -> None:
    dry_run = as_facts(made(retentionpolicy.reconcile(view(), ctx)), report())
    unborn = table(name="raw.flihgts", live=0, archived=0, dropped=0, message="waits for its first load")
    made_ahead = table(horizon="2027-01-01", message="2 made")
    gets_none = table(name="raw.chunks", archived=0, dropped=0, message="1 blocked by hold 'case7'")
    told = replace(dry_run, report=report(tables=[made_ahead, gets_none, unborn]))
    outcome = retentionpolicy.reconcile(view(jobs=(told,)), ctx)
    assert message(outcome).endswith("0 step(s) planned; raw.flihgts waits for its first load")
    assert "waits" not in message(retentionpolicy.reconcile(view(jobs=(dry_run,)), ctx))


def test_of_tables_that_failed_nothing_is_claimed(ctx: Context) -> None:
    lost = table(live=0, archived=0, outcome="failed", message="there is no such column")
    first = made(retentionpolicy.reconcile(view(retention_spec(archive=ARCHIVE), secret=SECRET), ctx))
    failed = as_facts(first, report(78, "there is no such column", tables=[lost]))
    outcome = retentionpolicy.reconcile(view(retention_spec(archive=ARCHIVE), secret=SECRET, jobs=(failed,)), ctx)
    told = conditions(outcome)
    assert (told["Archived"], told["Blocked"]) == (("Unknown", "NotChecked"), ("Unknown", "NotChecked"))
    assert "not known of raw.flights" in message(outcome, "Archived")


def test_five_thousand_partitions_leave_a_small_status(ctx: Context) -> None:
    """A report has 4 KiB, an object of the API server 1.5 MiB; what removes something is what stays in the list."""
    facts = TableFacts("raw.flights", "ranges", "at", "integer", tuple(_parts(5000)))
    spec = RetentionPolicySpec.model_validate(retention_spec(archive=ARCHIVE, keep={"rows": 10}))
    planned = plan_table(TableState(facts, keep=spec.keep, newest=50_000), spec, ctx.now)
    steps = [step.told() for step in planned]
    assert len(steps) > 4900
    steps.append(
        PlannedStep(table="raw.flights", step="drop", partition="p_old", irreversible=True, blocked_by="x" * 900)
    )
    tables = [table(name=f"raw.table_{number}", message="1 made, " * 30) for number in range(50)]
    told = RetentionReport(
        digest=digest(planned), tables=tables, tables_count=500, plan=most_telling(steps, 50), plan_count=len(steps)
    )
    raw = RunReport(exit_code=0, reason="Succeeded", message="done", retention=told).fitted()
    assert len(raw) <= 4096
    first = made(retentionpolicy.reconcile(view(spec=retention_spec(archive=ARCHIVE), secret=SECRET), ctx))
    dry_run = as_facts(first, RunReport.model_validate_json(raw))
    outcome = retentionpolicy.reconcile(view(retention_spec(archive=ARCHIVE), secret=SECRET, jobs=(dry_run,)), ctx)
    assert outcome.status is not None
    assert len(json.dumps(outcome.status)) < 65_536
    assert outcome.status["plan"]["planCount"] == len(steps)
    assert outcome.status["plan"]["tablesCount"] == 500


def _parts(count: int) -> Iterator[Partition]:
    for number in range(count):
        yield Partition(f"raw.flights_{number}", number * 10, number * 10 + 10, 8192, 10)
