"""What there is to read: relations, columns with their exact types, keys. One query for all, one for each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from millstream_pipelines.errors import ConfigurationError, unknown_value
from millstream_pipelines.schema import Column, Schema, normalized
from millstream_pipelines.sources._postgres.config import PostgresStream
from millstream_pipelines.sources._postgres.connection import Control, identifier

# Metadata of ours and TimescaleDB's chunks are no streams; a hypertable is listed as the table it looks like.
_RELATIONS = r"""
WITH RECURSIVE base(domain, type, typmod) AS (
  SELECT oid, typbasetype, typtypmod FROM pg_catalog.pg_type WHERE typtype = 'd'
  UNION ALL
  SELECT base.domain, t.typbasetype, CASE WHEN base.typmod = -1 THEN t.typtypmod ELSE base.typmod END
  FROM base JOIN pg_catalog.pg_type t ON t.oid = base.type AND t.typtype = 'd'
), resolved AS (
  SELECT base.domain, base.type, base.typmod
  FROM base JOIN pg_catalog.pg_type t ON t.oid = base.type AND t.typtype <> 'd'
)
SELECT c.oid::bigint, n.nspname, c.relname, c.relkind, c.relispartition,
  has_schema_privilege(n.oid, 'USAGE'),
  has_table_privilege(c.oid, 'SELECT') OR has_any_column_privilege(c.oid, 'SELECT'),
  (SELECT json_agg(json_build_array(
      a.attname, pg_catalog.format_type(t.oid, COALESCE(r.typmod, a.atttypmod)), a.attnotnull,
      tn.nspname = 'pg_catalog', t.typtype, t.typcategory = 'A' AND t.typelem <> 0
    ) ORDER BY a.attnum)
   FROM pg_catalog.pg_attribute a
   LEFT JOIN resolved r ON r.domain = a.atttypid
   JOIN pg_catalog.pg_type t ON t.oid = COALESCE(r.type, a.atttypid)
   JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
   WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
     AND has_column_privilege(c.oid, a.attnum, 'SELECT')),
  (SELECT json_agg(a.attname ORDER BY k.place)
   FROM pg_catalog.pg_index i, unnest(i.indkey::smallint[]) WITH ORDINALITY AS k(attnum, place)
   JOIN pg_catalog.pg_attribute a ON a.attnum = k.attnum
   WHERE i.indrelid = c.oid AND a.attrelid = c.oid AND i.indisprimary),
  (SELECT json_agg(a.attname) FROM pg_catalog.pg_index i
   JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
   WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indnkeyatts = 1
     AND i.indpred IS NULL AND i.indexprs IS NULL)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'v', 'p', 'm', 'f') AND c.relpersistence <> 't'
"""
_LISTED = r"""
  AND NOT c.relispartition AND n.nspname <> 'information_schema' AND n.nspname !~ '^(pg_|_timescaledb_|_millstream$)'
  AND (%(all)s OR n.nspname = ANY(%(schemas)s))
ORDER BY 2, 3
"""
_NAMED = r"""
  AND c.relname = %(name)s
  AND (n.nspname = %(schema)s OR %(schema)s IS NULL AND n.nspname !~ '^(pg_|information_schema$)')
ORDER BY 2, 3
"""


@dataclass(frozen=True)
class Relation:
    """A stream that can be read: where from, its columns, and how each is selected."""

    name: str
    origin: str
    """What stands behind FROM."""
    schema: Schema
    expressions: dict[str, str]
    """Column → SQL expression whose result the batch stores without loss."""
    typed: dict[str, str]
    """Column → SQL expression of exactly the schema's type."""
    oid: int | None = None
    """None for a query."""
    kind: Literal["table", "view", "materialized view", "foreign table", "query"] = "table"
    unique: frozenset[str] = field(default=frozenset())
    """Columns in which no value occurs twice."""


_KINDS: dict[str, Literal["table", "view", "materialized view", "foreign table"]] = {
    "r": "table",
    "p": "table",
    "v": "view",
    "m": "materialized view",
    "f": "foreign table",
}


