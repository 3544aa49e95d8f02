"""What a policy's status claims of its tables, and what it does not."""

from __future__ import annotations

from dataclasses import replace

from api.manifests import retention_spec
from api.pipelines import conditions, message
from api.policies import ARCHIVE, SECRET, as_facts, made, report, table, view
from millstream_operator.reconcile import retentionpolicy
from millstream_operator.reconcile.observed import Context


def test_tables_that_are_not_there_yet_are_named(ctx: Context) -> None:
    dry_run = as_facts(made(retentionpolicy.reconcile(view(), ctx)), report())
    unborn = table(name="raw.flihgts", live=0, archived=0, dropped=0, message="waits for its first load")
    told = replace(dry_run, report=report(tables=[table(horizon="2027-01-01"), unborn]))
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
