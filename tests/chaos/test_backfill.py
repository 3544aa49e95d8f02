"""Backfills under fire: killed within and between intervals while the forward load goes on. Every row once."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from chaos.seeds import seed
from pods import Pods
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

ROWS = 20_000
OPTIONS = {"trigger": "backfill", "window": {"from": "0", "to": str(ROWS), "step": ROWS // 10}}
APPEND = {"name": "public.events", "target": "raw.events", "mode": "incremental", "cursor": {"field": "id"}}
MERGE = {**APPEND, "writeDisposition": "merge", "primaryKey": ["id"]}
PLACES = ["in-copy:2", "ledger-entered:5", "committed:6"]


def seeded(database: Postgres) -> None:
    database.execute(f"CREATE TABLE events AS SELECT g AS id, 1 AS rev FROM generate_series(0, {ROWS}) g")
    database.execute("ALTER TABLE events ADD PRIMARY KEY (id)")


def assert_exact(database: Postgres) -> None:
    """Target and source are the same multiset, and the run's intervals are those of the ledger, each once."""
    same = "SELECT count(*), sum(hashtextextended(t::text, 0)::numeric) FROM {} t"
    assert database.execute(same.format("raw.events")) == database.execute(same.format("events"))
    assert database.execute(
        "SELECT count(*), sum(read) FROM _millstream.ledger WHERE stream = 'public.events@backfill' AND run = 'back'"
    ) == [(10, ROWS)]
    assert database.execute("SELECT count(*), sum(read) FROM _millstream.intervals WHERE run = 'back'") == [(10, ROWS)]


@pytest.mark.parametrize("place", PLACES)
def test_killed_at_a_named_place(place: str, postgres_database: Postgres, tmp_path: Path) -> None:
    seeded(postgres_database)
    pods = Pods(postgres_database, tmp_path, [APPEND])
    assert pods.finish("forward")["exitCode"] == 0
    postgres_database.execute(f"UPDATE events SET rev = 2 WHERE id < {ROWS}")
    assert pods.start("back", OPTIONS, MILLSTREAM_FAILPOINT=f"{place}:kill").ended() == -9
    report = pods.finish("back", OPTIONS)
    assert (report["exitCode"], report["intervalsDone"], report["totals"]["loaded"]) == (0, 10, ROWS)
    assert_exact(postgres_database)


@pytest.mark.parametrize("stream", [APPEND, MERGE], ids=["append", "merge"])
def test_killed_at_random_instants_beside_the_forward_load(
    stream: dict[str, Any], postgres_database: Postgres, tmp_path: Path
) -> None:
    print(f"MILLSTREAM_TEST_SEED={seed()}")
    chance = random.Random(seed())
    seeded(postgres_database)
    pods = Pods(postgres_database, tmp_path, [stream])
    assert pods.finish("forward-0")["exitCode"] == 0
    postgres_database.execute(f"UPDATE events SET rev = 2 WHERE id < {ROWS}")
    for number in range(1, 3):
        first = ROWS + number * 1000
        postgres_database.execute(f"INSERT INTO events SELECT g, 3 FROM generate_series({first}, {first + 500}) g")
        forward, back = pods.start(f"forward-{number}"), pods.start("back", OPTIONS)
        back.killed_after(chance.uniform(0.7, 2.0))
        forward.killed_after(chance.uniform(0, 2.0))
        assert pods.finish(f"forward-{number}")["exitCode"] == 0
    assert pods.finish("back", OPTIONS)["exitCode"] == 0
    assert_exact(postgres_database)
