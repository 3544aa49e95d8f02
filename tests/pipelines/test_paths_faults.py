"""Either path in bad weather: a connection ends in mid-COPY, a signal comes. Nothing hangs or is half-committed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from postgres_pair import Pair, done, numbered, pair
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["pair", "postgres_database", "postgres_server"]

ROWS = 20_000
PATHS: dict[str, dict[str, Any]] = {"raw": {}, "arrow": {"filter": "true"}}
# Where each side stops for long: the reader in mid-COPY of its rows, the writer in a trigger.
SLOW_SOURCE = f"CREATE VIEW slow AS SELECT id, name, CASE WHEN id = {ROWS} THEN pg_sleep(90)::text END AS x FROM t"
SLOW_TARGET = (
    "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS "
    "'BEGIN IF NEW.id = 5000 THEN PERFORM pg_sleep(90); END IF; RETURN NEW; END'"
)


def slow(pair: Pair, side: str) -> Postgres:
    """Make one side wait; return it."""
    numbered(pair.source, ROWS)
    pair.warehouse.execute("CREATE SCHEMA raw")
    if side == "source":
        pair.source.execute(SLOW_SOURCE)
        pair.stream["name"] = "public.slow"
        return pair.source
    pair.warehouse.execute("CREATE TABLE raw.t (id bigint, name text)")
    pair.source.execute("ALTER TABLE t ALTER id TYPE bigint")
    pair.warehouse.execute(SLOW_TARGET)
    pair.warehouse.execute("CREATE TRIGGER w BEFORE INSERT ON raw.t FOR EACH ROW EXECUTE FUNCTION wait()")
    return pair.warehouse


def sleeping(database: Postgres) -> list[int]:
    """Return who sleeps in that database."""
    found = database.execute(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    )
    return [pid for (pid,) in found]


def wait_for_sleeper(database: Postgres) -> int:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for pid in sleeping(database):
            return pid
        time.sleep(0.02)
    raise AssertionError("nobody came to the place where it sleeps")


def gone(database: Postgres) -> bool:
    """Return whether all backends of the run are gone, within 30 s."""
    until = time.monotonic() + 30
    ours = "datname = current_database() AND application_name = 'millstream'"
    while time.monotonic() < until:
        if database.execute(f"SELECT count(*) FROM pg_stat_activity WHERE {ours}") == [(0,)]:
            return True
        time.sleep(0.05)
    return False


def repaired(pair: Pair) -> None:
    """The obstacle goes away, and the next run loads every row once."""
    pair.warehouse.execute("DROP TRIGGER IF EXISTS w ON raw.t")
    pair.stream["name"] = "public.t"
    assert done(pair.run()) == (ROWS, ROWS, 0)
    assert pair.seen("count(*), count(DISTINCT id)") == [(ROWS, ROWS)]


@pytest.mark.parametrize("side", ["source", "warehouse"])
@pytest.mark.parametrize("path", PATHS)
def test_a_connection_that_ends_in_mid_copy(path: str, side: str, pair: Pair) -> None:
    database = slow(pair, side)
    pair.stream |= PATHS[path]
    assert pair.path().startswith(path)

    def kill() -> None:
        database.execute(f"SELECT pg_terminate_backend({wait_for_sleeper(database)})")

    killer = threading.Thread(target=kill)
    killer.start()
    report = pair.run()
    killer.join()
    assert (report.exit_code, report.reason) == (75, "Unreachable"), report.message
    assert "terminating connection" in report.message or "closed the connection" in report.message
    assert pair.warehouse.execute("SELECT count(*) FROM _millstream.ledger") == [(0,)]
    assert gone(pair.source)
    assert gone(pair.warehouse)
    for thread in threading.enumerate():
        if thread.name.startswith("millstream"):
            thread.join(10)
            assert not thread.is_alive()
    repaired(pair)


@pytest.mark.parametrize("side", ["source", "warehouse"])
@pytest.mark.parametrize("path", PATHS)
def test_a_pod_that_is_told_to_stop_in_mid_copy(path: str, side: str, pair: Pair, tmp_path: Path) -> None:
    database = slow(pair, side)
    pair.stream |= PATHS[path]
    (tmp_path / "plan.json").write_text(pair.request().plan.document())
    environment = os.environ | {
        "MILLSTREAM_PLAN": str(tmp_path / "plan.json"),
        "MILLSTREAM_TERMINATION_LOG": str(tmp_path / "report.json"),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "millstream_pipelines"], env=environment, stdout=subprocess.DEVNULL
    )
    wait_for_sleeper(database)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 75
    assert gone(pair.source)
    assert gone(pair.warehouse)
    assert pair.warehouse.execute("SELECT count(*) FROM _millstream.ledger") == [(0,)]
    repaired(pair)


@pytest.mark.parametrize("path", PATHS)
def test_what_the_server_refuses_keeps_its_own_words(path: str, pair: Pair) -> None:
    numbered(pair.source, ROWS)
    pair.warehouse.execute("CREATE SCHEMA raw")
    pair.warehouse.execute("CREATE TABLE raw.t (id int, name text)")
    pair.warehouse.execute(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN RAISE 'not today' USING ERRCODE = '55006'; END$$"
    )
    pair.warehouse.execute("CREATE TRIGGER n BEFORE INSERT ON raw.t FOR EACH ROW EXECUTE FUNCTION no()")
    report = pair.run(**PATHS[path])
    assert (report.exit_code, report.reason) == (75, "Unreachable")
    assert "not today" in report.message
    assert json.loads(report.model_dump_json())["totals"]["loaded"] == 0
