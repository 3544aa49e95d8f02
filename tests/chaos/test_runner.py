"""The runner under fire, on a real server: killed at any instant, twins, a full disk. Nothing is lost or doubled."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from millstream_api import Endpoint, RunPlan
from millstream_api.pipeline import PipelineSpec
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

ROWS = 300_000
KILLS = 6
TABLE = "public.readings"


class Bench:
    """A source table and a pipeline over it; each attempt is a process of its own, as in a pod."""

    def __init__(self, database: Postgres, folder: Path, stream: dict[str, Any]) -> None:
        self.database, self.folder = database, folder
        spec = {
            "sourceRef": {"name": "s"},
            "warehouseRef": {"name": "w"},
            "streams": [{"name": TABLE, "target": "raw.readings"} | stream],
        }
        end = Endpoint(name="db", type="postgres", config=dict(database.config))
        plan = RunPlan(
            action="run",
            namespace="chaos",
            name="readings",
            source=end,
            warehouse=end,
            pipeline=PipelineSpec.model_validate(spec),
        )
        self.plan = folder / "plan.json"
        self.plan.write_text(plan.document())
        self.attempts = 0

    def start(self, run: str) -> subprocess.Popen[bytes]:
        """Start one attempt."""
        self.attempts += 1
        environment = os.environ | {
            "MILLSTREAM_PLAN": str(self.plan),
            "MILLSTREAM_RUN": run,
            "MILLSTREAM_POD": f"pod-{self.attempts}",
            "MILLSTREAM_TERMINATION_LOG": str(self.folder / f"report-{self.attempts}.json"),
        }
        line = [sys.executable, "-m", "millstream_pipelines"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(line, env=environment, **quiet)  # type: ignore[call-overload,no-any-return]

    def finish(self, run: str) -> dict[str, Any]:
        """Run one attempt to its end and return its report."""
        process = self.start(run)
        process.wait(timeout=300)
        report: dict[str, Any] = json.loads((self.folder / f"report-{self.attempts}.json").read_text())
        return report

    def assert_complete(self, rows: int = ROWS) -> None:
        """Target and source are the same multiset; the ledger accounts for each row once; nothing is left over."""
        ask = self.database.execute
        digest = "SELECT count(*), sum(hashtextextended(t::text, 0)::numeric) FROM {} t"
        assert ask(digest.format("raw.readings")) == ask(digest.format(TABLE))
        assert ask("SELECT sum(loaded), sum(quarantined) FROM _millstream.ledger") == [(rows, 0)]
        assert ask("SELECT count(*) FROM pg_class WHERE relname LIKE 'millstream_stage%'") == [(0,)]


def seeded(database: Postgres) -> None:
    database.execute(
        f"CREATE TABLE {TABLE} AS SELECT g AS id, now() - g * interval '1 s' AS at, md5(g::text) AS name, "
        f"(g % 997)::numeric(12,2) AS amount FROM generate_series(1, {ROWS}) g"
    )
    database.execute(f"ALTER TABLE {TABLE} ADD PRIMARY KEY (id)")


STREAMS = {
    "incremental append": {"mode": "incremental", "cursor": {"field": "id"}},
    "incremental merge": {
        "mode": "incremental",
        "cursor": {"field": "id"},
        "primaryKey": ["id"],
        "writeDisposition": "merge",
    },
    "full append": {"mode": "full"},
    "full replace": {"mode": "full", "writeDisposition": "replace"},
}


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS.keys())
def test_killed_at_random_instants(stream: dict[str, Any], postgres_database: Postgres, tmp_path: Path) -> None:
    seed = int(os.environ.get("MILLSTREAM_TEST_SEED") or time.time_ns() % 100_000)
    print(f"MILLSTREAM_TEST_SEED={seed}")
    chance = random.Random(seed)
    seeded(postgres_database)
    bench = Bench(postgres_database, tmp_path, stream)
    for _ in range(KILLS):
        process = bench.start("run-1")
        try:
            process.wait(chance.uniform(0.5, 3.5))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    report = bench.finish("run-1")
    assert report["exitCode"] == 0, report
    bench.assert_complete()
    assert report["totals"]["loaded"] == ROWS


def test_twins_of_one_run(postgres_database: Postgres, tmp_path: Path) -> None:
    seeded(postgres_database)
    bench = Bench(postgres_database, tmp_path, STREAMS["incremental append"])
    twins = [bench.start("run-1") for _ in range(3)]
    codes = sorted(twin.wait(timeout=300) for twin in twins)
    assert set(codes) <= {0, 75}
    assert bench.finish("run-1")["exitCode"] == 0
    bench.assert_complete()


def test_a_sleeper_that_was_overtaken_commits_nothing(postgres_database: Postgres, tmp_path: Path) -> None:
    seeded(postgres_database)
    bench = Bench(postgres_database, tmp_path, STREAMS["incremental append"])
    sleeper = bench.start("run-1")
    until = time.monotonic() + 60
    while not _committed(postgres_database) and sleeper.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    sleeper.send_signal(signal.SIGSTOP)
    try:
        assert bench.finish("run-1")["exitCode"] in (0, 75)
    finally:
        sleeper.send_signal(signal.SIGCONT)
    assert sleeper.wait(timeout=120) in (0, 75)
    assert bench.finish("run-1")["exitCode"] == 0
    bench.assert_complete()


def _committed(database: Postgres) -> bool:
    try:
        return bool(database.execute("SELECT count(*) FROM _millstream.ledger")[0][0])
    except psycopg2.errors.UndefinedTable:
        return False


@pytest.fixture
def small_disk(postgres_server: Postgres, tmp_path: Path) -> Iterator[Postgres]:
    """A database whose tables lie on a disk of 96 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m,mode=0777", "tmpfs", disk], check=True)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o001 == 0:
            folder.chmod(folder.stat().st_mode | 0o001)
    inner = disk / "tables"
    inner.mkdir(mode=0o700)
    subprocess.run(["chown", "nobody", inner], check=True)
    postgres_server.execute(f"CREATE TABLESPACE small LOCATION '{inner}'")
    try:
        postgres_server.execute("CREATE DATABASE small TABLESPACE small")
        yield replace(postgres_server, database="small")
    finally:
        postgres_server.execute("DROP DATABASE IF EXISTS small WITH (FORCE)")
        postgres_server.execute("DROP TABLESPACE small")
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_full_disk_loses_nothing_and_a_later_run_repairs_it(small_disk: Postgres, tmp_path: Path) -> None:
    seeded(small_disk)
    bench = Bench(small_disk, tmp_path, STREAMS["incremental append"])
    ballast = tmp_path / "disk" / "ballast"
    free = os.statvfs(tmp_path / "disk")
    ballast.write_bytes(b"\0" * (free.f_bavail * free.f_frsize - 4 * 2**20))
    report = bench.finish("run-1")
    assert (report["exitCode"], report["reason"]) == (75, "WarehouseFull"), report
    ballast.unlink()
    assert bench.finish("run-2")["exitCode"] == 0
    bench.assert_complete()
