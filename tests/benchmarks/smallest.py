"""The smallest job: ten rows, from the start of the process to its end. What is measured is the start-up."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.benchmarks import dataset
from tests.benchmarks.command import Run, run, write_manifests
from tests.benchmarks.line import Line

_ROWS = 10


class SmallestCopy(Line):
    name = "smallest-copy"
    title = "10 rows, postgres → postgres, process start to exit"
    goal_rss_mib = 60

    @property
    def goal_s(self) -> float | None:
        return 0.5

    @property
    def rows(self) -> int:
        return _ROWS

    def prepare(self) -> None:
        table = f"raw.limit_{self.name.replace('-', '_')}"
        self.server.sql(
            "CREATE SCHEMA IF NOT EXISTS raw",
            f"DROP TABLE IF EXISTS ten, {table}",
            dataset.source("ten", _ROWS),
            f"CREATE TABLE {table} (LIKE ten)",
            f"\\copy ten TO '{self.bench.files / 'ten.csv'}' (FORMAT csv, HEADER)",
        )
        self.limit_table = table
        self.write()
        self.before()
        run(self.bench.folder, self.name)  # once, so that every module is compiled

    def write(self) -> None:
        """Write the manifests."""
        source = {"type": "postgres", "config": self.server.config}
        streams = [{"name": "public.ten", "target": "raw.ten"}]
        write_manifests(self.bench.folder, self.name, source, self.bench.warehouse, streams)

    def limits(self) -> Mapping[str, Callable[[], float]]:
        copy = "COPY ten TO STDOUT (FORMAT binary)"
        return {"psql": lambda: self.server.piped(copy, f"COPY {self.limit_table} FROM STDIN (FORMAT binary)")}

    def before(self) -> None:
        self.server.sql("DROP TABLE IF EXISTS raw.ten")

    def verify(self, found: Run) -> None:
        self.same(dataset.Content("ten"), dataset.Content("raw.ten"))

    def tenth(self) -> Run | None:
        return None


class SmallestCsv(SmallestCopy):
    name = "smallest-csv"
    title = "10 rows, csv → postgres, process start to exit"
    goal_rss_mib = 170

    @property
    def goal_s(self) -> float | None:
        return 1.0

    def write(self) -> None:
        streams = [{"name": "rows", "glob": "ten.csv", "format": "csv"}]
        columns = [{"name": column, "type": kind} for column, kind in dataset.TYPES.items()]
        write_manifests(
            self.bench.folder,
            self.name,
            {"type": "files", "config": {"url": str(self.bench.files), "streams": streams}},
            self.bench.warehouse,
            [{"name": "rows", "target": "raw.ten", "columns": columns}],
        )

    def limits(self) -> Mapping[str, Callable[[], float]]:
        copy = f"\\copy {self.limit_table} FROM '{self.bench.files / 'ten.csv'}' (FORMAT csv, HEADER)"
        return {"psql": lambda: self.server.timed(copy)}
