"""Backfills, shards, missed times and drift on a real API server; the test plays the node."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.live import Cluster, eventually, loaded
from millstream_api import Drift

pytestmark = pytest.mark.cluster

WINDOW = {"from": "2026-01-01", "to": "2026-02-01", "interval": "1d"}


def test_a_backfill_runs_beside_the_schedule_and_shows_how_far_it_is(flights: Cluster) -> None:
    flights.fire(flights.status("pipeline", "flights")["cronJob"], "flights-1")
    flights.phase("flights-1", "Running")
    for name in ("january", "again"):
        flights.run(name, trigger="backfill", window=WINDOW)
        job = flights.phase(name, "Running" if name == "january" else "Queued").get("job", "")
        if job:
            flights.finish(job, 75, **loaded(120, intervals_done=12, intervals_total=31))
    status = flights.phase("january", "Failed")
    assert (status["progress"], status["intervalsDone"], status["intervalsTotal"]) == ("12/31", 12, 31)
    assert "12/31" in flights.plane.kubectl("get", "plr", "january", f"--namespace={flights.namespace}")
    flights.finish(flights.phase("again", "Running")["job"], **loaded(310, intervals_done=31, intervals_total=31))
    flights.phase("again", "Succeeded")
    drift = Drift(stream="flights", column="tail", change="added", after="text", action="added to raw.flights")
    flights.finish("flights-1", **loaded(5, drift=[drift]))
    flights.becomes("pipeline", "flights", "SchemaChanged", "SchemaDrift")
    assert flights.condition("pipeline", "flights", "SchemaDrift")[2] == (
        "flights.tail added (text): added to raw.flights"
    )
    status = flights.status("pipeline", "flights")
    assert (status["lastRun"]["name"], status["rowsLoadedTotal"]) == ("flights-1", 435)
    assert flights.condition("pipeline", "flights")[:2] == ("True", "Scheduled")
    eventually(lambda: flights.events("SchemaChanged"), "an event")


def test_shards_are_one_run(flights: Cluster) -> None:
    flights.pipeline(extract={"shards": 3}, retries={"limit": 1})
    flights.becomes("pipeline", "flights", "OnDemand")
    flights.run("whole")
    job = flights.phase("whole", "Running")["job"]
    flights.finish(job, shard=0, **loaded(10, shards=3))
    eventually(lambda: flights.status("pipelinerun", "whole").get("progress") == "1/3", "one shard to be done")
    flights.finish(job, 75, shard=1, **loaded(1, shards=3))
    flights.finish(job, shard=2, **loaded(20, shards=3))
    eventually(lambda: flights.pod_of(job, 1)["status"]["phase"] == "Pending", "the shard to be tried again")
    flights.finish(job, shard=1, **loaded(42, shards=3, published=True))
    status = flights.phase("whole", "Succeeded")
    assert (status["rowsLoaded"], status["progress"], status["shards"], status["attempts"]) == (42, "3/3", 3, 2)
    flights.run("broken")
    job = flights.phase("broken", "Running")["job"]
    flights.finish(job, shard=0, **loaded(10, shards=3))
    flights.finish(job, 78, shard=2, shards=3, message="no such column")
    status = flights.phase("broken", "Failed")
    assert flights.condition("pipelinerun", "broken")[1:] == (
        "InvalidConfiguration",
        "shard 2 (of 3, from 0): no such column",
    )
    assert status.get("rowsLoaded") == 0


def test_missed_times_are_made_up_for_in_order(flights: Cluster) -> None:
    # Half a day away: the real CronJob controller must not start a run of its own.
    due = (datetime.now(UTC) - timedelta(hours=12)).replace(minute=0, second=0, microsecond=0)
    missed = [f"{due - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}" for days in (2, 1, 0)]
    since = f"{due - timedelta(days=2, hours=1):%Y-%m-%dT%H:%M:%SZ}"
    daily = {"cron": f"0 {due.hour} * * *", "catchUp": "all", "startingDeadlineSeconds": 10}
    flights.pipeline(schedule=daily, history={"successful": 9})
    begun = f"0 {due.hour} * * * Etc/UTC all"
    eventually(lambda: flights.status("pipeline", "flights")["catchUp"]["schedule"] == begun, "the schedule to begin")
    put_back = {"status": {"catchUp": {"since": since}}}
    # A write of the operator that is under way may undo it.
    eventually(
        lambda: _late(flights) or _nothing(flights.rest.merge("pipeline", "flights", put_back, "status")), "a run"
    )
    for number, time in enumerate(missed):
        run = eventually(lambda number=number: _late(flights)[number], f"a run for {time}")
        assert (run["spec"]["scheduledFor"], len(_late(flights))) == (time, number + 1)
        flights.finish(flights.phase(run["metadata"]["name"], "Running")["job"], **loaded(1))
        flights.phase(run["metadata"]["name"], "Succeeded")
    eventually(lambda: flights.status("pipeline", "flights")["rowsLoadedTotal"] == 3, "three runs to be counted")
    assert len(_late(flights)) == 3
    assert flights.status("pipeline", "flights")["catchUp"]["missed"] == []
    assert len(flights.events("RunsMissed", "flights")) == 1
    flights.pipeline(schedule=daily, suspend=True)
    flights.becomes("pipeline", "flights", "Suspended")
    flights.pipeline(schedule=daily)
    flights.becomes("pipeline", "flights", "Scheduled")
    cronjob = flights.status("pipeline", "flights")["cronJob"]
    eventually(lambda: flights.get("cronjob", cronjob)["spec"]["suspend"] is False, "the CronJob to go on")


def _nothing(_: object) -> None:
    """Say that what was waited for has not come yet."""


def _late(cluster: Cluster) -> list[Any]:
    """Return the late runs, oldest time first."""
    runs = [run for run in cluster.list("pipelinerun") if run["spec"]["trigger"] == "catchup"]
    return sorted(runs, key=lambda run: run["spec"]["scheduledFor"])
