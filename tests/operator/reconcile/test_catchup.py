"""Missed times of the schedule: which count as missed, which get a run, what is remembered."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from api.manifests import Body, scheduled
from api.pipelines import job, message, run, view
from millstream_operator.objects.podtemplate import RunnerDefaults
from millstream_operator.reconcile import pipeline
from millstream_operator.reconcile.observed import Context
from millstream_operator.reconcile.outcome import Outcome

HOURLY = "0 * * * *"


def at(hour: str) -> str:
    return f"2026-03-01T{hour}:00Z"


def spec(catch_up: str = "all", suspend: bool = False, **schedule: Any) -> Body:
    return scheduled(suspend=suspend) | {"schedule": {"cron": HOURLY, "catchUp": catch_up, **schedule}}


def known(*missed: str, since: str | None = "08:00", catch_up: str = "all", **more: Any) -> Body:
    status = {"schedule": f"{HOURLY} Etc/UTC {catch_up}", "missed": [at(hour) for hour in missed], **more}
    return {"catchUp": status | ({"since": at(since)} if since else {})}


def cron(last: str = "", **more: Any) -> Body:
    template = {"spec": {"template": {"spec": {}}}}
    wanted = {"schedule": HOURLY, "timeZone": "Etc/UTC", "suspend": False, "jobTemplate": template, **more}
    return {"metadata": {"name": "c"}, "spec": wanted, "status": {"lastScheduleTime": at(last)} if last else {}}


def started(hour: str, phase: str = "Succeeded", trigger: str = "schedule", **status: Any) -> Body:
    found = run(
        f"r-{trigger}-{hour[:2]}", phase, trigger=trigger, scheduledFor=at(hour), status={"startedAt": at(hour)}
    )
    found["status"] |= {"finishedAt": at(f"{hour[:2]}:01")} if phase == "Succeeded" else {}
    found["status"] |= status
    return found


def look(now: str, status: Body, *runs: Body, wanted: Body | None = None, **around: Any) -> Outcome:
    ctx = Context(datetime.fromisoformat(at(now)), RunnerDefaults("runner:1"))
    return pipeline.reconcile(view(wanted or spec(), status=status, runs=runs, **({"cronjob": cron()} | around)), ctx)


def told(outcome: Outcome) -> tuple[list[str], list[str], str]:
    """Return the times that get a run now, those that are left for later, and up to which all are settled."""
    assert outcome.status is not None
    status = outcome.status["catchUp"]
    made = [item["spec"] for item in outcome.apply if item["kind"] == "PipelineRun"]
    late = [item["scheduledFor"][11:16] for item in made if item["trigger"] == "catchup"]
    return late, [text[11:16] for text in status.get("missed", [])], status.get("since", "")[11:16]


@pytest.mark.parametrize(
    ("now", "status", "runs", "around", "expected"),
    [
        pytest.param("09:30", known(), (started("09:00"),), {}, ([], [], "09:00"), id="nothing missed"),
        pytest.param("12:30", known(), (), {}, (["09:00"], ["10:00", "11:00", "12:00"], "12:00"), id="outage"),
        pytest.param("12:05", known(), (), {}, (["09:00"], ["10:00", "11:00"], "11:00"), id="12:00 may still start"),
        pytest.param(
            "12:05", known(), (), {"cronjob": cron("12:00")}, (["09:00"], ["10:00", "11:00"], "12:00"), id="it started"
        ),
        pytest.param(
            "12:05",
            known("10:00", "11:00", since="11:00"),
            (started("09:00", "Running", "catchup"),),
            {},
            ([], ["10:00", "11:00"], "11:00"),
            id="one after the other",
        ),
        pytest.param(
            "12:05",
            known("10:00", "11:00", since="11:00"),
            (started("09:00", trigger="catchup"),),
            {},
            (["10:00"], ["11:00"], "11:00"),
            id="the next",
        ),
        pytest.param(
            "12:05",
            known("09:00", "10:00", since="11:00"),
            (started("09:00", trigger="catchup"),),
            {},
            (["10:00"], [], "11:00"),
            id="made, but not written down",
        ),
        pytest.param(
            "11:40",
            known(),
            (started("09:00", finishedAt=at("11:20")),),
            {},
            ([], [], "11:00"),
            id="left out by Forbid",
        ),
        pytest.param(
            "11:40",
            known(),
            (started("09:00", finishedAt=at("11:20")),),
            {"wanted": spec(concurrencyPolicy="Allow")},
            (["10:00"], ["11:00"], "11:00"),
            id="not left out by Allow",
        ),
        pytest.param("11:40", known(), (started("09:00", "Running"),), {}, ([], [], "09:00"), id="its end decides"),
        pytest.param(
            "12:30",
            known(),
            (started("09:00", finishedAt=at("12:20"), durationSeconds=60.0, attempts=1),),
            {},
            (["10:00"], ["11:00", "12:00"], "12:00"),
            id="its end was only written late",
        ),
    ],
)
def test_all(now: str, status: Body, runs: tuple[Body, ...], around: Body, expected: Any) -> None:
    assert told(look(now, status, *runs, **around)) == expected


@pytest.mark.parametrize(
    ("now", "status", "runs", "around", "expected"),
    [
        pytest.param("12:30", known(catch_up="latest"), (), {}, (["12:00"], [], "12:00"), id="outage"),
        pytest.param("12:05", known(catch_up="latest"), (), {}, (["11:00"], [], "11:00"), id="12:00 may still start"),
        pytest.param(
            "12:05", known(catch_up="latest"), (), {"cronjob": cron("12:00")}, ([], [], "12:00"), id="it started"
        ),
        pytest.param(
            "12:05",
            known("10:00", since="10:00", catch_up="latest"),
            (started("09:00", "Running", "catchup"), started("12:00")),
            {},
            ([], [], "12:00"),
            id="overtaken",
        ),
    ],
)
def test_latest(now: str, status: Body, runs: tuple[Body, ...], around: Body, expected: Any) -> None:
    assert told(look(now, status, *runs, wanted=spec("latest"), **around)) == expected


def test_none() -> None:
    outcome = look("12:30", known(), wanted=spec("none"))
    assert outcome.status is not None
    assert "catchUp" not in outcome.status
    assert [item["kind"] for item in outcome.apply] == ["ConfigMap", "CronJob"]


def test_a_run_is_made_once_whoever_looks() -> None:
    first, again = look("12:30", known()), look("12:31", known())
    made = [[item for item in outcome.apply if item["kind"] == "PipelineRun"] for outcome in (first, again)]
    assert made[0] == made[1]
    assert made[0][0]["metadata"]["name"].startswith("flights-")


def test_it_is_told_and_looked_at_again_in_time() -> None:
    outcome = look("12:05", known())
    assert message(outcome).endswith("; 2 missed run(s) still to start, one after the other")
    reasons = {note.reason: note.message for note in outcome.notes}
    assert reasons["RunsMissed"] == (
        "no run was started at 2026-03-01T09:00:00Z and 2 later time(s); runs make up for them, one after the other"
    )
    assert outcome.requeue_s == 301


def test_more_than_a_hundred_are_bounded_and_said() -> None:
    every_minute = {"catchUp": {"schedule": "* * * * * Etc/UTC all", "since": at("08:00")}}
    outcome = look("12:30", every_minute, wanted=spec(cron="* * * * *"), cronjob=cron(schedule="* * * * *"))
    late, missed, _ = told(outcome)
    assert (late, missed[0], missed[-1], len(missed)) == (["10:40"], "10:41", "12:19", 99)
    assert "more than 100 were missed, the oldest get no run" in message(outcome)
    assert outcome.status is not None
    assert outcome.status["catchUp"]["dropped"] is True


def test_what_the_cronjob_controller_has_forgotten_is_not_missed() -> None:
    minutes = [f"{hour:02}:{minute:02}" for hour in (11, 12) for minute in range(60)][9:70]
    jobs = tuple(job(f"j-{text}", scheduled_for=at(text), created=at(text), state="succeeded") for text in minutes)
    every_minute = {"catchUp": {"schedule": "* * * * * Etc/UTC all", "since": at("08:00")}}
    wanted = spec(cron="* * * * *", concurrencyPolicy="Allow")
    outcome = look("12:09", every_minute, wanted=wanted, cronjob=cron("12:09", schedule="* * * * *"), jobs=jobs)
    assert told(outcome) == ([], [], "12:09")


def test_suspended_time_is_not_missed() -> None:
    held = look("09:30", known("07:00"), wanted=spec(suspend=True))
    assert told(held) == ([], ["07:00"], "")
    resumed = look("14:30", held.status or {}, cronjob=cron(suspend=True))
    assert told(resumed) == ([], ["07:00"], "14:30")
    assert "CronJob" not in [item["kind"] for item in resumed.apply]  # the moment is written down before it starts
    after = look("14:31", resumed.status or {}, cronjob=cron(suspend=True))
    assert told(after) == (["07:00"], [], "14:30")
    assert [item["spec"]["suspend"] for item in after.apply if item["kind"] == "CronJob"] == [False]


def test_another_schedule_begins_anew() -> None:
    wanted = spec(cron="30 * * * *")
    changed = look("14:45", known("07:00"), wanted=wanted)
    assert told(changed) == ([], [], "14:45")
    assert "CronJob" not in [item["kind"] for item in changed.apply]
    after = look("14:46", changed.status or {}, wanted=wanted)
    assert [item["spec"]["schedule"] for item in after.apply if item["kind"] == "CronJob"] == ["30 * * * *"]


def test_a_schedule_that_waits_for_its_source_misses_nothing() -> None:
    waiting = look("09:00", {}, cronjob=None, source=None)
    assert waiting.status is not None
    assert "catchUp" not in waiting.status
    made = look("14:30", waiting.status, cronjob=None)
    assert "CronJob" in [item["kind"] for item in made.apply]
    assert told(look("14:31", made.status or {})) == ([], [], "14:31")
