"""Partitions for rows that come for a range that has none, made by the load itself; rows of retired ranges set aside.

Only for tables that a RetentionPolicy owns (`_millstream.partitioned`); no other load pays more than one question.
Partitions are made over a session of its own, so that they are there for everybody at once, one load at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import psycopg2
from psycopg2.extensions import connection as Connection

from millstream_pipelines.batch import DELETED, ROW, Reject
from millstream_pipelines.errors import DataError, MillstreamError, RowRefusedError
from millstream_pipelines.warehouses._postgres import stage
from millstream_pipelines.warehouses._postgres.connection import one, run
from millstream_pipelines.warehouses._postgres.quarantine import into
from millstream_pipelines.warehouses.base import LoadSpec
from millstream_pipelines.warehouses.names import quote, quote_table

if TYPE_CHECKING:
    import pyarrow as pa

    from millstream_pipelines.retention.ddl import Ddl
    from millstream_pipelines.retention.spans import Grid, Value
    from millstream_pipelines.warehouses._postgres.cells import Away

RULE = "retired"
_MOST = 500  # partitions that one load may make; what needs more was most likely not meant
_SHARED = ("AccessShareLock", "RowShareLock", "RowExclusiveLock")  # beside these a partition can be attached
# A foreign key of the table comes onto a new partition, for which nobody may write to the table it refers to.
_KEPT_OUT = """
SELECT EXISTS (
  SELECT FROM pg_locks WHERE pid = pg_backend_pid() AND relation = to_regclass(%(table)s) AND mode <> ALL (%(shared)s)
) OR EXISTS (
  SELECT FROM pg_constraint k JOIN pg_locks l ON l.relation = k.confrelid AND l.pid = pg_backend_pid()
  WHERE k.contype = 'f' AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')
    AND k.conrelid IN (SELECT relid FROM pg_partition_tree(to_regclass(%(table)s))))
