"""A replay under fire: killed at any instant, two at once. Each row is in the target once or open, never both."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from chaos.seeds import seed
from memory_runs import Works, counted, postgres_works
from millstream_api import RunOptions, RunReport
from servers.plugin import postgres_database, postgres_server

__all__ = ["postgres_database", "postgres_server", "postgres_works"]

ROWS = 300
KILLS = 20
SMALL = [{"type": "range", "column": "v", "max": 9}]
STREAMS: dict[str, dict[str, Any]] = {
    "append": {},
    "merge": {"primaryKey": ["id"], "writeDisposition": "merge"},
}


def assert_once(works: Works) -> None:
    """Each row is loaded once if it was closed, and open if it was not; the ledger says the same."""
    assert works.ask("SELECT count(*), count(DISTINCT id) FROM raw.s") == [(ROWS, ROWS)]
    assert works.ask("SELECT status, count(*), max(attempts) FROM _millstream.quarantine GROUP BY status") == [
        ("replayed", ROWS, 1)
    ]
    assert works.ask("SELECT sum(read), sum(loaded) FROM _millstream.ledger WHERE origin = 'quarantine'") == [
        (ROWS, ROWS)
    ]


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS.keys())
def test_killed_at_random_instants(stream: dict[str, Any], postgres_works: Works, tmp_path: Path) -> None:
    print(f"MILLSTREAM_TEST_SEED={seed()}")
    works = postgres_works
    works.rows = [{"id": n, "v": 50} for n in range(ROWS)]
    assert counted(works.run(stream | {"checks": SMALL})) == (ROWS, 0, ROWS, 0, 0)
    plan = tmp_path / "plan.json"
    plan.write_text(works.plan(stream).document())
    script = Path(__file__).with_name("killing.py")
    line = [sys.executable, str(script), str(plan), str(KILLS), str(seed()), "3"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=True)
    assert int(done.stdout) > 0, "some were killed in mid-replay"
    loaded = works.ask("SELECT count(*) FROM raw.s")
    assert works.ask("SELECT count(*) FROM _millstream.quarantine WHERE status = 'replayed'") == loaded
    report = works.run(stream, options=RunOptions(trigger="replay"), name="fix")
    assert (report.exit_code, counted(report)) == (0, (ROWS, ROWS, 0, 0, 0)), report.message
    assert_once(works)


@pytest.mark.parametrize("names", [("fix-1", "fix-2"), ("fix", "fix")], ids=["two replays", "twins of one"])
def test_two_at_once(names: tuple[str, str], postgres_works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream_pipelines.replay._CHUNK", 10)
    works = postgres_works
    works.rows = [{"id": n, "v": 50} for n in range(ROWS)]
    works.run({"checks": SMALL})
    reports: list[RunReport] = []

    def go(name: str) -> None:
        reports.append(works.run(options=RunOptions(trigger="replay"), name=name))

    threads = [threading.Thread(target=go, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {report.exit_code for report in reports} <= {0, 75}, [report.message for report in reports]
    works.run(options=RunOptions(trigger="replay"), name=names[0])
    assert_once(works)


def test_a_row_that_is_discarded_meanwhile_is_not_loaded(postgres_works: Works) -> None:
    works = postgres_works
    works.rows = [{"id": n, "v": 50} for n in range(3)]
    works.run({"checks": SMALL})
    assert works.database is not None
    holder = psycopg2.connect(works.database.dsn)
    with holder.cursor() as cursor:
        cursor.execute("UPDATE _millstream.quarantine SET status = 'discarded' WHERE id = 2")
        report = works.run(options=RunOptions(trigger="replay"))
    holder.commit()
    holder.close()
    assert counted(report) == (2, 2, 0, 0, 0)
    assert works.ask("SELECT id FROM raw.s ORDER BY id") == [(0,), (2,)]
