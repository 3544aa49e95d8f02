"""A policy's work: an archive that is proven, its way back, and a plan over a thousand partitions."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping

from tests.benchmarks import dataset
from tests.benchmarks.command import Run
from tests.benchmarks.line import Line, Ours
from tests.measuring import measured

_RSS_MIB = 512
_PARTITIONS = 1000
_CLIENTS = 200


class Retention(Line):
    """What is done in a process of its own."""

    goal_rss_mib = _RSS_MIB

    def clear(self) -> None:
        """Drop what was made."""
        self.server.sql("DROP SCHEMA IF EXISTS back CASCADE", "DROP TABLE IF EXISTS limit_restore")
        shutil.rmtree(self.bench.folder / "retention", ignore_errors=True)
        super().clear()

    def probe(self, what: str, table: str) -> Run:
        """Do a piece of work; a failure ends the line."""
        folder = self.bench.folder / "retention"
        folder.mkdir(exist_ok=True)
        line = [sys.executable, "-m", "tests.benchmarks.retention_probe", what, json.dumps(self.server.config)]
        done = measured([*line, str(folder), table], self.bench.root)
        if done.code:
            raise SystemExit(f"{self.name}: {what} ended with {done.code}: {done.err[-2000:]}")
        return Run(done, json.loads(done.out))


class ArchiveLine(Retention):
    name = "archive"
    title = "partition → Parquet, hashed by PostgreSQL, read back and hashed by DuckDB"
    goal = 1 / 0.6
    note = "limit and wall without the start of the process"

    def limits(self) -> Mapping[str, Callable[[], float]]:
        def plain() -> float:
            path = self.bench.folder / "source.bin"
            copy_s = self.server.timed(f"\\copy source TO '{path}' (FORMAT binary)")
            self.bench.say(f"{self.name}: COPY TO of the same rows, unsorted: {copy_s:.2f} s")
            return self.probe("pyarrow", "source").run_s

        return {"pyarrow over ADBC, zstd, sorted, nothing verified": plain}

    def before(self) -> None:
        shutil.rmtree(self.bench.folder / "retention" / "archive", ignore_errors=True)

    def ours(self) -> Ours:
        done = self.probe("archive", "source")
        size_mb = done.report["made"] / 1e6
        self.bench.say(f"{self.name}: {size_mb:.0f} MB of Parquet, {size_mb / done.run_s:.1f} MB/s")
        return Ours(done.run_s, done)

    def verify(self, found: Run) -> None:
        if not found.report["made"]:
            raise SystemExit(f"{self.name}: the archive is empty")

    def tenth(self) -> Run | None:
        return self.probe("archive", "source_tenth")


class RestoreLine(Retention):
    name = "restore"
    title = "archive → table, compared by PostgreSQL with its manifest"
    goal = 1 / 0.7
    note = "limit and wall without the start of the process"

    def prepare(self) -> None:
        self.path = self.bench.folder / "source.bin"
        self.server.sql(
            f"\\copy source TO '{self.path}' (FORMAT binary)",
            "DROP TABLE IF EXISTS limit_restore",
            "CREATE TABLE limit_restore (LIKE source)",
        )
        for table in ("source", "source_tenth"):
            self.probe("archive", table)

    def limits(self) -> Mapping[str, Callable[[], float]]:
        def copy() -> float:
            self.server.sql("TRUNCATE limit_restore")
            return self.server.timed(f"\\copy limit_restore FROM '{self.path}' (FORMAT binary)")

        return {"psql \\copy, binary, from a file": copy}

    def before(self) -> None:
        self.server.sql("DROP SCHEMA IF EXISTS back CASCADE")

    def ours(self) -> Ours:
        done = self.probe("restore", "source")
        return Ours(done.run_s, done)

    def verify(self, found: Run) -> None:
        self.same(dataset.Content("source"), dataset.Content("back.source"))

    def tenth(self) -> Run | None:
        return self.probe("restore", "source_tenth")


class PlanLine(Retention):
    name = "plan"
    title = f"{_PARTITIONS:,} partitions looked at and planned"

    @property
    def goal_s(self) -> float | None:
        return 1.0

    @property
    def rows(self) -> int:
        return _PARTITIONS

    def prepare(self) -> None:
        self.server.sql(
            "DROP TABLE IF EXISTS many",
            "CREATE TABLE many (at timestamptz NOT NULL, id bigint) PARTITION BY RANGE (at)",
            f"""DO $$ BEGIN FOR n IN 0..{_PARTITIONS - 1} LOOP
            EXECUTE format('CREATE TABLE many_%s PARTITION OF many FOR VALUES FROM (%L) TO (%L)', n,
              timestamptz '2020-01-01Z' + n * interval '1 day', timestamptz '2020-01-02Z' + n * interval '1 day');
            END LOOP; END $$""",
        )
        self.probe("plan", "public.many")  # makes `_millstream`

    def limits(self) -> Mapping[str, Callable[[], float]]:
        sizes = (
            "SELECT count(*), sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'many'::regclass"
        )
        return {"their sizes, asked by psql": lambda: self.server.timed(sizes)}

    def ours(self) -> Ours:
        done = self.probe("plan", "public.many")
        return Ours(done.run_s, done)

    def verify(self, found: Run) -> None:
        if found.report["made"] != _PARTITIONS:
            raise SystemExit(f"{self.name}: {found.report['made']} of {_PARTITIONS} partitions are planned")

    def tenth(self) -> Run | None:
        return None


class LatencyLine(Retention):
    name = "retention-latency"
    title = f"p99 of {_CLIENTS} clients while their table is turned, split, cut by days that leave"
    goal = 3.0
    note = "limit s and wall s are milliseconds, p99 of the same clients; no statement may fail"

    def prepare(self) -> None:
        self._found: list[Run] = []

    def limits(self) -> Mapping[str, Callable[[], float]]:
        def quiet() -> float:
            folder = self.bench.folder / "retention"
            folder.mkdir(exist_ok=True)
            program = self.server.program.with_name("pgbench")
            line = [sys.executable, "-m", "tests.benchmarks.latency_probe", json.dumps(self.server.config)]
            done = measured([*line, str(program), str(folder), str(_CLIENTS)], self.bench.root)
            if done.code:
                raise SystemExit(f"{self.name}: the probe ended with {done.code}: {done.err[-2000:]}")
            found = Run(done, json.loads(done.out))
            if found.report["failure"]:
                raise SystemExit(f"{self.name}: statements failed: {found.report['failure']}")
            self._found.append(found)
            for what in ("quiet", "busy"):
                self.bench.say(f"{self.name}: {what} {found.report[what]}")
            for what, figures in found.report["pieces"].items():
                self.bench.say(f"{self.name}: {what}: {figures}")
            return float(found.report["quiet"]["p99"])

        return {"the same clients between the pieces of work": quiet}

    def ours(self) -> Ours:
        return Ours(float(self._found[-1].report["busy"]["p99"]), self._found[-1])

    def verify(self, found: Run) -> None:
        """Nothing: a statement that failed has ended the line."""

    def tenth(self) -> Run | None:
        return None
