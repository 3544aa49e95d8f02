"""Reads `_millstream` for people: runs, ledger, quarantine and checks of a pipeline, by any warehouse's own door.

A warehouse answers one value per query, so a result comes as one JSON text. Nothing here writes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.queries import TableQueries
from millstream_pipelines.selection import RAW, Selection
from millstream_pipelines.warehouses.base import DONE
from millstream_pipelines.warehouses.names import literal

Row = dict[str, Any]

_AS_JSON = {
    "postgres": "SELECT coalesce(json_agg(t), '[]')::text FROM ({sql}) t",
    "duckdb": "SELECT CAST(coalesce(to_json(list(t)), '[]') AS VARCHAR) FROM ({sql}) t",
}


@dataclass(frozen=True)
class Metadata:
    """What `_millstream` knows of one pipeline (`namespace/name`). Times are texts as the warehouse has them."""

    queries: TableQueries
    pipeline: str

    def exists(self) -> bool:
        """Return whether a run has ever reached this warehouse.

        ConfigurationError when the last was by an older version, whose tables lack what is read here.
        """
        runs = "table_schema = '_millstream' AND table_name = 'runs'"
        if not self.queries.scalar(f"SELECT count(*) FROM information_schema.tables WHERE {runs}"):
            return False
        columns = "table_schema = '_millstream' AND table_name = 'quarantine' AND column_name = 'form'"
        if not self.queries.scalar(f"SELECT count(*) FROM information_schema.columns WHERE {columns}"):
            raise ConfigurationError(
                f"{self.pipeline}: the schema _millstream in its warehouse was made by an older version of millstream; "
                "run a pipeline into that warehouse once with this version, which brings it up to date"
            )
        return True

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
            "SELECT stream, run, origin, chunks, read, loaded, quarantined, duplicate, filtered, bytes, gap, "
            f"first_commit, last_commit FROM _millstream.accounting WHERE {self._which(stream, run=run)} "
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

    def quarantine_counts(self, chosen: Selection | None = None) -> list[Row]:
        """Return how many rows are set aside per stream, rule and status."""
        return self._rows(
            "SELECT stream, target, rule, status, count(*) AS rows, min(created_at) AS first, max(created_at) AS last "
            f"FROM _millstream.quarantine WHERE {self._chosen(chosen)} "
            "GROUP BY stream, target, rule, status ORDER BY stream, rows DESC, rule"
        )

    def quarantined(self, limit: int, chosen: Selection | None = None) -> list[Row]:
        """Return rows that are set aside, newest first; `row` is as `form` says: read, shaped or raw."""
        rows = self._rows(
            f'SELECT id, stream, target, run, rule, message, status, created_at, "row", form, attempts, closed_at, '
            f"closed_by, reason FROM _millstream.quarantine "
            f"WHERE {self._chosen(chosen)} ORDER BY id DESC LIMIT {limit:d}"
        )
        for row in rows:
            if isinstance(row["row"], str):
                row["row"] = json.loads(row["row"])
        return rows

    def unparsed(self, chosen: Selection) -> int:
        """Return how many open rows no replay can load, as their source could not parse them."""
        return self._count(f"{chosen.condition()} AND status = 'open' AND {RAW}")

    def left_by(self, replay: str, stream: str) -> dict[str, int]:
        """Return how many rows a replay has tried and left open, by rule."""
        rows = self._rows(
            f"SELECT rule, count(*) AS rows FROM _millstream.quarantine WHERE {self._which(stream)} "
            f"AND replay_run = {literal(replay)} AND status = 'open' GROUP BY rule ORDER BY rows DESC, rule"
        )
        return {row["rule"]: row["rows"] for row in rows}

    def loaded_by(self, stream: str) -> str | None:
        """Return the run whose rows the target of a stream in mode full has; None for other modes, or before a run."""
        sql = f"SELECT CAST(position AS text) FROM _millstream.state WHERE {self._which(stream)}"
        position = self.queries.scalar(sql)
        found = json.loads(str(position)) if position is not None else {}
        return found.get(DONE) if isinstance(found, dict) else None

    def backfilled(self, stream: str) -> list[Row]:
        """Return the intervals of a stream that backfills have loaded: run, start, end, and at_us as epoch."""
        return self._rows(
            'SELECT run, range_start AS start, range_end AS "end", '
            "CAST(extract(epoch FROM done_at) * 1000000 AS bigint) AS at_us "
            f"FROM _millstream.intervals WHERE {self._which(stream)}"
        )

    def _count(self, condition: str) -> int:
        return int(str(self.queries.scalar(f"SELECT count(*) FROM _millstream.quarantine WHERE {condition}")))

    def _chosen(self, chosen: Selection | None) -> str:
        return (chosen or Selection(self.pipeline)).condition()

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
