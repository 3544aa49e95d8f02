"""PostgreSQL → Parquet files, every type kept. The limit is ADBC and pyarrow by hand, which loses uuid and numeric."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import duckdb
from tests.benchmarks import dataset
from tests.benchmarks.command import Run, run, write_manifests
from tests.benchmarks.line import Line
from tests.measuring import measured

from millstream_pipelines.warehouses.parquet import ParquetWarehouse


class Parquet(Line):
    name = "parquet"
    title = "postgres → parquet files, types kept, no checks"
    goal = 1.1
    note = "the limit writes uuid as bytes and numeric as text, ours as what they are"

    @property
    def _lake(self) -> Path:
        return self.bench.folder / "lake"

    def prepare(self) -> None:
        source = {"type": "postgres", "config": self.server.config}
        warehouse = {"type": "parquet", "config": {"url": str(self._lake)}}
        for suffix in ("", "_tenth"):
            stream = {"name": f"public.source{suffix}", "target": "raw.rows", "writeDisposition": "replace"}
            write_manifests(self.bench.folder, f"parquet{suffix}", source, warehouse, [stream])

    def limits(self) -> Mapping[str, Callable[[], float]]:
        def by_hand() -> float:
            script = str(Path(__file__).with_name("limit_parquet.py"))
            out = str(self.bench.folder / "limit.parquet")
            done = measured([sys.executable, script, self.server.dsn, "source", out], self.bench.folder)
            if done.code:
                raise SystemExit(f"the limit of parquet ended with {done.code}: {done.err[-2000:]}")
            return done.wall_s

        return {"adbc + pyarrow": by_hand}

    def before(self) -> None:
        shutil.rmtree(self._lake, ignore_errors=True)

    def verify(self, found: Run) -> None:
        files = ParquetWarehouse(ParquetWarehouse.Config(url=str(self._lake)), "bench").files("raw.rows")
        path = self.bench.folder / "back.csv"
        with duckdb.connect() as connection:  # a reader that is not ours
            connection.execute("SET TimeZone = 'UTC'")
            connection.read_parquet(files).write_csv(str(path))
        self.server.sql(
            "CREATE SCHEMA IF NOT EXISTS raw",
            "DROP TABLE IF EXISTS raw.from_parquet",
            "CREATE TABLE raw.from_parquet (LIKE source)",
            f"\\copy raw.from_parquet FROM '{path}' (FORMAT csv, HEADER)",
        )
        path.unlink()
        self.same(dataset.Content("source"), dataset.Content("raw.from_parquet"))

    def tenth(self) -> Run | None:
        return run(self.bench.folder, "parquet_tenth")
