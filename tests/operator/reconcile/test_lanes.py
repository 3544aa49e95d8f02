"""Backfills, replays and late runs: what they wait for, what they hand to the pod, what they say of the Pipeline."""

from __future__ import annotations

from typing import Any

import pytest

from api.manifests import Body, ready, scheduled
from api.pipelines import conditions, run, view
from millstream_operator.reconcile import pipeline, pipelinerun
from millstream_operator.reconcile.observed import Context, JobFacts, PipelineView, RunView
from millstream_operator.reconcile.outcome import Outcome

WINDOW = {"from": "2026-01-01", "to": "2026-02-01", "interval": "1d"}


def backfill(name: str = "january", minute: int = 5, phase: str | None = None, **more: Any) -> Body:
    return run(name, phase, minute, trigger="backfill", window=WINDOW, **more)


def around(*runs: Body, policy: str = "Forbid", jobs: tuple[JobFacts, ...] = ()) -> PipelineView:
    spec = scheduled()
    spec["schedule"]["concurrencyPolicy"] = policy
    return view(spec, runs=runs, jobs=jobs)


def look(ctx: Context, body: Body, *others: Body, policy: str = "Forbid", job: JobFacts | None = None) -> Outcome:
    return pipelinerun.reconcile(RunView(body, job, around(*others, policy=policy)), ctx)


def phase(outcome: Outcome) -> Any:
    assert outcome.status is not None
    return outcome.status["phase"]


def environment(outcome: Outcome) -> dict[str, Any]:
    job = next(item for item in outcome.apply if item["kind"] == "Job")
    return {item["name"]: item.get("value") for item in job["spec"]["template"]["spec"]["containers"][0]["env"]}


@pytest.mark.parametrize(
    ("more", "options"),
    [
        (
            {"trigger": "backfill", "window": WINDOW},
            '{"trigger": "backfill", "window": {"from": "2026-01-01", "interval": "1d", "to": "2026-02-01"}}',
        ),
        ({"trigger": "replay"}, '{"trigger": "replay"}'),
        (
            {"trigger": "replay", "replay": {"rule": "range(delay)"}, "streams": ["flights"]},
            '{"replay": {"rule": "range(delay)"}, "streams": ["flights"], "trigger": "replay"}',
        ),
        ({"maxRowsPerSecond": 500}, '{"maxRowsPerSecond": 500}'),
        ({"trigger": "catchup", "scheduledFor": "2026-03-01T09:00:00Z"}, None),
        ({}, None),
    ],
)
def test_the_pod_gets_the_options(ctx: Context, more: Body, options: str | None) -> None:
    assert environment(look(ctx, run("once", **more))).get("MILLSTREAM_OPTIONS") == options


@pytest.mark.parametrize("policy", ["Forbid", "Replace", "Allow"])
def test_a_backfill_goes_beside_the_schedule(ctx: Context, policy: str) -> None:
    usual, late = run("usual", "Running", 1, trigger="schedule"), run("later", "Queued", 9)
    assert phase(look(ctx, backfill(), usual, late, policy=policy)) == "Running"
    running = backfill(phase="Running")
    job = JobFacts("j", uid="u", namespace="shop", run="january", owner_uid="uid-january")
    assert phase(look(ctx, running, usual, late, policy=policy, job=job)) == "Running"
    assert phase(look(ctx, run("manual", minute=9), running, policy=policy)) == "Running"


@pytest.mark.parametrize("policy", ["Forbid", "Replace", "Allow"])
def test_backfills_of_a_pipeline_queue(ctx: Context, policy: str) -> None:
    outcome = look(ctx, backfill(), backfill("december", 1, "Running"), policy=policy)
    assert phase(outcome) == "Queued"
    assert "waiting for run december to end (one backfill of a Pipeline at a time)" in str(outcome.status)
    assert phase(look(ctx, backfill(), backfill("december", 1), policy=policy)) == "Queued"


@pytest.mark.parametrize(("policy", "expected"), [("Forbid", "Queued"), ("Allow", "Running")])
@pytest.mark.parametrize("trigger", ["replay", "catchup"])
def test_replays_and_late_runs_wait_as_manual_ones_do(ctx: Context, trigger: str, policy: str, expected: str) -> None:
    assert (
        phase(look(ctx, run("once", minute=5, trigger=trigger), run("usual", "Running", 1), policy=policy)) == expected
    )


def test_a_late_run_neither_replaces_nor_is_replaced(ctx: Context) -> None:
    job = JobFacts("j", uid="u", namespace="shop", run="late", owner_uid="uid-late")
    late, usual = run("late", "Running", 5, trigger="catchup"), run("usual", "Running", 1)
    assert phase(look(ctx, late, run("newer", "Queued", 9), policy="Replace", job=job)) == "Running"
    assert phase(look(ctx, usual, run("late", "Queued", 5, trigger="catchup"), policy="Replace", job=job)) == "Running"


