"""Child tables of a load: rows that share their parent's connection, transaction and lease, and its fate.

A child row says by ROW which row of the transaction is its parent. Only the children of parents that were loaded are:
those of a row that a later one of its key replaces are duplicates, those of a row that the server refuses go with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg2

from millstream_pipelines.batch import ROW, Reject
from millstream_pipelines.child_names import parent_key
from millstream_pipelines.errors import MillstreamError
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.warehouses._postgres import ledger, quarantine, refusals, stage
from millstream_pipelines.warehouses._postgres.connection import one, run
from millstream_pipelines.warehouses._postgres.copying import CopyIn
from millstream_pipelines.warehouses._postgres.native import is_native
from millstream_pipelines.warehouses._postgres.poison import refused_counts
from millstream_pipelines.warehouses._postgres.room import Room
from millstream_pipelines.warehouses._postgres.tables import fit_keyed, shaped
from millstream_pipelines.warehouses.base import Counts, LoadSpec
from millstream_pipelines.warehouses.content_hash import content_hash
from millstream_pipelines.warehouses.names import quote, quote_table

if TYPE_CHECKING:
    import pyarrow as pa
    from psycopg2.extensions import connection as Connection

    from millstream_pipelines.warehouses._postgres.lease import Lease

_WINNERS = "pg_temp.millstream_winners"
_ORDER = "_millstream_order"
_ORPHANED = "its parent row was set aside"


class Child:
    """See `ChildLoad`."""

    def __init__(self, family: Family, spec: LoadSpec, number: int) -> None:
        self._family, self._spec = family, spec
        self._name = f"millstream_child_{number}"
        self._sent: Schema | None = None
        self._room: Room | None = None
        self.reset()

    def reset(self) -> None:
        """Forget what was not committed."""
        self.counts = Counts()
        self._stage: Schema | None = None
        self._staged_rows = 0
        self._digest = content_hash()

    @property
    def target(self) -> str:
        """The child table."""
        return self._spec.target

    def forget(self) -> None:
        """Ask for the shape anew: the columns made are gone."""
        self._sent = self._room = None

    def shape(self, schema: Schema) -> Schema:
        """See `ChildLoad.shape`."""
        with self._family.working(f"shaping {self._spec.target}") as connection:
            self._sent = shaped(
                connection, self._spec.target, lambda: fit_keyed(connection, self._spec, schema, self._spec.merge_key)
            )
        return self._sent

    def write(self, rows: pa.RecordBatch, rejects: Iterable[Reject], counts: Counts) -> None:
        """See `ChildLoad.write`."""
        if self._sent is None:
            raise MillstreamError("shape() comes before write()")
        with self._family.working(f"loading {self._spec.target}") as connection:
            self.counts = self.counts + replace(counts, loaded=0, duplicate=0)
            quarantine.insert(connection, self._spec, self._family.lease.seq + 1, rejects)
            if not rows.num_rows:
                return
            if self._family.is_staged or not all(is_native(column) for column in self._sent):
                self._staged_rows += self._copied(connection, self._staged(connection, self._sent), self._name, rows)
                return
            rows = self._housed(connection, rows.select(self._sent.names))
            taken = self._copied(connection, self._sent, self._spec.target, rows)
            self.counts = self.counts + Counts(loaded=taken)

    def _housed(self, connection: Connection, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows that have a partition now; those of retired ranges are set aside."""
        room = self._partitions(connection)
        if (lost := room.lost(rows)) is None:
            return rows
        rows, refused = room.found(rows, lost)
        if self._spec.contract.rows == "quarantine":
            quarantine.insert(connection, self._spec, self._family.lease.seq + 1, refused)
        self.counts = self.counts + refused_counts(self._spec, len(refused))
        return rows

    def _partitions(self, connection: Connection) -> Room:
        if self._room is None:
            self._room = self._family.room(connection, self._spec)
        return self._room

    def _copied(self, connection: Connection, schema: Schema, table: str, rows: pa.RecordBatch) -> int:
        from millstream_pipelines.warehouses._postgres.encoding import encoded

        place = quote_table(table, "pg_temp") if table == self._name else quote_table(table)
        names = ", ".join(quote(name) for name in schema.names)
        copy = CopyIn(connection, f"COPY {place} ({names}) FROM STDIN (FORMAT binary)", self._digest)
        try:
            for piece in encoded(rows, schema):
                copy.send(piece)
        except BaseException:
            copy.abort()
            raise
        return copy.finish()

    def _staged(self, connection: Connection, sent: Schema) -> Schema:
        """Give the stage the columns that are sent now; the rows in it stay."""
        kept = tuple(column if is_native(column) else Column(column.name, "text") for column in sent)
        wanted = Schema((*kept, Column(ROW, "bigint")))
        if self._stage is None:
            columns = ", ".join(f"{quote(column.name)} {column.type}" for column in wanted)
            order = f"{_ORDER} bigint GENERATED ALWAYS AS IDENTITY (CACHE 1000)"
            run(connection, f"CREATE TEMPORARY TABLE {self._name} ({columns}, {order}) ON COMMIT DROP")
        else:
            for column in wanted:
                known = self._stage.get(column.name)
                alter = f"ALTER TABLE pg_temp.{self._name}"
                if known is None:
                    run(connection, f"{alter} ADD COLUMN {quote(column.name)} {column.type}")
                elif known.type != column.type:
                    run(connection, f"{alter} ALTER COLUMN {quote(column.name)} TYPE {column.type}")
        self._stage = wanted
        return wanted

    def settle(self, connection: Connection, has_winners: bool) -> None:
        """Bring the stage into the target."""
        if self._stage is None or self._sent is None:
            return
        if has_winners:
            self._set_orphans_aside(connection)
        room = self._partitions(connection)
        if self._sent.get(room.column) is not None:
            self._take_out(room.set_aside(f"pg_temp.{self._name} WHERE true", self._family.lease.seq + 1))
        run(connection, "SAVEPOINT millstream_child")
        try:
            loaded = run(connection, self._insert(self._sent, has_winners))
        except (psycopg2.DataError, psycopg2.errors.CheckViolation):
            run(connection, "ROLLBACK TO SAVEPOINT millstream_child")
            columns = [column for column in self._sent if not is_native(column)]
            place = f"pg_temp.{self._name}"
            refused = refusals.set_aside(connection, place, columns, self._spec, self._family.lease.seq + 1)
            self._take_out(refused)
            loaded = run(connection, self._insert(self._sent, has_winners))
        kept = self._staged_rows
        if has_winners and loaded != kept:
            kept = int(one(connection, f"SELECT count(*) FROM {self._from(has_winners)}")[0])
        self.counts = self.counts + Counts(loaded=loaded, duplicate=self._staged_rows - kept)
        run(connection, f"DROP TABLE pg_temp.{self._name}")
        self._stage, self._staged_rows = None, 0

    def _insert(self, sent: Schema, has_winners: bool) -> str:
        names = ", ".join(quote(name) for name in sent.names)
        values = ", ".join(
            f"c.{quote(column.name)}{'' if is_native(column) else f'::{column.type}'}" for column in sent
        )
        place = self._from(has_winners)
        return f"INSERT INTO {quote_table(self._spec.target)} ({names}) SELECT {values} FROM {place} ORDER BY {_ORDER}"

    def _from(self, has_winners: bool) -> str:
        return f"pg_temp.{self._name} c{f' JOIN {_WINNERS} w ON w.{ROW} = c.{ROW} AND w.won' if has_winners else ''}"

    def _set_orphans_aside(self, connection: Connection) -> None:
        """Take out the rows whose parent only the server could refuse: it is in quarantine without them."""
        orphans = f"NOT EXISTS (SELECT FROM {_WINNERS} w WHERE w.{ROW} = c.{ROW})"
        spec = self._spec
        if spec.contract.rows == "quarantine":
            run(
                connection,
                f"INSERT INTO {quarantine.into(spec)} SELECT %s, %s, %s, %s, %s, 'parent', %s, "
                f"to_jsonb(c) - ARRAY['{_ORDER}', '{ROW}'], 'open', 'shaped', '[]'::jsonb "
                f"FROM pg_temp.{self._name} c WHERE {orphans}",
                (spec.pipeline, spec.stream, spec.target, spec.run, self._family.lease.seq + 1, _ORPHANED),
            )
        self._take_out(run(connection, f"DELETE FROM pg_temp.{self._name} c WHERE {orphans}"))

    def _take_out(self, refused: int) -> None:
        self._staged_rows -= refused
        kept = refused if self._spec.contract.rows == "quarantine" else 0
        self.counts = self.counts + Counts(quarantined=kept, filtered=refused - kept)

    def enter(self, connection: Connection) -> None:
        """Enter what is about to be committed into the ledger."""
        lease = self._family.lease
        ledger.require_balance(self._spec, lease.seq + 1, self.counts)
        if self.counts != Counts():
            ledger.enter(connection, self._spec, lease, self.counts, self._digest.hexdigest(), None)