class Catalog:
    """The streams of one database."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._config = control.config
        self._owner = control.owner

    def relations(self) -> list[Relation]:
        """Return every stream that the user may read."""
        found = self._control.rows(
            _RELATIONS + _LISTED, {"all": not self._config.schemas, "schemas": self._config.schemas}
        )
        named = {stream.name: stream for stream in self._config.streams}
        tables = [_relation(row) for row in found if row[5] and row[6] and row[7]]
        extra = [self._configured(stream) for stream in named.values()]
        return [table for table in tables if table.name not in named] + extra

    def relation(self, name: str) -> Relation:
        """Return the stream of that name; a bare table name is enough where only one schema has it."""
        for stream in self._config.streams:
            if stream.name == name:
                return self._configured(stream)
        return self._table(name)

    def _table(self, name: str) -> Relation:
        candidates = [(None, name)] + [(name[:at], name[at + 1 :]) for at, sign in enumerate(name) if sign == "."]
        found = [
            row
            for schema, table in candidates
            for row in self._control.rows(_RELATIONS + _NAMED, {"name": table, "schema": schema}, about=name)
            if schema is not None or not self._config.schemas or row[1] in self._config.schemas
        ]
        if not found:
            known = [relation.name for relation in self.relations()]
            raise unknown_value(self._owner, "stream", name, known)
        if len(found) > 1:
            names = ", ".join(f"{row[1]}.{row[2]}" for row in found)
            raise ConfigurationError(f"{self._owner}: stream '{name}' is in several schemas; say which: {names}")
        self._require_access(found[0])
        return _relation(found[0])

    def _require_access(self, row: tuple[Any, ...]) -> None:
        table = f"{identifier(row[1])}.{identifier(row[2])}"
        user = identifier(self._config.user or "the user")
        if not row[5]:
            cure = f"GRANT USAGE ON SCHEMA {identifier(row[1])} TO {user}"
        elif not row[6]:
            cure = f"GRANT SELECT ON {table} TO {user}"
        elif not row[7]:
            raise ConfigurationError(f"{self._owner}: {table} has no columns to read")
        else:
            return
        raise ConfigurationError(f"{self._owner}: no permission to read {row[1]}.{row[2]}; run: {cure}")

    def _configured(self, stream: PostgresStream) -> Relation:
        base = self._table(stream.table) if stream.table is not None else self._query(stream)
        missing = [name for name in [*stream.columns, *stream.primary_key] if base.schema.get(name) is None]
        if missing:
            raise unknown_value(f"{self._owner}: stream '{stream.name}'", "column", missing[0], base.schema.names)
        columns, expressions, typed = [], dict(base.expressions), dict(base.typed)
        for column in base.schema:
            cast = stream.columns.get(column.name)
            if cast is not None:
                column = Column(column.name, normalized(cast), column.nullable)
                typed[column.name] = f"CAST({identifier(column.name)} AS {cast})"
                expressions[column.name] = stored(typed[column.name], column.type)
            columns.append(column)
        key = tuple(stream.primary_key) or base.schema.primary_key
        schema = Schema(tuple(columns), key)
        unique = base.unique - frozenset(stream.columns)
        return Relation(stream.name, base.origin, schema, expressions, typed, base.oid, base.kind, unique)

    def _query(self, stream: PostgresStream) -> Relation:
        origin = f"({str(stream.query).strip().rstrip(';')}\n) AS query"
        described = self._control.described(f"SELECT * FROM {origin} LIMIT 0", about=stream.name)
        oids = [item.type_code for item in described]
        kinds = {
            row[0]: row[1:]
            for row in self._control.rows(
                "SELECT t.oid::bigint, format_type(t.oid, NULL), n.nspname = 'pg_catalog', t.typtype, "
                "t.typcategory = 'A' AND t.typelem <> 0 FROM pg_catalog.pg_type t "
                "JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE t.oid = ANY(%s::oid[])",
                (oids,),
            )
        }
        columns = []
        for item in described:
            name, builtin, kind, is_array = kinds[item.type_code]
            if name == "numeric" and item.precision not in (None, 65535) and item.scale is not None:
                name = f"numeric({item.precision},{item.scale})"
            columns.append(Column(item.name, _type(name, builtin, kind, is_array)))
        twice = sorted({item.name for item in columns if sum(other.name == item.name for other in columns) > 1})
        if twice:
            raise ConfigurationError(f"{self._owner}: query of stream '{stream.name}' names columns twice: {twice}")
        builtin = {item.name: kinds[item.type_code][1] for item in described}
        expressions = {item.name: stored(identifier(item.name), item.type, builtin[item.name]) for item in columns}
        typed = {item.name: _typed(item, builtin[item.name]) for item in columns}
        return Relation(stream.name, origin, Schema(tuple(columns)), expressions, typed, kind="query")


def _relation(row: tuple[Any, ...]) -> Relation:
    oid, schema, table, kind, _, _, _, columns, key, unique = row
    described = tuple(
        Column(name, _type(type_name, builtin, type_kind, is_array), not not_null)
        for name, type_name, not_null, builtin, type_kind, is_array in columns
    )
    names = {column.name for column in described}
    return Relation(
        name=f"{schema}.{table}",
        origin=f"{identifier(schema)}.{identifier(table)}",
        schema=Schema(described, tuple(key or ()) if names >= set(key or ()) else ()),
        expressions={
            column.name: stored(identifier(column.name), column.type, item[3])
            for column, item in zip(described, columns, strict=True)
        },
        typed={column.name: _typed(column, item[3]) for column, item in zip(described, columns, strict=True)},
        oid=oid,
        kind=_KINDS[kind],
        unique=frozenset(unique or ()),
    )


def _type(name: str, builtin: bool, kind: str, is_array: bool) -> str:
    """Return the SQL type that any PostgreSQL knows: enums, composites and extensions' types become text."""
    if builtin and kind in ("b", "r", "m"):
        return normalized(name)
    return "text[]" if is_array else "text"


def _typed(column: Column, builtin: bool) -> str:
    return identifier(column.name) if builtin else f"({identifier(column.name)})::{column.type}"


_READ_AS_TEXT = ("text", "character", "character varying", "name")


def stored(expression: str, type_name: str, builtin: bool = True) -> str:
    """Return the expression as it must be selected: as text wherever the driver's own form could lose something.

    numeric goes as text too: its digits and NaN are exact there, and the cast to decimal is Arrow's.
    """
    base = type_name.split("(")[0]
    if builtin and (type_name in _NATIVE or (base in _READ_AS_TEXT and not type_name.endswith("]"))):
        return expression
    return f"({expression})::text"


_NATIVE = frozenset({"smallint", "integer", "bigint", "real", "double precision", "boolean", "bytea"}) | frozenset(
    {"date", "time", "timestamp", "timestamptz"}
)

__all__ = ["Catalog", "Relation", "stored"]
