"""The load of a backfill's intervals: each replaces or merges its stretch, and is entered where a retry looks."""

from __future__ import annotations

import json

import duckdb

from millstream_pipelines.batch import Position
from millstream_pipelines.errors import MillstreamError
from millstream_pipelines.warehouses._duckdb.connection import rows as asked
from millstream_pipelines.warehouses._duckdb.connection import run
from millstream_pipelines.warehouses._duckdb.load import DuckDBLoad
from millstream_pipelines.warehouses._duckdb.tables import SCHEMA
from millstream_pipelines.warehouses.base import Counts, LoadSpec
from millstream_pipelines.warehouses.names import quote_table
from millstream_pipelines.warehouses.stretches import within


class DuckDBBackfill(DuckDBLoad):
    """See `BackfillLoad`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, path: str, spec: LoadSpec, owner: str) -> None:
        self._interval: tuple[str, str] | None = None
        self._deleted = 0
        super().__init__(connection, path, spec, owner)
        self.forward_position: Position | None = self._forward_position()

    def _forward_position(self) -> Position | None:
        with self._translating("reading the forward load's position"):
            found = asked(
                self._connection,
                "SELECT position::VARCHAR FROM _millstream.state WHERE pipeline = $1 AND stream = $2",
                [self._spec.pipeline, self._spec.stream],
            )
        return json.loads(found[0][0]) if found and found[0][0] is not None else None

    def done(self) -> dict[tuple[str, str], Counts]:
        """See `BackfillLoad.done`."""
        spec = self._spec
        with self._translating("reading the intervals"):
            found = asked(
                self._connection,
                "SELECT range_start, range_end, read, loaded, quarantined, duplicate, filtered "
                'FROM _millstream.intervals WHERE pipeline = $1 AND stream = $2 AND run = $3 AND "window" = $4',
                [spec.pipeline, spec.stream, spec.run, spec.window],
            )
        return {(row[0], row[1]): Counts(*(int(value) for value in row[2:])) for row in found}

    def others(self) -> str | None:
        """See `BackfillLoad.others`."""
        spec = self._spec
        with self._translating("looking who loads the target"):
            found = asked(
                self._connection,
                "SELECT pipeline, stream FROM _millstream.ledger WHERE target IN ($1, $2, $3) AND loaded > 0 "
                "AND NOT (pipeline = $4 AND stream IN ($5, $6)) LIMIT 1",
                [spec.target, f"{SCHEMA}.{spec.target}", spec.target.removeprefix(f"{SCHEMA}."),
                 spec.pipeline, spec.stream, spec.state],
            )  # fmt: skip
        return f"stream '{found[0][1]}' of pipeline '{found[0][0]}'" if found else None

    def interval(self, start: str, end: str) -> None:
        """See `BackfillLoad.interval`."""
        self._interval = (start, end)

    def _begin(self) -> None:
        super()._begin()
        self._deleted = 0
        if self._spec.disposition == "append":
            column = self._plan.sent.get(self._spec.cursor_field or "") if self._plan else None
            if column is None or self._interval is None:
                raise MillstreamError("shape() and interval() come before write()")
            condition = within(column, *self._interval)
            table = quote_table(self._spec.target, SCHEMA)
            self._deleted = run(self._connection, f"DELETE FROM {table} WHERE {condition}")

    def _enter(self, counts: Counts, position: str | None) -> None:
        super()._enter(counts, position)
        if self._interval is None:
            raise MillstreamError("interval() comes before commit()")
        spec = self._spec
        self._connection.execute(
            'INSERT INTO _millstream.intervals (pipeline, stream, run, "window", range_start, range_end, seq, read, '
            "loaded, quarantined, duplicate, filtered, deleted) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [spec.pipeline, spec.stream, spec.run, spec.window, *self._interval, self._lease.seq + 1, counts.read,
             counts.loaded, counts.quarantined, counts.duplicate, counts.filtered, self._deleted],
        )  # fmt: skip
