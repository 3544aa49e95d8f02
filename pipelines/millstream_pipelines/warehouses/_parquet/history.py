"""`_millstream` as tables of a DuckDB: state, ledger, quarantine and runs, read from the logs of all tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Any

import duckdb
import pyarrow as pa

from millstream_api import RunReport
from millstream_pipelines.warehouses._duckdb import metadata
from millstream_pipelines.warehouses._duckdb.connection import translating
from millstream_pipelines.warehouses._parquet.commits import Commit, StreamState, number_name, path_name
from millstream_pipelines.warehouses._parquet.log import TableLog, tables
from millstream_pipelines.warehouses._parquet.store import Store

RUNS = "_millstream/runs"
_COUNTS = ("read", "loaded", "quarantined", "duplicate", "filtered")
_ROWS = 1000  # inserted at once

Row = dict[str, Any]


def fill(connection: duckdb.DuckDBPyConnection, store: Store, owner: str) -> None:
    """Make the tables anew. A stream that had another target before is shown there as `stream@schema.table`."""
    with translating(owner, "reading the logs"):
        connection.execute("DROP SCHEMA IF EXISTS _millstream CASCADE")
    metadata.migrate(connection, owner)
    logs = {f"{schema}.{table}": TableLog(store, schema, table, owner) for schema, table in tables(store)}
    newest: dict[tuple[str, str], tuple[datetime, str]] = {}
    for table, log in logs.items():
        for state in log.read().streams.values():
            at = (state.renewed_at, table)
            newest[state.pipeline, state.stream] = max(at, newest.get((state.pipeline, state.stream), at))

    def shown(table: str, state: StreamState) -> str:
        return state.stream if newest[state.pipeline, state.stream][1] == table else f"{state.stream}@{table}"

    with translating(owner, "reading the logs"):
        for table, log in logs.items():
            _fill_table(connection, store, log, partial(shown, table))
        _insert(connection, "runs", _runs(store))
        _insert(connection, "checks", _checks(store))


def record(store: Store, pipeline: str, run: str, report: RunReport, finished_at: str) -> None:
    """Keep a report as the run's next attempt."""
    folder = f"{RUNS}/{path_name(pipeline)}/{path_name(run)}"
    attempt = len(store.keys(folder)) + 1
    while True:
        document = {
            "pipeline": pipeline, "run": run, "attempt": attempt, "finished_at": finished_at,
            "report": report.model_dump(mode="json", by_alias=True, exclude_none=True),
            "checks": [check.model_dump(mode="json") for check in report.checks],
        }  # fmt: skip
        if store.create(f"{folder}/{number_name(attempt)}", json.dumps(document).encode()):
            return
        attempt += 1


def _fill_table(
    connection: duckdb.DuckDBPyConnection, store: Store, log: TableLog, shown: Callable[[StreamState], str]
) -> None:
    ledger: list[Row] = []
    for commit in log.commits():
        if commit.number > log.state.number:
            break  # later than what the states say
        if commit.ledger is not None:
            ledger.append(_ledger_row(commit, shown(commit.state)))
        for item in commit.quarantine:
            _insert(connection, "quarantine", _set_aside(store, f"{log.folder}/{item.key}"))
    _insert(connection, "ledger", iter(ledger))
    _insert(connection, "state", (_state_row(state, shown(state)) for state in log.state.streams.values()))


def _state_row(state: StreamState, stream: str) -> Row:
    return {
        "pipeline": state.pipeline, "stream": stream, "epoch": state.epoch, "holder": state.holder,
        "run": state.run, "refresh_run": state.refresh_run, "renewed_at": state.renewed_at.isoformat(),
        "seq": state.seq, "position": _json(state.position),
    }  # fmt: skip


def _ledger_row(commit: Commit, stream: str) -> Row:
    state, found = commit.state, commit.ledger
    assert found is not None, "asked before"  # noqa: S101
    return {
        "pipeline": state.pipeline, "stream": stream, "seq": found.seq, "run": state.run, "epoch": state.epoch,
        "committed_at": commit.at.isoformat(), "target": found.target,
        **{name: found.counts.get(name, 0) for name in _COUNTS}, "bytes": found.counts.get("bytes_read", 0),
        "content_hash": found.content_hash, "position": _json(found.position), "origin": found.origin,
    }  # fmt: skip


def _set_aside(store: Store, key: str) -> Iterator[Row]:
    with store.incoming(key) as opened:
        left = b""
        while piece := opened.read(1 << 20):
            *lines, left = (left + piece).split(b"\n")
            for line in lines:
                row = json.loads(line)
                yield {**row, "row": json.dumps(row["row"], ensure_ascii=False), "masked": json.dumps(row["masked"])}


def _documents(store: Store) -> Iterator[Row]:
    yield from (json.loads(content) for key in store.keys(RUNS) if (content := store.get(key)) is not None)


def _runs(store: Store) -> Iterator[Row]:
    for item in _documents(store):
        report = item["report"]
        yield {
            "run": item["run"], "attempt": item["attempt"], "pipeline": item["pipeline"],
            "started_at": item["finished_at"], "finished_at": item["finished_at"], "outcome": report["reason"],
            "exit_code": report["exitCode"], "report": json.dumps(report),
        }  # fmt: skip


def _checks(store: Store) -> Iterator[Row]:
    last = {(item["pipeline"], item["run"]): item for item in _documents(store)}
    for item in last.values():
        for check in item["checks"]:
            names = ("target", "name", "severity", "outcome", "failed_rows", "message")
            kept = {name: check[name] for name in names}
            yield {"run": item["run"], "pipeline": item["pipeline"], "checked_at": item["finished_at"], **kept}


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


def _insert(connection: duckdb.DuckDBPyConnection, table: str, found: Iterator[Row]) -> None:
    rows: list[Row] = []
    for row in found:
        rows.append(row)
        if len(rows) == _ROWS:
            _insert_some(connection, table, rows)
            rows = []
    if rows:
        _insert_some(connection, table, rows)


def _insert_some(connection: duckdb.DuckDBPyConnection, table: str, rows: list[Row]) -> None:
    connection.register("millstream_rows", pa.Table.from_pylist(rows))
    connection.execute(f"INSERT INTO _millstream.{table} BY NAME FROM millstream_rows")
    connection.unregister("millstream_rows")
