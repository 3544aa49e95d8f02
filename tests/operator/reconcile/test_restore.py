"""PipelineRun with trigger `restore`: what it waits for, its Job, its result."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from api.manifests import Body, body, retention_spec, warehouse_spec
from api.pipelines import conditions, kinds, message
from api.policies import ARCHIVE, SECRET, ended, env, made, view
from millstream_api import RunReport, StreamReport
from millstream_operator.reconcile import pipelinerun, retentionpolicy
from millstream_operator.reconcile.observed import Context, PolicyView, RunView
from millstream_operator.reconcile.outcome import RestoreFacts

RANGE = {"table": "raw.flights", "from": "2024-01-01", "to": "2024-03-01", "into": "court"}
SPEC = {"policyRef": {"name": "keep"}, "trigger": "restore", "restore": RANGE}


def policy(**more: Any) -> PolicyView:
    return view(retention_spec(archive=ARCHIVE, suspend=True), **({"secret": SECRET} | more))


def back(status: Body | None = None, **more: Any) -> Body:
    return body("PipelineRun", "back", {**SPEC, **more}, status=status)


def test_a_restore_is_a_job_of_the_policys_plan(ctx: Context) -> None:
    outcome = pipelinerun.reconcile(RunView(back(), policy=policy()), ctx)
    assert kinds(outcome) == ["PipelineRun", "ConfigMap", "Job"]
    owned, plan, job = outcome.apply
    assert owned["metadata"]["ownerReferences"][0]["uid"] == "uid-keep"
    assert plan["metadata"]["ownerReferences"][0]["uid"] == "uid-keep"
    assert job["metadata"]["ownerReferences"][0]["uid"] == "uid-back"
    pod = job["spec"]["template"]["spec"]
    assert pod["containers"][0]["args"] == ["retain"]
    assert env(made(outcome)) == (
        '{"restore":{"table":"raw.flights","from":"2024-01-01","to":"2024-03-01","into":"court"}}'
    )
    assert {volume["name"] for volume in pod["volumes"]} >= {"secret-archive", "secret-warehouse"}
    assert conditions(outcome)["Ready"] == ("Unknown", "Running")


def test_runs_and_restores_mount_the_archives_volume(ctx: Context) -> None:
    spec = retention_spec(archive={"url": "file:///archive/dw/", "volumeClaim": "cold"})
    restored = pipelinerun.reconcile(RunView(back(), policy=view(spec)), ctx)
    _, cron, _, dry_run = retentionpolicy.reconcile(view(spec), ctx).apply
    for found in (made(restored)["spec"], dry_run["spec"], cron["spec"]["jobTemplate"]["spec"]):
        pod = found["template"]["spec"]
        volume = next(item for item in pod["volumes"] if "persistentVolumeClaim" in item)
        assert volume["persistentVolumeClaim"] == {"claimName": "cold"}
        mounts = {item["name"]: item["mountPath"] for item in pod["containers"][0]["volumeMounts"]}
        assert mounts[volume["name"]] == "/archive/dw"


def test_its_rows_are_in_the_status(ctx: Context) -> None:
    started = pipelinerun.reconcile(RunView(back(), policy=policy()), ctx).status
    totals = StreamReport(name="", read=120, loaded=120)
    told = RunReport(exit_code=0, reason="Done", message="2 partitions are back", totals=totals)
    run = RunView(back(started), ended("back-1", told), policy=policy())
    outcome = pipelinerun.reconcile(run, ctx)
    assert outcome.status is not None
    assert (outcome.status["phase"], outcome.status["rowsLoaded"]) == ("Succeeded", 120)
    assert message(outcome) == "2 partitions are back"


@pytest.mark.parametrize(
    ("found", "reason", "words"),
    [
        (None, "PolicyNotFound", "RetentionPolicy 'keep': not found"),
        (view(), "PolicyNotReady", "it has no spec.archive to restore from"),
        (view(retention_spec(keep={"age": "soon"})), "PolicyNotReady", "spec.keep.age"),
        (policy(warehouse=body("Warehouse", "dw", warehouse_spec(type="duckdb"))), "PolicyNotReady", "'duckdb'"),
        (policy(warehouse=None), "WarehouseNotFound", "Warehouse 'dw': not found"),
        (policy(secret=replace(SECRET, version=None)), "SecretNotFound", "cold-s3"),
        (policy(jobs=(ended("keep-1", RunReport(exit_code=0, reason=""), state="active"),)), "Queued", "keep-1"),
    ],
)
def test_what_a_restore_waits_for(ctx: Context, found: PolicyView | None, reason: str, words: str) -> None:
    outcome = pipelinerun.reconcile(RunView(back(), policy=found), ctx)
    assert "Job" not in kinds(outcome)
    assert conditions(outcome)["Ready"] == ("False", reason)
    assert words in message(outcome)


def test_restores_of_a_policy_go_one_after_the_other(ctx: Context) -> None:
    first = back({"phase": "Running"})
    first["metadata"] |= {"name": "first", "uid": "uid-first"}
    outcome = pipelinerun.reconcile(RunView(back(), policy=policy(restores=(first, back()))), ctx)
    assert conditions(outcome)["Ready"] == ("False", "Queued")
    assert "run first" in message(outcome)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({**SPEC, "pipelineRef": {"name": "flights"}}, "one of them"),
        ({"trigger": "restore"}, "one of them"),
        ({**SPEC, "trigger": "manual"}, "go together"),
        ({"pipelineRef": {"name": "flights"}, "trigger": "restore"}, "go together"),
        ({**SPEC, "fullRefresh": True}, "do not go with trigger 'restore'"),
    ],
)
def test_what_does_not_go_together(ctx: Context, spec: Body, words: str) -> None:
    outcome = pipelinerun.reconcile(RunView(body("PipelineRun", "back", spec), policy=policy()), ctx)
    assert conditions(outcome)["Stalled"] == ("True", "InvalidSpec")
    assert words in message(outcome)


def finished(name: str, minute: int, reason: str = "Succeeded", text: str = "1 partition is back") -> Body:
    ready_ = {"type": "Ready", "status": "True" if reason == "Succeeded" else "False", "reason": reason}
    status = {
        "phase": {"Succeeded": "Succeeded", "Cancelled": "Cancelled"}.get(reason, "Failed"),
        "finishedAt": f"2026-03-01T11:{minute:02}:00Z",
        "conditions": [ready_ | {"message": text, "lastTransitionTime": "2026-03-01T11:00:00Z"}],
    }
    return body("PipelineRun", name, SPEC, status=status)


def test_the_policy_says_how_its_newest_restore_went(ctx: Context) -> None:
    first = retentionpolicy.reconcile(policy(restores=(finished("one", 1), back())), ctx)
    assert first.status is not None
    assert first.status["lastRestore"] == {
        "name": "one",
        "outcome": "Succeeded",
        "message": "1 partition is back",
        "finishedAt": "2026-03-01T11:01:00Z",
    }
    assert [(note.type, note.reason) for note in first.notes if "restore" in note.message] == [
        ("Normal", "RestoreSucceeded")
    ]
    bad = finished("two", 2, "ChecksFailed", "raw.flights: the archive does not match")
    around = {"restores": (finished("one", 1), bad)}
    after = retentionpolicy.reconcile(replace(policy(**around), body=with_status(first.status)), ctx)
    assert after.status is not None
    assert (after.status["lastRestore"]["name"], after.status["lastRestore"]["outcome"]) == ("two", "ChecksFailed")
    assert [(note.type, note.reason, note.message) for note in after.notes] == [
        ("Warning", "RestoreFailed", "restore two: raw.flights: the archive does not match")
    ]
    again = retentionpolicy.reconcile(replace(policy(**around), body=with_status(after.status)), ctx)
    assert [outcome.counted for outcome in (first, after, again)] == [
        (RestoreFacts("Succeeded"),),
        (RestoreFacts("ChecksFailed"),),
        (),
    ]
    assert (again.status, again.notes) == (after.status, ())
    gone = retentionpolicy.reconcile(replace(policy(), body=with_status(after.status)), ctx)
    assert gone.status == after.status | {"countedRestores": []}  # what was told stays when the run is deleted


@pytest.mark.parametrize(
    ("first", "second", "newest"),
    [
        ([("one", 2)], [("also", 2), ("one", 2)], "one"),  # one second, and the second one's name comes first
        ([("one", 2)], [("one", 2), ("two", 2)], "two"),
        ([("one", 2)], [("before", 1), ("one", 2)], "one"),  # ended earlier, and was read later
    ],
)
def test_every_restore_is_told_once(
    ctx: Context, first: list[tuple[str, int]], second: list[tuple[str, int]], newest: str
) -> None:
    looks = [tuple(finished(*item) for item in items) for items in (first, second, second)]
    status, counted = None, []
    for restores in looks:
        around = policy(restores=restores) if status is None else policy(restores=restores, status=status)
        outcome = retentionpolicy.reconcile(around, ctx)
        assert outcome.status is not None
        status = outcome.status
        counted.append(len(outcome.counted))
        assert sum(note.reason == "RestoreSucceeded" for note in outcome.notes) == counted[-1]
    assert (counted, status["lastRestore"]["name"] if status else "") == ([1, 1, 0], newest)


def with_status(status: Body) -> Body:
    return body("RetentionPolicy", "keep", retention_spec(archive=ARCHIVE, suspend=True), status=status)


@pytest.mark.parametrize(
    ("history", "gone"),
    [
        ({}, ["bad-1", "good-1", "good-2"]),
        ({"history": {"successful": 4, "failed": 0}}, ["bad-1", "bad-2", "bad-3", "bad-4", "good-1"]),
    ],
)
def test_finished_restores_beyond_the_history_go(ctx: Context, history: Body, gone: list[str]) -> None:
    good = [finished(f"good-{number}", number) for number in range(1, 6)]
    bad = [finished(f"bad-{number}", 10 + number, "RunFailed") for number in range(1, 5)]
    around = replace(policy(), body=body("RetentionPolicy", "keep", retention_spec(archive=ARCHIVE, **history)))
    outcome = retentionpolicy.reconcile(replace(around, restores=(*good, *bad, back({"phase": "Running"}))), ctx)
    assert sorted(ref.name for ref in outcome.delete) == gone
    assert {(ref.kind, ref.uid) for ref in outcome.delete} == {("PipelineRun", f"uid-{name}") for name in gone}


def test_restores_of_an_earlier_policy_of_that_name_are_left_alone(ctx: Context) -> None:
    other = finished("one", 1)
    other["metadata"]["ownerReferences"] = [{"kind": "RetentionPolicy", "uid": "uid-of-the-earlier"}]
    outcome = retentionpolicy.reconcile(policy(restores=(other,) * 9), ctx)
    assert (outcome.delete, "lastRestore" in (outcome.status or {})) == ((), False)
