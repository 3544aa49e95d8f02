"""What clients wait while a policy works on their table: turned, split, partitions made, detached, archived, dropped.

Called with the server's configuration, pgbench, a folder and the number of clients. Quiet stretches lie between the
pieces of work, so what the machine does besides slows both. Prints JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
from tests.benchmarks.clients import clients, span

from millstream_api import Endpoint, RunPlan
from millstream_api.retentionpolicy import RetentionPolicySpec
from millstream_pipelines.retention.request import RetentionRequest
from millstream_pipelines.retention.run import retain

_DAYS, _ROWS_A_DAY = 10, 20_000
_QUIET_S, _WARM_S = 2.0, 3.0
_RATE = 2  # statements a second of one client


class Work:
    """A policy's runs over the table `busy`, piece by piece."""

    def __init__(self, config: dict[str, Any], folder: str) -> None:
        self._endpoint = Endpoint(name="w", type="postgres", config=config)
        given = {"dbname" if name == "database" else name: value for name, value in config.items()}
        self._connection = psycopg2.connect(**given)
        self._connection.autocommit = True
        self._folder = folder

    def close(self) -> None:
        self._connection.close()

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def prepare(self) -> None:
        """Make a plain table with some days of rows."""
        self.ask("DROP TABLE IF EXISTS busy, busy_before")
        for table in ("retired", "conversions", "partitioned"):
            if self.ask(f"SELECT to_regclass('_millstream.{table}')")[0][0] is not None:
                self.ask(f"DELETE FROM _millstream.{table} WHERE table_name = 'public.busy'")
        self.ask("CREATE TABLE busy (at timestamptz, id bigint, note text, PRIMARY KEY (at, id))")
        self.ask(
            "INSERT INTO busy SELECT (current_date - d)::timestamptz + g * interval '1 s', g, md5(g::text) "
            f"FROM generate_series(1, {_DAYS}) d, generate_series(1, {_ROWS_A_DAY}) g"
        )
        self.ask("VACUUM ANALYZE busy")

    def pieces(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Yield a name and the policies whose runs are this piece of work."""
        yield "turned", [self._policy(_DAYS + 2, 3)]
        yield "split", [self._policy(_DAYS + 2, 3)]
        yield "premade", [self._policy(_DAYS + 2, 8)]
        yield "detached and archived", [self._policy(days, 8) for days in range(_DAYS - 1, 0, -1)]
        yield "dropped", [self._policy(1, 8)]

    def run(self, policy: dict[str, Any]) -> str:
        """Carry out a policy; what it cannot do ends the benchmark."""
        spec = RetentionPolicySpec.model_validate(policy)
        plan = RunPlan(action="retain", namespace="bench", name="busy", policy=spec, warehouse=self._endpoint)
        report = retain(RetentionRequest(plan, {}, "bench"))
        if report.exit_code:
            raise SystemExit(report.message)
        return report.message

    def passed(self) -> None:
        """Let the grace of what has been detached be over."""
        self.ask("UPDATE _millstream.retired SET detached_at = detached_at - interval '2 hours'")

    def proven(self) -> None:
        """See to it that all of it was done."""
        dropped = self.ask(
            "SELECT count(*) FROM _millstream.retired WHERE table_name = 'public.busy' AND state = 'dropped'"
        )[0][0]
        states = self.ask("SELECT state FROM _millstream.conversions WHERE table_name = 'public.busy'")
        if dropped < _DAYS - 1 or states not in ([("switched",)], [("ended",)]):
            raise SystemExit(f"only {dropped} partitions were archived and dropped, conversion {states}")

    def _policy(self, days: int, premake: int) -> dict[str, Any]:
        by = {"column": "at", "interval": "1 day", "premake": premake, "convert": True}
        return {
            "warehouseRef": {"name": "w"}, "tables": [{"name": "public.busy", "partitionBy": by}],
            "keep": {"age": f"{days} days"}, "archive": {"url": f"file://{self._folder}/busy"}, "grace": "1 hour",
        }  # fmt: skip


def main(config: str, program: str, folder: str, count: str) -> None:
    """Print p50, p99 and the longest in milliseconds, quiet, busy and of each piece, and what failed."""
    given = json.loads(config)
    with closing(Work(given, folder)) as work:
        work.prepare()
        quiet: list[tuple[float, float]] = []
        spans: dict[str, list[tuple[float, float]]] = {}
        with clients(Path(program), given, Path(folder), int(count), _RATE * int(count), _DAYS, _ROWS_A_DAY) as met:
            time.sleep(_WARM_S)
            for name, policies in work.pieces():
                with span(quiet):
                    time.sleep(_QUIET_S)
                with span(spans.setdefault(name, [])):
                    for policy in policies:
                        work.run(policy)
                work.passed()
            with span(quiet):
                time.sleep(_QUIET_S)
        work.proven()
    busy = [item for found in spans.values() for item in found]
    pieces = {name: _figures(met.within(found)) for name, found in spans.items()}
    found = {"failure": met.failure, "quiet": _figures(met.within(quiet)), "busy": _figures(met.within(busy))}
    print(json.dumps({"durationSeconds": found["busy"]["p99"] / 1000, **found, "pieces": pieces}))


def _figures(spent_ms: list[float]) -> dict[str, float]:
    if not spent_ms:
        raise SystemExit("no statement ended in a stretch that was measured")
    shares = {"p50": 0.5, "p99": 0.99, "longest": 1.0}
    figures = {name: spent_ms[min(len(spent_ms) - 1, int(len(spent_ms) * share))] for name, share in shares.items()}
    return {"statements": len(spent_ms), **{name: round(value, 1) for name, value in figures.items()}}


if __name__ == "__main__":
    main(*sys.argv[1:])