def test_streams_the_pipeline_does_not_have_end_the_run(ctx: Context) -> None:
    outcome = look(ctx, run("once", streams=["flights", "fligths", "airports"]))
    assert (phase(outcome), outcome.apply) == ("Failed", ())
    assert conditions(outcome)["Stalled"] == ("True", "InvalidSpec")
    assert outcome.status is not None
    assert (
        "Pipeline 'flights' has no stream airports, fligths; it has flights"
        in outcome.status["conditions"][0]["message"]
    )
    assert phase(look(ctx, run("once", streams=["flights"]))) == "Running"


def test_a_window_that_cannot_work_ends_the_run(ctx: Context) -> None:
    bad = run("once", trigger="backfill", window={"from": "2026-02-01", "to": "2026-01-01"})
    outcome = look(ctx, bad)
    assert phase(outcome) == "Failed"
    assert "`from` must be before `to`" in str(outcome.status)


def finished(name: str, trigger: str, phase: str = "Succeeded", minute: int = 9, **status: Any) -> Body:
    window = {"window": WINDOW} if trigger == "backfill" else {}
    return run(name, phase, minute, trigger=trigger, **window, status=status)


def test_a_backfill_counts_rows_and_turns_nothing(ctx: Context) -> None:
    usual = finished(
        "usual", "schedule", "Succeeded", 1, rowsLoaded=5, checksRun=2, checksPassed=2, freshness="2026-03-01T10:00:00Z"
    )
    bad = ready(1, "False", "RunFailed")
    old = finished("old", "backfill", "Failed", rowsLoaded=70, freshness="2026-03-01T11:59:00Z", **bad)
    first = pipeline.reconcile(view(runs=(usual, old)), ctx)
    status = first.status
    assert status is not None
    assert status["rowsLoadedTotal"] == 75
    assert (status["lastRun"]["name"], status["freshness"], status["quality"]) == (
        "usual",
        "2026-03-01T10:00:00Z",
        "2/2",
    )
    assert conditions(first)["Ready"] == ("True", "Scheduled")
    assert len(first.counted) == 2
    refused = finished("old", "backfill", "ChecksFailed", checksRun=2, checksPassed=1)
    assert conditions(pipeline.reconcile(view(runs=(usual, refused)), ctx))["Passing"] == ("True", "ChecksPassed")


def test_a_mistyped_run_says_nothing_of_its_pipeline(ctx: Context) -> None:
    typo = finished("typo", "manual", "Failed", **ready(1, "False", "InvalidSpec"))
    outcome = pipeline.reconcile(view(runs=(typo,)), ctx)
    assert conditions(outcome)["Ready"] == ("True", "Scheduled")
    assert outcome.status is not None
    assert "lastRun" not in outcome.status


def test_backfills_have_a_history_of_their_own(ctx: Context) -> None:
    runs = tuple(finished(f"usual-{n}", "schedule", minute=n) for n in range(3))
    runs += tuple(finished(f"old-{n}", "backfill", minute=n) for n in range(2))
    spec = scheduled(history={"successful": 1, "failed": 1})
    first = pipeline.reconcile(view(spec, runs=runs), ctx)
    second = pipeline.reconcile(view(spec, runs=runs, status=first.status), ctx)
    assert [ref.name for ref in second.delete] == ["usual-1", "usual-0", "old-0"]


DRIFT = {"stream": "flights", "column": "tail", "change": "added", "after": "text", "action": "added to raw.flights"}
WIDER = {"stream": "flights", "column": "delay", "change": "widened", "before": "integer", "after": "bigint"}


def test_drift_is_a_condition_and_an_event(ctx: Context) -> None:
    calm = finished("a", "schedule", minute=1)
    met = finished("b", "schedule", minute=2, drift=[DRIFT, WIDER], driftCount=5)
    assert "SchemaDrift" not in conditions(pipeline.reconcile(view(runs=(calm,)), ctx))
    first = pipeline.reconcile(view(runs=(calm, met)), ctx)
    text = "flights.tail added (text): added to raw.flights; flights.delay widened from integer to bigint; and 3 more"
    assert conditions(first)["SchemaDrift"] == ("True", "SchemaChanged")
    assert [note.message for note in first.notes if note.reason == "SchemaChanged"] == [text]
    again = pipeline.reconcile(view(runs=(calm, met), status=first.status), ctx)
    assert (again.notes, again.status) == ((), first.status)
    failed = finished("c", "schedule", "Failed", 3, **ready(1, "False", "RunFailed"))
    still = pipeline.reconcile(view(runs=(calm, met, failed), status=first.status), ctx)
    assert conditions(still)["SchemaDrift"] == ("True", "SchemaChanged")
    over = pipeline.reconcile(
        view(runs=(calm, met, failed, finished("d", "schedule", minute=4)), status=first.status), ctx
    )
    assert conditions(over)["SchemaDrift"] == ("False", "SchemaUnchanged")
    later = finished("e", "schedule", minute=5)
    assert (
        pipeline.reconcile(view(runs=(later,), status=over.status), ctx).status["conditions"]
        == over.status["conditions"]
    )
