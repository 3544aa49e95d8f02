"""The load of a backfill's intervals: each replaces or merges its stretch, and is entered where a retry looks."""

from __future__ import annotations

from collections.abc import Callable

from psycopg2.extensions import connection as Connection

from millstream_pipelines.batch import Position
from millstream_pipelines.errors import MillstreamError
from millstream_pipelines.warehouses._postgres.connection import one, run
from millstream_pipelines.warehouses._postgres.load import PostgresLoad
from millstream_pipelines.warehouses.base import Counts, LoadSpec
from millstream_pipelines.warehouses.names import quote_table
from millstream_pipelines.warehouses.stretches import within


class PostgresBackfill(PostgresLoad):
    """See `BackfillLoad`."""

    def __init__(self, connect: Callable[[], Connection], spec: LoadSpec, owner: str) -> None:
        self._interval: tuple[str, str] | None = None
        self._deleted = 0
        super().__init__(connect, spec, owner)
        self.forward_position: Position | None = self._forward_position()

    def _forward_position(self) -> Position | None:
        with self._translating("reading the forward load's position"):
            row = one(
                self._connection,
                "SELECT position FROM _millstream.state WHERE pipeline = %s AND stream = %s",
                (self._spec.pipeline, self._spec.stream),
            )
            self._connection.commit()
        return row[0] if row else None

    def done(self) -> dict[tuple[str, str], Counts]:
        """See `BackfillLoad.done`."""
        spec = self._spec
        with self._translating("reading the intervals"), self._connection.cursor() as cursor:
            cursor.execute(
                "SELECT range_start, range_end, read, loaded, quarantined, duplicate, filtered "
                'FROM _millstream.intervals WHERE pipeline = %s AND stream = %s AND run = %s AND "window" = %s',
                (spec.pipeline, spec.stream, spec.run, spec.window),
            )
            found = {(row[0], row[1]): Counts(*(int(value) for value in row[2:])) for row in cursor.fetchall()}
            self._connection.commit()
        return found

    def others(self) -> str | None:
        """See `BackfillLoad.others`."""
        spec = self._spec
        with self._translating("looking who loads the target"):
            row = one(
                self._connection,
                "SELECT pipeline, stream FROM _millstream.ledger WHERE target = ANY(%s) AND loaded > 0 "
                "AND NOT (pipeline = %s AND stream IN (%s, %s)) LIMIT 1",
                ([spec.target, f"public.{spec.target}", spec.target.removeprefix("public.")],
                 spec.pipeline, spec.stream, spec.state),
            )  # fmt: skip
            self._connection.commit()
        return f"stream '{row[1]}' of pipeline '{row[0]}'" if row else None

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
            self._deleted = run(self._connection, f"DELETE FROM {quote_table(self._spec.target)} WHERE {condition}")

    def _enter(self, counts: Counts, position: str | None) -> None:
        super()._enter(counts, position)
        if self._interval is None:
            raise MillstreamError("interval() comes before commit()")
        spec = self._spec
        run(
            self._connection,
            'INSERT INTO _millstream.intervals (pipeline, stream, run, "window", range_start, range_end, seq, read, '
            "loaded, quarantined, duplicate, filtered, deleted) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (spec.pipeline, spec.stream, spec.run, spec.window, *self._interval, self._lease.seq + 1, counts.read,
             counts.loaded, counts.quarantined, counts.duplicate, counts.filtered, self._deleted),
        )  # fmt: skip
