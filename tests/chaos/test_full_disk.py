"""The warehouse's disk fills up in the middle of a load: the run says so, loses nothing, and a later one repairs it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from chaos import manifest
from chaos.attempts import Warm
from chaos.bench import Bench
from chaos.cases import Case
from servers.folders import server_folder
from servers.plugin import postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_server"]

ROWS = 100_000
DISK_BYTES, FREE_BYTES = 96 * 2**20, 4 * 2**20


@pytest.fixture
def disk() -> Iterator[Path]:
    """A small disk that the server's user may enter."""
    with server_folder("disk") as folder:
        options = f"size={DISK_BYTES},mode=0777"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def small(postgres_server: Postgres, disk: Path) -> Iterator[Postgres]:
    """A database whose tables lie on it."""
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


def test_a_full_disk_loses_nothing_and_a_later_run_repairs_it(small: Postgres, disk: Path, tmp_path: Path) -> None:
    case = Case(
        seed=0, warehouse="postgres", source="unruly", mode="incremental", disposition="append", rows=ROWS, groups=97,
        dirty=True, exact=False, filtered=False, held=False, transform="", special="", faults=(),
    )  # fmt: skip
    with Warm(tmp_path / "warm", batch_rows=10_000) as warm:
        bench = Bench(case, small, warm, tmp_path / "case", typical_s=1.0)
        ballast, free = disk / "ballast", os.statvfs(disk)
        ballast.write_bytes(b"\0" * (free.f_bavail * free.f_frsize - FREE_BYTES))
        attempt = bench.start()
        assert attempt.end() == 75, attempt.log()
        assert (attempt.report() or {})["reason"] == "WarehouseFull", attempt.log()
        ballast.unlink()
        bench.play()
        rows = small.execute(f"SELECT count(*) FROM {manifest.TARGET}")[0][0]
        assert 0.9 * ROWS < rows < ROWS
