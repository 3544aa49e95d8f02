"""Runs in several processes under fire: killed anywhere, twins of one shard. Every row once, nothing left behind."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from chaos.seeds import seed
from pods import Pod, Pods
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

ROWS, BAD = 40_000, 80
STREAM = {
    "name": "public.events",
    "target": "raw.events",
    "writeDisposition": "replace",
    "checks": [{"type": "range", "column": "rev", "min": 0}],
}
# What publishes dies at these places: most are passed by a slice first.
PLACES = ["settled:2", "ledger-entered:2", "ending:1"]


@pytest.fixture
def pods(postgres_database: Postgres, tmp_path: Path) -> Pods:
    postgres_database.execute(
        f"CREATE TABLE events AS SELECT g AS id, CASE WHEN g % {ROWS // BAD} = 0 THEN -1 ELSE 1 END AS rev "
        f"FROM generate_series(1, {ROWS}) g"
    )
    postgres_database.execute("ALTER TABLE events ADD PRIMARY KEY (id)")
    return Pods(postgres_database, tmp_path, [STREAM])


def started(pods: Pods, index: int, of: int, **environment: str) -> Pod:
    return pods.start("run-1", MILLSTREAM_SHARDS=str(of), JOB_COMPLETION_INDEX=str(index), **environment)


def finished(pods: Pods, index: int, of: int) -> bool:
    """Retry a shard until it succeeds, as its Job does; return whether it told that the run is published."""
    for _ in range(6):
        report = started(pods, index, of).report()
        if report["exitCode"] == 0:
            return bool(report.get("published"))
        assert report["exitCode"] == 75, report
    raise AssertionError(report)


def assert_exact(database: Postgres) -> None:
    """Target and good rows of the source are the same, bad ones are quarantined once, no stage is left."""
    same = "SELECT count(*), sum(hashtextextended(t::text, 0)::numeric) FROM {} t WHERE rev >= 0"
    assert database.execute(same.format("raw.events")) == database.execute(same.format("events"))
    assert database.execute("SELECT count(*) FROM raw.events WHERE rev < 0") == [(0,)]
    assert database.execute("SELECT count(*), count(DISTINCT row ->> 'id') FROM _millstream.quarantine") == [(BAD, BAD)]
    assert database.execute("SELECT stream, read, loaded, quarantined FROM _millstream.ledger") == [
        ("public.events", ROWS, ROWS - BAD, BAD)
    ]
    assert database.execute("SELECT relname FROM pg_class WHERE relname LIKE 'stage\\_%'") == []
    assert database.execute("SELECT count(*) FROM _millstream.shards") == [(0,)]


def test_killed_at_random_instants(postgres_database: Postgres, pods: Pods) -> None:
    print(f"MILLSTREAM_TEST_SEED={seed()}")
    chance = random.Random(seed())
    running = [started(pods, index, 4) for index in range(4)]
    for index in chance.sample(range(4), 3):
        running[index].killed_after(chance.uniform(0.5, 2.0))
    ended = [pod.ended() for pod in running]
    assert set(ended) <= {0, 75, -9}
    again = [index for index in range(4) if ended[index]]
    told = [finished(pods, index, 4) for index in again]
    assert any(told) == bool(again)
    assert_exact(postgres_database)


@pytest.mark.parametrize("place", PLACES)
def test_the_one_that_publishes_dies(place: str, postgres_database: Postgres, pods: Pods) -> None:
    assert started(pods, 1, 2).ended() == 0
    assert started(pods, 0, 2, MILLSTREAM_FAILPOINT=f"{place}:kill").ended() == -9
    assert finished(pods, 0, 2)
    assert_exact(postgres_database)


def test_twins_of_every_shard(postgres_database: Postgres, pods: Pods) -> None:
    twins = [started(pods, index, 2) for index in range(2) for _ in range(2)]
    assert {pod.ended() for pod in twins} <= {0, 75}
    assert all(finished(pods, index, 2) for index in range(2))
    assert_exact(postgres_database)
