"""Pipeline: what its finished runs add up to, how many are kept, what they say of it."""

from __future__ import annotations

import pytest

from api.manifests import body, ready, scheduled, stream, warehouse_spec
from api.pipelines import SOURCE, WAREHOUSE, conditions, job, message, run, view
from millstream_api.pipeline import PipelineSpec
from millstream_operator.objects.naming import owner_of
from millstream_operator.reconcile import pipeline, plans
from millstream_operator.reconcile.observed import Context


def test_finished_runs_are_counted_once(ctx: Context) -> None:
    result = {"rowsLoaded": 90, "rowsRead": 100, "checksRun": 10, "checksPassed": 9, "guarantee": "exactly-once"}
    runs = (run("a", "Succeeded", 1, status=result), run("b", "Succeeded", 2, status=result | {"rowsLoaded": 5}))
    first = pipeline.reconcile(view(runs=runs), ctx)
    assert first.status is not None
    assert first.status["rowsLoadedTotal"] == 95
    assert first.status["lastRun"]["name"] == "b"
    assert first.status["quality"] == "9/10"
    assert first.status["guarantee"] == "exactly-once"
    assert [facts.rows["loaded"] for facts in first.counted] == [90, 5]
    assert [note.reason for note in first.notes] == ["Scheduled", "RunSucceeded", "RunSucceeded"]
    again = pipeline.reconcile(view(runs=runs, status=first.status), ctx)
    assert again.status == first.status
    assert (again.counted, again.notes) == ((), ())
    gone = pipeline.reconcile(view(status=first.status), ctx)
    assert gone.status is not None
    assert (gone.status["rowsLoadedTotal"], gone.status["lastRun"]["name"]) == (95, "b")


def test_history_keeps_the_newest_and_only_deletes_what_is_counted(ctx: Context) -> None:
    phases = ["Succeeded", "Failed", "Succeeded", "ChecksFailed", "Succeeded", "Cancelled"]
    runs = tuple(run(f"r{number}", phase, number) for number, phase in enumerate(phases))
    jobs = (job("r0", adopted=True, state="succeeded"),)
    spec = scheduled(history={"successful": 1, "failed": 1})
    first = pipeline.reconcile(view(spec, runs=runs, jobs=jobs), ctx)
    assert first.delete == ()
    second = pipeline.reconcile(view(spec, runs=runs, jobs=jobs, status=first.status), ctx)
    assert [(ref.kind, ref.name) for ref in second.delete] == [
        ("PipelineRun", "r2"),
        ("PipelineRun", "r0"),
        ("Job", "r0"),
        ("PipelineRun", "r3"),
        ("PipelineRun", "r1"),
    ]


def test_wrong_configuration_stalls_until_it_is_changed(ctx: Context) -> None:
    refused = {
        "configuration": _configuration(ctx),
        **ready(1, "False", "InvalidConfiguration"),
    }
    bad = (run("a", "Failed", 1, status=refused),)
    outcome = pipeline.reconcile(view(runs=bad), ctx)
    assert conditions(outcome)["Stalled"] == ("True", "InvalidConfiguration")
    assert conditions(outcome)["Ready"] == ("False", "InvalidConfiguration")
    rotated = body("Warehouse", "dw", warehouse_spec(), status=ready(secretVersion="8"))
    assert conditions(pipeline.reconcile(view(runs=bad, warehouse=rotated), ctx))["Ready"] == ("True", "Scheduled")
    mended = scheduled(streams=[stream(target="raw.other")])
    assert conditions(pipeline.reconcile(view(mended, runs=bad), ctx))["Stalled"][0] == "False"
    better = (*bad, run("b", "Succeeded", 2))
    assert conditions(pipeline.reconcile(view(runs=better), ctx))["Ready"] == ("True", "Scheduled")


def _configuration(ctx: Context) -> str:
    spec = PipelineSpec.model_validate(scheduled())
    plan = plans.run_plan(owner_of(view().body), spec, SOURCE, WAREHOUSE)
    return plans.configuration(plan, SOURCE, WAREHOUSE)


def test_failed_run_shows_and_refused_data_fail_passing_only(ctx: Context) -> None:
    failed = run("a", "Failed", 1, status=ready(1, "False", "RunFailed"))
    outcome = pipeline.reconcile(view(runs=(failed,)), ctx)
    assert conditions(outcome)["Ready"] == ("False", "RunFailed")
    check = {"name": "not_null(a)", "severity": "error", "outcome": "failed", "failedRows": 3}
    refused = run("b", "ChecksFailed", 2, status={"checksRun": 4, "checksPassed": 3, "checks": [check]})
    outcome = pipeline.reconcile(view(runs=(failed, refused)), ctx)
    assert conditions(outcome)["Ready"] == ("True", "Scheduled")
    assert conditions(outcome)["Passing"] == ("False", "ChecksFailed")
    assert message(outcome, "Passing") == "3 of 4 checks passed in run b; failed: not_null(a)"
    assert outcome.counted[1].failed_checks == {"error": 1}


@pytest.mark.parametrize(
    ("newest", "expected", "again_s"),
    [
        ("2026-03-01T11:00:00Z", ("True", "WithinLimit"), 3600),
        ("2026-03-01T09:00:00Z", ("False", "Stale"), None),
        (None, ("Unknown", "NotChecked"), None),
    ],
)
def test_freshness(ctx: Context, newest: str | None, expected: tuple[str, str], again_s: float | None) -> None:
    spec = scheduled(freshness={"field": "time_hour", "maxAge": "1h60m"})
    outcome = pipeline.reconcile(view(spec, runs=(run("a", "Succeeded", 1, status={"freshness": newest}),)), ctx)
    assert conditions(outcome)["Fresh"] == expected
    assert outcome.requeue_s == again_s
    assert ("Stale" in [note.reason for note in outcome.notes]) == (expected[1] == "Stale")
    without = pipeline.reconcile(view(status=outcome.status), ctx)
    assert "Fresh" not in conditions(without)