class Family:
    """The children of one load. `working` lends the connection between COPYs; `room` makes partitions."""

    def __init__(
        self,
        spec: LoadSpec,
        lease: Lease,
        working: Callable[[str], AbstractContextManager[Connection]],
        room: Callable[[Connection, LoadSpec], Room],
    ) -> None:
        self._spec, self.lease, self.working, self.room = spec, lease, working, room
        self.is_staged = False
        """Whether the parent's rows go through its stage: then some may not be loaded."""
        self._children: dict[str, Child] = {}

    def child(self, stream: str, target: str, key: tuple[str, ...]) -> Child:
        """Return the child of that name."""
        if stream not in self._children:
            spec = replace(self._spec, stream=stream, target=target, primary_key=key, cursor_field=None, numbered=False)
            self._children[stream] = Child(self, spec, len(self._children))
        return self._children[stream]

    def committed(self) -> dict[tuple[str, str], Counts]:
        """See `ParentLoad.children`."""
        with self.working("reading the ledger") as connection:
            return ledger.child_counts(connection, self._spec)

    def begin(self, connection: Connection) -> None:
        """In a replace, take the old rows out."""
        if self._spec.disposition == "replace":
            for target in self._targets(connection):
                run(connection, f"DELETE FROM {quote_table(target)}")

    def settle(self, connection: Connection, made: stage.StagePlan, has_stage: bool) -> None:
        """Bring all children into their targets. The parents have come; `has_stage`: by their stage, still there."""
        if not self._spec.numbered:
            return
        if has_stage:
            keys = [quote(name) for name in made.key]
            won = f"row_number() OVER (PARTITION BY {', '.join(keys)} ORDER BY {made.newest}) = 1" if keys else "true"
            chosen = ", ".join([*keys, ROW, f"{won} AS won"])
            run(
                connection,
                f"CREATE TEMPORARY TABLE millstream_winners ON COMMIT DROP AS SELECT {chosen} FROM {made.rows}",
            )
            run(connection, f"ANALYZE {_WINNERS}")
            if self._spec.disposition == "merge":
                named = parent_key(made.key)
                same = " AND ".join(f"t.{quote(named[name])} = w.{quote(name)}" for name in made.key)
                for target in self._targets(connection):
                    run(connection, f"DELETE FROM {quote_table(target)} t USING {_WINNERS} w WHERE w.won AND {same}")
        for child in self._children.values():
            child.settle(connection, has_winners=has_stage)
        if has_stage:
            run(connection, f"DROP TABLE {_WINNERS}")

    def enter(self, connection: Connection) -> None:
        """Enter what is about to be committed into the ledger. DataError when rows went nowhere."""
        for child in self._children.values():
            child.enter(connection)

    def reset(self, *, lost: bool = False) -> None:
        """Begin anew after a commit; `lost`: after a rollback, which took the columns made in it."""
        for child in self._children.values():
            child.reset()
            if lost:
                child.forget()

    def _targets(self, connection: Connection) -> list[str]:
        """Return the tables of all children: of this load, and of earlier ones that this load may never see."""
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT DISTINCT target FROM _millstream.ledger WHERE pipeline = %s AND starts_with(stream, %s)",
                (self._spec.pipeline, f"{self._spec.stream}/"),
            )
            known = {target for (target,) in cursor.fetchall()} | {child.target for child in self._children.values()}
        there = "SELECT to_regclass(%s) IS NOT NULL"
        return [target for target in sorted(known) if one(connection, there, (quote_table(target),))[0]]
