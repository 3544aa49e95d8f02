"""What there is to read: tables, views and queries, with the columns as the catalog or a sample has them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from millstream_pipelines.errors import ConfigurationError, unknown_value
from millstream_pipelines.schema import Column, Schema, normalized
from millstream_pipelines.sources._sql.config import SqlConfig, SqlStream
from millstream_pipelines.sources._sql.connection import Database
from millstream_pipelines.sources._sql.types import sql_type, type_of_values

_SAMPLE_ROWS = 1000


@dataclass(frozen=True)
class Relation:
    """A stream that can be read. `origin` stands behind FROM; `selected` says how a column is read exactly."""

    name: str
    origin: str
    schema: Schema
    selected: dict[str, str]


class Relations:
    """The streams of one database."""

    def __init__(self, database: Database, config: SqlConfig) -> None:
        self._database = database
        self._config = config

    def all(self) -> list[Relation]:
        """Return the configured streams and the tables and views found; one that cannot be described is left out."""
        found = {stream.name: self._configured(stream) for stream in self._config.streams}
        with self._database.connected() as connection:
            inspector = sa.inspect(connection)
            for name in self._names(inspector):
                if name not in found:
                    found[name] = self._table(inspector, name, name)
        return [found[name] for name in sorted(found)]

    def of(self, name: str) -> Relation:
        """Return one stream. ConfigurationError lists the known ones when there is none of that name."""
        for stream in self._config.streams:
            if stream.name == name:
                return self._configured(stream)
        with self._database.connected(name) as connection:
            inspector = sa.inspect(connection)
            known = self._names(inspector)
            if name not in known:
                names = {*known, *(stream.name for stream in self._config.streams)}
                raise unknown_value(self._database.owner, "stream", name, names)
            return self._table(inspector, name, name)

    def _names(self, inspector: Any) -> list[str]:
        names: list[str] = []
        for schema in self._config.schemas or [""]:
            prefix = f"{schema}." if schema else ""
            for listed in (inspector.get_table_names(schema or None), inspector.get_view_names(schema or None)):
                names += [f"{prefix}{name}" for name in listed]
        return names

    def _configured(self, stream: SqlStream) -> Relation:
        with self._database.connected(stream.name) as connection:
            if stream.table is not None:
                relation = self._table(sa.inspect(connection), stream.name, stream.table)
            else:
                relation = self._query(connection, stream)
        return self._with_types(relation, stream)

    def _with_types(self, relation: Relation, stream: SqlStream) -> Relation:
        owner = f"{self._database.owner}: stream '{stream.name}'"
        names = relation.schema.names
        for name in (*stream.columns, *stream.primary_key):
            if name not in names:
                raise unknown_value(owner, "column", name, names)
        columns = tuple(
            Column(
                c.name, normalized(stream.columns.get(c.name, c.type)), c.nullable and c.name not in stream.primary_key
            )
            for c in relation.schema
        )
        key = tuple(stream.primary_key) or relation.schema.primary_key
        return Relation(relation.name, relation.origin, Schema(columns, key), relation.selected)

    def _table(self, inspector: Any, name: str, table: str) -> Relation:
        schema, _, short = table.rpartition(".")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", exc.SAWarning)  # a type it does not know is text to us
                found = inspector.get_columns(short, schema or None)
                key = tuple(inspector.get_pk_constraint(short, schema or None).get("constrained_columns") or ())
        except exc.NoSuchTableError as error:
            raise ConfigurationError(
                f"{self._database.owner}: stream '{name}': there is no table or view {table}"
            ) from error
        dialect = self._database.dialect
        columns = [
            Column(c["name"], sql_type(c["type"], dialect), c["nullable"] and c["name"] not in key) for c in found
        ]
        selected = {column.name: self._selected(column, dialect) for column in columns}
        origin = self._database.quoted(*(part for part in (schema, short) if part))
        return Relation(name, origin, Schema(tuple(columns), key), selected)

    def _selected(self, column: Column, dialect: str) -> str:
        name = self._database.quoted(column.name)
        if column.type == "real" and dialect in ("mysql", "mariadb"):
            return f"CAST({name} AS DOUBLE) AS {name}"  # printed as it is, a FLOAT loses its last digits
        return name

    def _query(self, connection: Any, stream: SqlStream) -> Relation:
        query = str(stream.query).strip().rstrip(";")
        result = connection.execute(sa.text(f"SELECT * FROM ({escaped(query)}) millstream_query"))
        names = list(result.keys())
        sample = result.fetchmany(_SAMPLE_ROWS)
        result.close()
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigurationError(
                f"{self._database.owner}: stream '{stream.name}': the query names columns twice: {', '.join(twice)}"
            )
        columns = tuple(
            Column(name, type_of_values(row[place] for row in sample if row[place] is not None))
            for place, name in enumerate(names)
        )
        selected = {name: self._database.quoted(name) for name in names}
        return Relation(stream.name, f"({query}) millstream_query", Schema(columns), selected)


def escaped(sql: str) -> str:
    """Return SQL for `sqlalchemy.text`, which would take `:word` for a parameter."""
    return sql.replace(":", "\\:")


__all__ = ["Relation", "Relations", "escaped"]