"""


class Room:
    """The partitions of one load's target. `ddl`: makes a session that alters tables, None: the load's own is used."""

    def __init__(self, connection: Connection, spec: LoadSpec, owner: str, ddl: Callable[[], Ddl] | None) -> None:
        self._connection, self._spec, self._owner, self._ddl = connection, spec, owner, ddl
        self._table = spec.target if "." in spec.target else f"public.{spec.target}"
        self._made = 0
        self.column = ""
        """The column that the table is cut by; empty for a table that no policy owns."""
        self.look()

    def look(self) -> None:
        """Read how the table is cut and what it has; again, when it may have changed."""
        found = one(
            self._connection,
            'SELECT p.column_name, p.kind, p."interval", p.time_zone FROM _millstream.partitioned p '
            "JOIN pg_partitioned_table t ON t.partrelid = to_regclass(%s) WHERE p.table_name = %s",
            (quote_table(self._table), self._table),
        )
        if found is None:
            self.column = ""
            return
        from millstream_pipelines.retention.spans import Grid, Span

        self.column, kind, interval, zone = found
        self._grid: Grid = Grid(kind, Span.of(interval), ZoneInfo(zone))
        with self._session() as ddl:
            self._read(ddl)

    def _read(self, ddl: Ddl) -> None:
        from millstream_pipelines.retention.facts import replace, table_facts
        from millstream_pipelines.retention.spans import parsed
        from millstream_pipelines.retention.whole_times import is_whole
        from millstream_pipelines.warehouses._postgres.cells import Away, merged

        kind = self._grid.kind
        facts = table_facts(ddl, self._table, kind if is_whole(kind) else None)
        self._facts = replace(facts, partitions=tuple(part for part in facts.partitions if not part.detaching))
        self._taken = merged((part.low, part.high) for part in self._facts.partitions)
        self._away: list[Away] = [
            Away(None if low is None else parsed(low, kind), None if high is None else parsed(high, kind), state)
            for low, high, state in ddl.rows(
                "SELECT low, high, state FROM _millstream.retired "
                "WHERE table_name = %s AND kind = %s AND state <> 'restored'",
                (self._table, kind),
            )
        ]

    @contextmanager
    def _session(self) -> Iterator[Ddl]:
        """Yield what alters the table: another session, unless the load's own transaction keeps it out."""
        from millstream_pipelines.warehouses._postgres.inside import Inside

        kept_out = one(self._connection, _KEPT_OUT, {"table": quote_table(self._table), "shared": list(_SHARED)})[0]
        if self._ddl is None or kept_out:
            yield Inside(self._connection, self._owner)
            return
        with self._ddl() as ddl:
            yield ddl

    # -- batches ------------------------------------------------------------------------------------------------

    def lost(self, rows: pa.RecordBatch) -> pa.Array | None:
        """Return the values of a batch that no known partition takes; None when there are none. Asks nobody."""
        if not self.column or self.column not in rows.schema.names or not rows.num_rows:
            return None
        from millstream_pipelines.warehouses._postgres.lost_rows import outside

        values = rows.column(self.column)
        found = values.filter(outside(values, self._taken, self._grid.kind))
        return found if len(found) else None

    def found(self, rows: pa.RecordBatch, lost: pa.Array) -> tuple[pa.RecordBatch, list[Reject]]:
        """Make partitions for `lost` values; return the rows but those of retired ranges, and those, as rejects.

        The connection must be free. RowRefusedError where contract.rows is `freeze`.
        """
        from millstream_pipelines.json_rows import json_rows
        from millstream_pipelines.warehouses._postgres.lost_rows import inside, spoken

        met = self._make(spoken(lost, self._grid.kind))
        rejects: list[Reject] = []
        for away in met:
            values = rows.column(self.column)
            mask = inside(values, away.low, away.high, self._grid.kind)
            refused, rows = rows.filter(mask), rows.filter(_not(mask))
            why = self._refusal(away)
            kept = refused.select([name for name in refused.schema.names if name not in (DELETED, ROW)])
            rejects += [Reject(RULE, why, row, "shaped") for row in json_rows(kept)]
        return rows, rejects

    # -- the stage ----------------------------------------------------------------------------------------------

    def for_stage(self, made: stage.StagePlan, seq: int) -> int:
        """Make partitions for the rows of the stage, set those of retired ranges aside; return how many these are."""
        live = f"{stage.NAME} WHERE NOT {DELETED}" if made.deletes else f"{stage.NAME} WHERE true"
        return self.set_aside(live, seq) if made.sent.get(self.column) is not None else 0

    def set_aside(self, live: str, seq: int) -> int:
        """Do so for staged rows, `table WHERE condition`."""
        spec, count = self._spec, 0
        for away in self.for_rows(live):
            from millstream_pipelines.retention.partitions import condition

            rows = f"{live} AND {condition(self.column, away.low, away.high, self._grid.kind)}"
            why = self._refusal(away)
            insert, delete = stage.set_aside_statements(rows, into(spec))
            if spec.contract.rows == "quarantine":
                named = (spec.pipeline, spec.stream, spec.target, spec.run, seq, RULE, why)
                run(self._connection, insert, named)
            count += run(self._connection, delete)
        return count

    def for_rows(self, rows: str) -> list[Away]:
        """Make partitions for rows, `table WHERE condition`; return the retired ranges that some of them fall into."""
        if not self.column:
            return []
        from millstream_pipelines.retention.partitions import condition
        from millstream_pipelines.warehouses._postgres.lost_cells import cells, cells_query

        kind, name = self._grid.kind, quote(self.column)
        taken = [condition(self.column, low, high, kind) for low, high in self._taken]
        lost = f"{rows} AND {name} IS NOT NULL AND NOT ({' OR '.join(taken) or 'false'})"
        with self._connection.cursor() as cursor:
            cursor.execute(cells_query(lost, name, self._grid, self._facts.listed))
            values = cells(cursor.fetchall(), kind)
        return self._make(values) if values else []

    # -- both ---------------------------------------------------------------------------------------------------

    def _make(self, values: list[Value]) -> list[Away]:
        """Make what is missing for values; return the retired ranges that some of them fall into."""
        from millstream_pipelines.warehouses._postgres.cells import sorted_out

        with self._session() as ddl:
            until = "_xact" if ddl.connection is self._connection else ""  # else until the session ends
            name = f"millstream/partitions/{self._table}"
            ddl.rows(f"SELECT pg_advisory{until}_lock(hashtextextended(%s, 3))", (name,))
            self._read(ddl)
            firsts, met = sorted_out([value for value in values if not self._has(value)], self._away, self._grid)
            for value in firsts[: max(0, _MOST - self._made)]:
                self._one(ddl, value)
            self._made += len(firsts)
        # Opens a catalog and closes it, which makes this session hear of what another has made.
        one(self._connection, "SELECT count(*) FROM pg_partition_tree(to_regclass(%s))", (quote_table(self._table),))
        return met

    def _one(self, ddl: Ddl, value: Value) -> None:
        from millstream_pipelines.retention.partitions import create, missing_ranges, partition_name

        away = [(one.low, one.high) for one in self._away]
        for low, high in missing_ranges(self._facts, self._grid, value, value, away):  # more than one around an odd one
            taken = {part.name for part in self._facts.partitions}
            try:
                create(ddl, self._facts, partition_name(self._table, low, self._grid, taken), low, high)
            except MillstreamError as error:
                cause = error.__cause__
                inside = ddl.connection is self._connection
                if inside or not isinstance(cause, psycopg2.Error) or cause.pgcode not in ("42P07", "42P17"):
                    raise
                self._read(ddl)  # a policy's run was quicker
                if not self._has(value):
                    raise
        self._read(ddl)

    def _has(self, value: Value) -> bool:
        return any((low is None or low <= value) and (high is None or value < high) for low, high in self._taken)  # type: ignore[operator]

    def _refusal(self, away: Away) -> str:
        """Return the message for rows of a retired range. Raises where they cannot be set aside."""
        why, spec = away.told(self._table, self._grid), self._spec
        if spec.contract.rows == "freeze":
            raise RowRefusedError(spec.stream, RULE, why)
        if spec.numbered or spec.disposition == "scd2":
            raise DataError(
                f"stream '{spec.stream}': {why}. This stream's rows hang together, so none is set aside: leave them "
                "out with `filter`, or restore the range",
                reason="RangeRetired",
            )
        return why


def _not(mask: Any) -> Any:
    import pyarrow.compute as pc

    return pc.invert(mask)


__all__ = ["RULE", "Room"]
