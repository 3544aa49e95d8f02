"""Clients that write and read a table, quietly first, then while a policy works on it. Prints JSON.

Called with the server's configuration, a folder and the number of clients; with `work` before them it is the policy.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from contextlib import closing
from typing import Any

import psycopg2

from millstream_api import Endpoint, RunPlan
from millstream_api.retentionpolicy import RetentionPolicySpec
from millstream_pipelines.retention.run import RetentionRequest, retain

_DAYS, _ROWS_A_DAY = 10, 20_000
_QUIET_S = 8.0
_PAUSE_S = 0.2
_STATEMENTS = (
    "INSERT INTO busy VALUES (now(), (random() * 1e15)::bigint, 'written')",
    "SELECT count(*), max(id) FROM busy WHERE at > now() - interval '1 second'",
)


class Client(threading.Thread):
    """One session. `spent_s`: phase → seconds of each statement."""

    def __init__(self, number: int, config: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self._statement, self._config = _STATEMENTS[number % 2], config
        self.phase = ""
        self.spent_s: dict[str, list[float]] = {}
        self.failure = ""

    def run(self) -> None:
        try:
            with closing(_connected(self._config)) as connection, connection.cursor() as cursor:
                while self.phase != "end":
                    phase, started = self.phase, time.monotonic()
                    cursor.execute(self._statement)
                    self.spent_s.setdefault(phase, []).append(time.monotonic() - started)
                    time.sleep(random.uniform(0, 2 * _PAUSE_S))
        except psycopg2.Error as error:
            self.failure = str(error)


def _connected(config: dict[str, Any]) -> Any:
    given = {"dbname" if name == "database" else name: value for name, value in config.items()}
    connection = psycopg2.connect(**given)
    connection.autocommit = True
    return connection


def work(config: dict[str, Any], folder: str) -> None:
    """Make partitions, detach, archive and drop, a day at a time."""
    endpoint = Endpoint(name="w", type="postgres", config=config)
    with closing(_connected(config)) as connection, connection.cursor() as cursor:
        for day in range(_DAYS):
            by = {"column": "at", "interval": "1 day", "premake": 3 + day}
            spec = {
                "warehouseRef": {"name": "w"}, "tables": [{"name": "public.busy", "partitionBy": by}],
                "keep": {"age": f"{_DAYS - day} days"}, "archive": {"url": f"file://{folder}/busy"}, "grace": "1 hour",
            }  # fmt: skip
            policy = RetentionPolicySpec.model_validate(spec)
            plan = RunPlan(action="retain", namespace="bench", name="busy", policy=policy, warehouse=endpoint)
            report = retain(RetentionRequest(plan, {}, "bench"))
            if report.exit_code:
                raise SystemExit(report.message)
            cursor.execute("UPDATE _millstream.retired SET detached_at = detached_at - interval '2 hours'")
        cursor.execute(
            "SELECT count(*) FROM _millstream.retired WHERE table_name = 'public.busy' AND state = 'dropped'"
        )
        if (dropped := cursor.fetchone()[0]) < _DAYS - 1:
            raise SystemExit(f"only {dropped} partitions were archived and dropped")


def main(config: str, folder: str, clients: str) -> None:
    """Print p99 in milliseconds without and with the policy at work, how many statements there were, and failures."""
    given = json.loads(config)
    with closing(_connected(given)) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS busy")
        cursor.execute("DO $$ BEGIN DELETE FROM _millstream.retired WHERE table_name = 'public.busy'; "
                       "EXCEPTION WHEN undefined_table OR invalid_schema_name THEN NULL; END $$")  # fmt: skip
        cursor.execute("CREATE TABLE busy (at timestamptz NOT NULL, id bigint, note text) PARTITION BY RANGE (at)")
        cursor.execute("CREATE INDEX ON busy (at)")
        for day in range(-_DAYS - 1, 2):
            low, high = f"current_date + {day}", f"current_date + {day + 1}"
            cursor.execute(f"SELECT format('CREATE TABLE busy_%s PARTITION OF busy FOR VALUES FROM (%L) TO (%L)', "
                           f"{day + 100}, ({low})::timestamptz, ({high})::timestamptz)")  # fmt: skip
            cursor.execute(cursor.fetchone()[0])
            if day < 0:
                cursor.execute(f"INSERT INTO busy SELECT ({low})::timestamptz + g * interval '1 s', g, md5(g::text) "
                               f"FROM generate_series(1, {_ROWS_A_DAY}) g")  # fmt: skip
    running = [Client(number, given) for number in range(int(clients))]
    for client in running:
        client.phase = "begin"
        client.start()
    time.sleep(3)
    for phase in ("quiet", "busy"):
        for client in running:
            client.phase = phase
        if phase == "quiet":
            time.sleep(_QUIET_S)
        else:
            line = [sys.executable, "-m", "tests.benchmarks.latency_probe", "work", config, folder]
            subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
    for client in running:
        client.phase = "end"
    for client in running:
        client.join()
    found: dict[str, Any] = {"failures": sorted({client.failure for client in running if client.failure})}
    for phase in ("quiet", "busy"):
        spent = sorted(item for client in running for item in client.spent_s.get(phase, []))
        found[phase] = {"statements": len(spent), "p50": _share(spent, 0.5), "p99": _share(spent, 0.99),
                        "longest": _share(spent, 1.0)}  # fmt: skip
    print(json.dumps({"durationSeconds": found["busy"]["p99"] / 1000, **found}))


def _share(spent_s: list[float], share: float) -> float:
    return 1000 * spent_s[min(len(spent_s) - 1, int(len(spent_s) * share))]


if __name__ == "__main__":
    if sys.argv[1] == "work":
        work(json.loads(sys.argv[2]), sys.argv[3])
    else:
        main(*sys.argv[1:])
