"""Reads `_millstream` for people: runs, ledger, quarantine and checks of a pipeline, by any warehouse's own door.

A warehouse answers one value per query, so a result comes as one JSON text. Nothing here writes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.queries import TableQueries

Row = dict[str, Any]

_AS_JSON = {
    "postgres": "SELECT coalesce(json_agg(t), '[]')::text FROM ({sql}) t",
    "duckdb": "SELECT CAST(coalesce(to_json(list(t)), '[]') AS VARCHAR) FROM ({sql}) t",
}


def literal(text: str) -> str:
    """Return a text as an SQL literal. (`TableQueries.scalar` takes no arguments to bind.)"""
    return "'" + text.replace("'", "''") + "'"


@dataclass(frozen=True)
class Metadata:
    """What `_millstream` knows of one pipeline (`namespace/name`). Times are texts as the warehouse has them."""

    queries: TableQueries
    pipeline: str

    def exists(self) -> bool:
        """Return whether a run has ever reached this warehouse.

        ConfigurationError when the last was by an older version, whose tables lack what is read here.
        """
        if not self._has("runs"):
            return False
        if not self._has("accounting"):
            raise ConfigurationError(
                f"{self.pipeline}: the schema _millstream in its warehouse was made by an older version of millstream; "
                "run a pipeline into that warehouse once with this version, which brings it up to date"
            )
        return True

    def _has(self, table: str) -> bool:
        where = f"table_schema = '_millstream' AND table_name = {literal(table)}"
        return bool(self.queries.scalar(f"SELECT count(*) FROM information_schema.tables WHERE {where}"))

    def runs(self, limit: int) -> list[Row]:
        """Return the newest attempts, newest first; `report` is the RunReport as an object."""
        rows = self._rows(
            "SELECT run, attempt, started_at, finished_at, outcome, exit_code, report FROM _millstream.runs "
            f"WHERE {self._mine} ORDER BY finished_at DESC, attempt DESC LIMIT {limit:d}"
        )
        for row in rows:
            if isinstance(row["report"], str):
                row["report"] = json.loads(row["report"])
        return rows

    def streams(self) -> list[Row]:
        """Return the sums of the ledger per stream, over all runs, with the time of the last commit."""
        return self._rows(
            "SELECT stream, max(target) AS target, sum(read) AS read, sum(loaded) AS loaded, "
            "sum(quarantined) AS quarantined, sum(duplicate) AS duplicate, sum(filtered) AS filtered, "
            "sum(bytes) AS bytes, count(*) AS chunks, count(DISTINCT run) AS runs, max(committed_at) AS committed_at "
            f"FROM _millstream.ledger WHERE {self._mine} GROUP BY stream ORDER BY stream"
        )

    def ledger(self, limit: int, stream: str | None = None, run: str | None = None) -> list[Row]:
        """Return the newest chunks, newest first; `position` is what the source reads on from."""
        rows = self._rows(
            "SELECT stream, seq, run, committed_at, read, loaded, quarantined, duplicate, filtered, bytes, "
            f"content_hash, position FROM _millstream.ledger WHERE {self._which(stream, run=run)} "
            f"ORDER BY committed_at DESC, stream, seq DESC LIMIT {limit:d}"
        )
        for row in rows:
            if isinstance(row["position"], str):
                row["position"] = json.loads(row["position"])
        return rows

    def accounting(self, stream: str | None = None, run: str | None = None) -> list[Row]:
        """Return the sums per stream and run, oldest first; `gap` is 0 where they close."""
        return self._rows(
            "SELECT stream, run, chunks, read, loaded, quarantined, duplicate, filtered, bytes, gap, first_commit, "
            f"last_commit FROM _millstream.accounting WHERE {self._which(stream, run=run)} "
            "ORDER BY stream, first_commit, run"
        )

    def sequences(self, stream: str | None = None) -> list[Row]:
        """Return per stream how many chunks the ledger has and how many were committed; equal when none is missing."""
        return self._rows(
            "SELECT s.stream, s.seq AS committed, count(l.seq) AS chunks, s.seq - count(l.seq) AS missing "
            f"FROM (SELECT * FROM _millstream.state WHERE {self._which(stream)}) s "
            "LEFT JOIN _millstream.ledger l ON l.pipeline = s.pipeline AND l.stream = s.stream "
            "GROUP BY s.stream, s.seq ORDER BY s.stream"
        )

    def checks(self, run: str) -> list[Row]:
        """Return what the checks of a run found, those that did not pass first."""
        return self._rows(
            "SELECT target, name, severity, outcome, failed_rows, message FROM _millstream.checks "
            f"WHERE {self._mine} AND run = {literal(run)} "
            "ORDER BY CASE outcome WHEN 'passed' THEN 1 ELSE 0 END, failed_rows DESC, target, name"
        )

    def quarantine_counts(self, stream: str | None = None, rule: str | None = None) -> list[Row]:
        """Return how many rows are set aside per stream, rule and status."""
        return self._rows(
            "SELECT stream, target, rule, status, count(*) AS rows, min(created_at) AS first, max(created_at) AS last "
            f"FROM _millstream.quarantine WHERE {self._which(stream, rule)} "
            "GROUP BY stream, target, rule, status ORDER BY stream, rows DESC, rule"
        )

    def quarantined(self, limit: int, stream: str | None = None, rule: str | None = None) -> list[Row]:
        """Return rows that are set aside, newest first; `row` is the row as it was read."""
        rows = self._rows(
            f'SELECT id, stream, target, run, rule, message, status, created_at, "row" FROM _millstream.quarantine '
            f"WHERE {self._which(stream, rule)} ORDER BY id DESC LIMIT {limit:d}"
        )
        for row in rows:
            if isinstance(row["row"], str):
                row["row"] = json.loads(row["row"])
        return rows

    @property
    def _mine(self) -> str:
        return f"pipeline = {literal(self.pipeline)}"

    def _which(self, stream: str | None = None, rule: str | None = None, run: str | None = None) -> str:
        wanted = {"stream": stream, "rule": rule, "run": run}
        return " AND ".join(
            [self._mine, *(f"{name} = {literal(value)}" for name, value in wanted.items() if value is not None)]
        )

    def _rows(self, sql: str) -> list[Row]:
        text = self.queries.scalar(_AS_JSON[self.queries.dialect].format(sql=sql))
        return list(json.loads(str(text))) if text is not None else []
