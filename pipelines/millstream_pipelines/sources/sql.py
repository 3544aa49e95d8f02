"""Source `sql`: any database SQLAlchemy has a dialect for; MariaDB, MySQL and SQLite are tested.

Rows come from one SELECT through a server-side cursor, a page at a time, whatever the table's size. What such a
database commits out of order cannot be known from outside: an incremental read says so and asks for `cursor.lag`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

import pyarrow as pa
import sqlalchemy as sa
from pydantic import BaseModel

from millstream_pipelines.batch import Batch
from millstream_pipelines.errors import ConfigurationError, DataError, unknown_value
from millstream_pipelines.schema import Schema
from millstream_pipelines.sources._sql.config import SqlConfig
from millstream_pipelines.sources._sql.connection import Database
from millstream_pipelines.sources._sql.cursor import Cursor, Row, cursor_of, cut
from millstream_pipelines.sources._sql.relations import Relation, Relations, escaped
from millstream_pipelines.sources._sql.values import array_of, size_of
from millstream_pipelines.sources.base import Feature, ReadRequest, StreamInfo

_FIRST_PAGE = 200  # enough to learn how wide the rows are
_PAGE_ROWS = 20_000
_PAGE_BYTES = 8 * 1024 * 1024


class SqlSource:
    """A database behind SQLAlchemy."""

    name: ClassVar[str] = "sql"
    Config: ClassVar[type[BaseModel]] = SqlConfig
    features: ClassVar[frozenset[Feature]] = frozenset({"range"})

    def __init__(self, config: BaseModel, owner: str) -> None:
        self._config = SqlConfig.model_validate(config)
        self._owner = owner
        self._database = Database(self._config, owner)
        self._relations = Relations(self._database, self._config)

    def streams(self) -> list[StreamInfo]:
        """Return the tables and views of the schemas, and the streams of the configuration."""
        return [StreamInfo(relation.name, relation.schema) for relation in self._relations.all()]

    def describe(self, stream: str, columns: tuple[str, ...] = ()) -> StreamInfo:
        """Return one stream, with types and key as the catalog has them now."""
        return StreamInfo(stream, self._kept(self._relations.of(stream), columns))

    def read(self, request: ReadRequest) -> Iterator[Batch]:
        """Yield the rows; in mode incremental in the cursor's order."""
        relation = self._relations.of(request.stream)
        schema = self._kept(relation, request.columns)
        if request.mode == "full" and request.range is None:
            for page in self._pages(relation, schema, "", {}):
                yield Batch(_batch(page, schema))
            return
        cursor = cursor_of(request, relation, self._database.dialect, self._owner)
        self._require_order(cursor, request)
        if schema.get(cursor.column) is None:
            schema = schema.with_columns([*schema, *(c for c in relation.schema if c.name == cursor.column)])
        self._require_values(relation, cursor)
        condition, bound = self._bounds(cursor, request)
        tail = f"{condition} ORDER BY {self._database.quoted(cursor.column)}"
        place = schema.names.index(cursor.column)
        for rows, may_go_on in cut(self._pages(relation, schema, tail, bound), place):
            cursor.refuse_text(rows[0][place])
            cursor.refuse_text(rows[-1][place])
            yield Batch(_batch(rows, schema), cursor.position(rows[-1][place]) if may_go_on else None)

    def guarantee(self, request: ReadRequest) -> tuple[Literal["exact", "repeats"], str]:
        """Return exact for one statement over one state; with a lag, rows come again."""
        if request.mode == "full":
            return "exact", "the whole table is read by one statement"
        if request.lag:
            return "repeats", f"each read starts {request.lag} before the committed cursor"
        if self._database.dialect == "sqlite":
            return "exact", "SQLite has one writer at a time, so values commit in order (values made by the INSERT)"
        return "exact", "positions lie between cursor values; their order is trusted, not made sure"

    def doubts(self, request: ReadRequest) -> list[str]:
        """Return what looks wrong about the cursor of an incremental read."""
        relation = self._relations.of(request.stream)
        cursor = cursor_of(request, relation, self._database.dialect, self._owner)
        column = self._database.quoted(cursor.column)
        tomorrow = cursor.tomorrow(datetime.now(UTC))
        found = []
        with self._database.connected(relation.name) as connection:

            def ask(what: str, **bound: Any) -> Any:
                return connection.execute(sa.text(f"SELECT {what} FROM {escaped(relation.origin)}"), bound).one()

            if tomorrow is not None:
                (count,) = ask(f"count(CASE WHEN {column} >= :tomorrow THEN 1 END)", tomorrow=tomorrow)
                found += [cursor.ahead(count)] if count else []
            if request.position is not None:
                largest, went_back = ask(
                    f"max({column}), CASE WHEN max({column}) < :reached THEN 1 ELSE 0 END",
                    reached=cursor.parameter(request.position["cursor"], "position"),
                )
                found += [cursor.went_back(largest, request.position)] if went_back or largest is None else []
        return found

    def why_incomplete(self, request: ReadRequest) -> str | None:
        """Return None: a full read is one statement."""
        return None

    def close(self) -> None:
        """Release the connections."""
        self._database.close()

    def _bounds(self, cursor: Cursor, request: ReadRequest) -> tuple[str, dict[str, Any]]:
        column = self._database.quoted(cursor.column)
        if request.range is not None:
            start = cursor.edge(request.range.start, "window.from")
            end = cursor.edge(request.range.end, "window.to")
            return f"WHERE {column} >= :start AND {column} < :end", {"start": start, "end": end}
        bound = {"behind": cursor.behind(request.position), "tomorrow": cursor.tomorrow(datetime.now(UTC))}
        # A value ahead of every clock would become the position, and hide all that comes until then.
        conditions = {"behind": f"{column} > :behind", "tomorrow": f"{column} < :tomorrow"}
        used = {name: value for name, value in bound.items() if value is not None}
        return (f"WHERE {' AND '.join(conditions[name] for name in used)}" if used else ""), used

    def _require_order(self, cursor: Cursor, request: ReadRequest) -> None:
        sure = request.lag or request.range or self._config.trust_cursor_order or self._database.dialect == "sqlite"
        if not sure:
            raise ConfigurationError(
                f"{cursor.owner}: transactions may commit values of cursor '{cursor.column}' out of order, and a row "
                "that commits late would be missed; give `cursor.lag` (longer than your longest transaction) with "
                "writeDisposition merge, or set `trustCursorOrder: true` in the DataSource if only one writer adds rows"
            )

    def _require_values(self, relation: Relation, cursor: Cursor) -> None:
        column = relation.schema.get(cursor.column)
        if column is None or not column.nullable:
            return
        sql = f"SELECT count(*) FROM {relation.origin} WHERE {self._database.quoted(cursor.column)} IS NULL"
        with self._database.connected(relation.name) as connection:
            count = connection.execute(sa.text(escaped(sql))).scalar() or 0
        if count:
            raise DataError(
                f"{cursor.owner}: {count} rows have NULL in cursor '{cursor.column}', so an incremental read would "
                "never meet them; fill the column, choose another cursor, leave them out with a query as stream, or "
                "use mode full",
                reason="CursorWithoutValue",
            )

    def _pages(self, relation: Relation, schema: Schema, tail: str, bound: dict[str, Any]) -> Iterator[list[Row]]:
        if not schema.columns:
            raise ConfigurationError(f"{self._owner}: stream '{relation.name}' has no columns to read")
        chosen = ", ".join(relation.selected[column.name] for column in schema)
        sql = sa.text(f"{escaped(f'SELECT {chosen} FROM {relation.origin}')} {tail}")
        with self._database.connected(relation.name) as connection:
            result = connection.execute(sql, bound)
            size = _FIRST_PAGE
            while page := result.fetchmany(size):
                width = max(1, sum(size_of(row) for row in page[:_FIRST_PAGE]) // len(page[:_FIRST_PAGE]))
                size = max(1, min(_PAGE_ROWS, _PAGE_BYTES // width))
                yield list(page)

    def _kept(self, relation: Relation, columns: tuple[str, ...]) -> Schema:
        for name in columns:
            if relation.schema.get(name) is None:
                raise unknown_value(f"{self._owner}: stream '{relation.name}'", "column", name, relation.schema.names)
        if not columns:
            return relation.schema
        kept = tuple(column for column in relation.schema if column.name in columns)
        key = relation.schema.primary_key
        return Schema(kept, key if set(key) <= set(columns) else ())


def _batch(rows: list[Row], schema: Schema) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    return pa.RecordBatch.from_arrays(
        [array_of(values, column) for values, column in zip(columns, schema, strict=True)], names=schema.names
    )


__all__ = ["SqlSource"]
