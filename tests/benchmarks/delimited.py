"""A csv file → a typed table with checks. The limit is psql's `\\copy`, which checks nothing but the types."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.benchmarks import dataset
from tests.benchmarks.command import Run, run, write_manifests
from tests.benchmarks.line import Line


class Csv(Line):
    name = "csv"
    title = "csv → postgres, typed, 8 checks"
    goal = 1.1

    def prepare(self) -> None:
        self.server.sql(
            "CREATE SCHEMA IF NOT EXISTS raw",
            "DROP TABLE IF EXISTS raw.limit_csv",
            "CREATE TABLE raw.limit_csv (LIKE source)",
        )
        columns = [{"name": column, "type": kind} for column, kind in dataset.TYPES.items()]
        for table in ("source", "source_tenth"):
            self.server.sql(f"\\copy {table} TO '{self.bench.files / table}.csv' (FORMAT csv, HEADER)")
            suffix = table.removeprefix("source")
            streams = [{"name": "rows", "glob": f"{table}.csv", "format": "csv"}]
            write_manifests(
                self.bench.folder,
                f"csv{suffix}",
                {"type": "files", "config": {"url": str(self.bench.files), "streams": streams}},
                self.bench.warehouse,
                [{"name": "rows", "target": "raw.csv", "columns": columns, "checks": dataset.CHECKS}],
            )

    def limits(self) -> Mapping[str, Callable[[], float]]:
        def copied() -> float:
            self.server.sql("TRUNCATE raw.limit_csv")
            path = self.bench.files / "source.csv"
            return self.server.timed(f"\\copy raw.limit_csv FROM '{path}' (FORMAT csv, HEADER)")

        return {"psql \\copy": copied}

    def before(self) -> None:
        self.server.sql("DROP TABLE IF EXISTS raw.csv")

    def verify(self, found: Run) -> None:
        self.same(dataset.Content("source"), dataset.Content("raw.csv"))

    def tenth(self) -> Run | None:
        return run(self.bench.folder, "csv_tenth")
