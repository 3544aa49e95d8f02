"""`make bench`: each path as a ratio to the limit measured in the same run, in interleaved rounds.

The limits are psql's: `\\copy` for a file, a binary COPY through a pipe between tables. A ratio of 1.0 means as fast as
that; what the machine does besides slows both. `wall` is the command as a user calls it, start-up included; `run` is
what the run itself reports.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from millstream_pipelines import embedded

DATABASE = "bench"
SOURCE = """
CREATE TABLE source AS SELECT n::bigint AS id, md5(n::text)::uuid AS token, 'name ' || n % 5000 AS name,
  (n % 7 = 0) AS flag, n * 0.5::double precision AS ratio, (n % 100000 / 100.0)::numeric(12,2) AS amount,
  timestamptz '2026-01-01' + n * interval '1 second' AS at, date '2026-01-01' + n % 365 AS day,
  CASE WHEN n % 5 > 0 THEN n % 1000 END AS sparse, repeat('x', n % 50) AS padding,
  jsonb_build_object('n', n) AS document, n % 32000 AS small
FROM generate_series(1, {rows}) n
"""
TYPES = {"token": "uuid", "amount": "numeric(12,2)", "at": "timestamptz", "day": "date", "document": "jsonb"}


@dataclass
class Timed:
    """Seconds per round, and the largest memory of the process, in MiB."""

    wall: list[float] = field(default_factory=list)
    inside: list[float] = field(default_factory=list)
    rss_mib: float = 0


@dataclass(frozen=True)
class Bench:
    """A server, a folder, and psql."""

    server: embedded.Server
    folder: Path
    rows: int

    def psql(self, *statements: str) -> list[str]:
        """Return psql's command line."""
        program = embedded.programs(self.folder / "postgres" / "data") / "psql"
        where = ["-h", self.server.host, "-U", self.server.user, "-d", DATABASE]
        return [str(program), "-qX", "-v", "ON_ERROR_STOP=1", *where, *(x for s in statements for x in ("-c", s))]

    def sql(self, *statements: str) -> None:
        """Run statements."""
        subprocess.run(self.psql(*statements), check=True, stdout=subprocess.DEVNULL)

    def prepare(self) -> None:
        """Make the source table and the file, and load each once, so that caches are warm."""
        embedded.ensure_database(self.server, DATABASE)
        self.sql(SOURCE.format(rows=self.rows))
        self.sql(f"\\copy source TO '{self.folder / 'source.csv'}' (FORMAT csv, HEADER)")
        for name in ("csv", "pg"):
            self.write(name)
            self.millstream(name, Timed())
            self.sql(f"CREATE TABLE limit_{name} (LIKE raw.{name})", "CHECKPOINT")

    def write(self, name: str) -> None:
        """Write the manifests of one path."""
        config: dict[str, Any] = {"embedded": True, "database": DATABASE}
        source: dict[str, Any] = {"type": "postgres", "config": config}
        columns: list[dict[str, str]] = []
        if name == "csv":
            streams = [{"name": "source", "glob": "source.csv", "format": "csv"}]
            source = {"type": "files", "config": {"url": str(self.folder), "streams": streams}}
            columns = [{"name": column, "type": kind} for column, kind in TYPES.items()]
        stream = {"name": "source" if name == "csv" else "public.source", "target": f"raw.{name}", "columns": columns}
        objects = {
            "DataSource": source,
            "Warehouse": {"type": "postgres", "config": config},
            "Pipeline": {"sourceRef": {"name": name}, "warehouseRef": {"name": name}, "streams": [stream]},
        }
        documents = [
            {"apiVersion": "millstream.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
            for kind, spec in objects.items()
        ]
        (self.folder / f"{name}.yaml").write_text("\n---\n".join(map(json.dumps, documents)))

    def millstream(self, name: str, timed: Timed) -> None:
        """Run one path into an empty table."""
        self.sql("SET client_min_messages = error", f"DROP TABLE IF EXISTS raw.{name}")
        line = [sys.executable, "-m", "millstream_pipelines.cli", "run", "-f", f"{name}.yaml", "--json"]
        started = time.monotonic()
        with (self.folder / "out.json").open("w") as out:
            process = subprocess.Popen(line, cwd=self.folder, stdout=out, stderr=subprocess.DEVNULL)
            _, code, usage = os.wait4(process.pid, 0)
        timed.wall.append(time.monotonic() - started)
        document = json.loads((self.folder / "out.json").read_text())
        report = document["runs"][0]["report"] if not code else sys.exit(f"millstream ended with {code}: {document}")
        if report["totals"]["loaded"] != self.rows:
            sys.exit(f"{name}: {report['totals']['loaded']} of {self.rows} rows loaded")
        timed.inside.append(report["durationSeconds"])
        timed.rss_mib = max(timed.rss_mib, usage.ru_maxrss / 1024)

    def limit(self, name: str, timed: Timed) -> None:
        """Do the same with psql alone, into an empty table of the same shape."""
        self.sql(f"TRUNCATE limit_{name}")
        started = time.monotonic()
        if name == "csv":
            self.sql(f"\\copy limit_csv FROM '{self.folder / 'source.csv'}' (FORMAT csv, HEADER)")
        else:
            out = self.psql("COPY source TO STDOUT (FORMAT binary)")
            reader = subprocess.Popen(out, stdout=subprocess.PIPE)
            subprocess.run(self.psql("COPY limit_pg FROM STDIN (FORMAT binary)"), stdin=reader.stdout, check=True)
            if reader.wait():
                sys.exit("the limit's reader failed")
        timed.wall.append(time.monotonic() - started)


def main() -> int:
    """Measure, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000, help="rows (default 500,000)")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default 3)")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as folder:
        os.environ["MILLSTREAM_HOME"] = folder
        with embedded.serving(Path(folder) / "postgres") as server:
            found = measured(Bench(server, Path(folder), options.rows), options.rounds)
    print(f"{options.rows:,} rows × 12 columns, median of {options.rounds} interleaved rounds")
    print(f"{'path':<26}{'limit s':>9}{'wall s':>9}{'ratio':>8}{'run s':>9}{'ratio':>8}{'krows/s':>9}{'RSS MiB':>9}")
    for item in found:
        print(
            f"{item['path']:<26}{item['limit_s']:>9.2f}{item['wall_s']:>9.2f}{item['wall_ratio']:>8.2f}"
            f"{item['run_s']:>9.2f}{item['run_ratio']:>8.2f}{item['krows_per_s']:>9.0f}{item['rss_mib']:>9.0f}"
        )
    if options.json:
        options.json.write_text(json.dumps({"rows": options.rows, "paths": found}, indent=2))
    return 0


def measured(bench: Bench, rounds: int) -> list[dict[str, Any]]:
    """Return the figures of both paths."""
    bench.prepare()
    ours = {name: Timed() for name in ("csv", "pg")}
    limits = {name: Timed() for name in ours}
    for _ in range(rounds):
        for name in ours:
            bench.limit(name, limits[name])
            bench.millstream(name, ours[name])
    titles = {"csv": "csv → postgres", "pg": "postgres → postgres"}
    return [_figures(titles[name], ours[name], limits[name], bench.rows) for name in ours]


def _figures(title: str, ours: Timed, limit: Timed, rows: int) -> dict[str, Any]:
    limit_s, wall_s, run_s = (statistics.median(values) for values in (limit.wall, ours.wall, ours.inside))
    return {
        "path": title,
        "limit_s": limit_s,
        "wall_s": wall_s,
        "wall_ratio": wall_s / limit_s,
        "run_s": run_s,
        "run_ratio": run_s / limit_s,
        "krows_per_s": rows / run_s / 1000,
        "rss_mib": ours.rss_mib,
    }


if __name__ == "__main__":
    sys.exit(main())
