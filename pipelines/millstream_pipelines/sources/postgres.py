"""Source `postgres`: tables, views and queries of a PostgreSQL, every type exact, incremental reads that miss nothing.

Rows come over one binary COPY in one read-only snapshot. Incremental reads stop at a safe horizon: see
`_postgres/horizon.py` for what that is and what it cannot know.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel

from millstream_pipelines.batch import Batch, Position
from millstream_pipelines.errors import ConfigurationError, unknown_value
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.sources._postgres.catalog import Catalog, Relation
from millstream_pipelines.sources._postgres.config import PostgresConfig
from millstream_pipelines.sources._postgres.connection import Control
from millstream_pipelines.sources._postgres.cursor import Cursor, cursor_of, reached
from millstream_pipelines.sources._postgres.doubts import doubts
from millstream_pipelines.sources._postgres.horizon import HorizonFinder
from millstream_pipelines.sources._postgres.order import require_order, require_values
from millstream_pipelines.sources._postgres.raw import INDEXED, RawRows, Wanted, is_portable
from millstream_pipelines.sources._postgres.slices import slice_condition
from millstream_pipelines.sources.base import Feature, ReadRequest, StreamInfo

if TYPE_CHECKING:
    from millstream_pipelines.sources._postgres.stream import Rows

_WHY = {
    "number": "the read stops below every value a running transaction may still commit (values drawn by the INSERT)",
    "text": "the read stops below every value a running transaction may still commit (values made up by the INSERT)",
    "timestamptz": "the read stops below the start of every running transaction (values from now() or later clocks)",
    "timestamp": "the read waits for every running transaction (values from now(), one time zone, no clock changes)",
    "date": "only days that have ended are read (values from current_date)",
}


class PostgresSource:
    """A PostgreSQL database, or one that speaks its protocol and has its catalog."""

    name: ClassVar[str] = "postgres"
    Config: ClassVar[type[BaseModel]] = PostgresConfig
    features: ClassVar[frozenset[Feature]] = frozenset({"range", "slice"})

    def __init__(self, config: BaseModel, owner: str) -> None:
        self._config = PostgresConfig.model_validate(config)
        self._owner = owner
        self._control = Control(self._config, owner)
        self._catalog = Catalog(self._control)
        self._reads: list[Rows] = []

    def streams(self) -> list[StreamInfo]:
        """Return the tables and views that the user may read, and the streams of the configuration."""
        return [StreamInfo(relation.name, relation.schema) for relation in self._catalog.relations()]

    def describe(self, stream: str, columns: tuple[str, ...] = ()) -> StreamInfo:
        """Return one stream, with types and key as the catalog has them now."""
        relation = self._catalog.relation(stream)
        return StreamInfo(stream, self._kept(relation, columns))

    def read(self, request: ReadRequest) -> Iterator[Batch]:
        """Yield the rows; in mode incremental in the cursor's order, up to the safe horizon."""
        relation = self._catalog.relation(request.stream)
        schema = self._kept(relation, request.columns)
        from millstream_pipelines.sources._postgres.stream import positioned, vouched

        if request.mode == "full":
            tail = "" if request.slice is None else f"WHERE {slice_condition(relation, request.slice, self._owner)}"
            yield from map(vouched, self._rows(relation, schema, tail))
            return
        cursor = cursor_of(request, relation, self._owner)
        if schema.get(cursor.column) is None:
            added = relation.schema.get(cursor.column)
            schema = schema.with_columns([*schema.columns, added or Column(cursor.column, cursor.type)])
        if request.range is not None:
            self._refuse_cast(cursor, request.stream)
            yield from map(vouched, self._rows(relation, schema, f"WHERE {cursor.within(request.range)}"))
            return
        condition = self._horizon(relation, cursor)
        if condition is None:
            return
        behind = cursor.behind(request.position, self._owner)
        where = " AND ".join(part for part in (behind, condition) if part)
        yield from positioned(self._rows(relation, schema, f"WHERE {where} ORDER BY {cursor.sql}"), cursor)

    def raw(self, request: ReadRequest) -> RawRows | str:
        """Return the rows as the server sends them, or why they must be decoded. See `RawSource`."""
        if request.range is not None or request.slice is not None:
            return "a part of the stream is read"
        relation = self._catalog.relation(request.stream)
        schema = self._kept(relation, request.columns)
        foreign = next((column for column in schema if not is_portable(column)), None)
        if foreign is not None:
            return f"the bytes of column '{foreign.name}' ({foreign.type}) may mean something else to another server"
        columns = [relation.typed[column.name] for column in schema]
        wanted = Wanted(columns, relation.origin, schema)
        if request.mode == "incremental":
            cursor = cursor_of(request, relation, self._owner)
            if cursor.kind == "text" or not self._indexed(relation, cursor):
                return f"cursor '{cursor.column}' has no index that could cut a large read into stretches"
            behind = cursor.behind(request.position, self._owner)
            wanted = replace(wanted, cursor=cursor, behind=behind, horizon=lambda: self._horizon(relation, cursor))
        return RawRows(self._config, self._owner, relation.name, wanted)

    def _indexed(self, relation: Relation, cursor: Cursor) -> bool:
        names = {"oid": relation.oid, "column": cursor.column}
        return relation.oid is not None and bool(self._control.rows(INDEXED, names)[0][0])

    def guarantee(self, request: ReadRequest) -> tuple[Literal["exact", "repeats"], str]:
        """Return exact without a lag; the reason names what the cursor's values must be like."""
        if request.slice is not None:
            slice_condition(self._catalog.relation(request.stream), request.slice, self._owner)
            return "exact", "each slice is read in one snapshot of its own, and rows are told apart by their key"
        if request.mode == "full":
            return "exact", "the whole table is read in one snapshot"
        if request.range is not None:
            return "exact", "each stretch of the cursor is read in one snapshot"
        if request.lag:
            return "repeats", f"each read starts {request.lag} before the committed cursor"
        relation = self._catalog.relation(request.stream)
        cursor = cursor_of(request, relation, self._owner)
        if self._config.trust_cursor_order:
            return "exact", "positions lie between cursor values; their order is trusted, not made sure"
        return "exact", _WHY[cursor.kind]

    def reached(self, position: Position, cursor_field: str) -> str:
        """Return the largest cursor value that has been read."""
        return reached(position, cursor_field, self._owner)

    def cancel(self) -> None:
        """See `CancellableSource.cancel`."""
        for rows in self._reads:
            rows.cancel()

    def doubts(self, request: ReadRequest) -> list[str]:
        """Return what looks wrong about the cursor of an incremental read."""
        relation = self._catalog.relation(request.stream)
        return doubts(self._control, relation, cursor_of(request, relation, self._owner), request.position)

    def why_incomplete(self, request: ReadRequest) -> str | None:
        """Return None: a full read is one snapshot."""
        return None

    def close(self) -> None:
        """Close every connection; a read in progress ends."""
        for rows in self._reads:
            rows.close()
        self._reads.clear()
        self._control.close()

    def _horizon(self, relation: Relation, cursor: Cursor) -> str | None:
        trusted = self._config.trust_cursor_order
        if not trusted and cursor.lag is None:
            require_order(self._control, relation, cursor)
        require_values(self._control, relation, cursor)
        return HorizonFinder(self._control, relation, cursor).find(watch=not trusted).condition

    def _refuse_cast(self, cursor: Cursor, stream: str) -> None:
        """Refuse stretches of a cursor whose values are changed on the way: a row could end up in another one."""
        if any(cursor.column in item.columns for item in self._config.streams if item.name == stream):
            raise ConfigurationError(
                f"{self._owner}: stream '{stream}': its config casts the cursor '{cursor.column}', so a backfill could "
                "not find its rows again; leave the cast out, or cast a second column of a query"
            )

    def _rows(self, relation: Relation, schema: Schema, tail: str) -> Iterator[object]:
        if not schema.columns:
            raise ConfigurationError(f"{self._owner}: stream '{relation.name}' has no columns to read")
        chosen = ", ".join(relation.expressions[column.name] for column in schema)
        from millstream_pipelines.sources._postgres.stream import Rows

        rows = Rows(self._config, self._owner, relation.name)
        self._reads.append(rows)
        try:
            yield from rows.batches(f"SELECT {chosen} FROM {relation.origin} {tail}", schema)
        finally:
            rows.close()

    def _kept(self, relation: Relation, columns: tuple[str, ...]) -> Schema:
        for name in columns:
            if relation.schema.get(name) is None:
                raise unknown_value(f"{self._owner}: stream '{relation.name}'", "column", name, relation.schema.names)
        if not columns:
            return relation.schema
        kept = [column for column in relation.schema if column.name in columns]
        key = relation.schema.primary_key
        return Schema(tuple(kept), key if set(key) <= set(columns) else ())


__all__ = ["PostgresSource"]
