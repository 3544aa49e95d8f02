"""Rows of an archive into a table, by COPY; types that its binary form cannot fill go through a stage of texts.

A table is filled without its indexes, which are built afterwards: sorted once, not searched for each row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa
from psycopg2.extensions import connection as Connection

from millstream_pipelines.retention.columns import ArchivedColumn
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.warehouses._postgres.connection import run
from millstream_pipelines.warehouses._postgres.copying import CopyIn
from millstream_pipelines.warehouses._postgres.encoding import encoded
from millstream_pipelines.warehouses._postgres.native import is_native
from millstream_pipelines.warehouses.names import quote

_STAGE = "millstream_restored"
_INDEXES = """
SELECT c.conname IS NOT NULL, quote_ident(coalesce(c.conname, x.relname)), n.nspname, x.relname,
  coalesce(pg_get_constraintdef(c.oid), pg_get_indexdef(i.indexrelid))
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_namespace n ON n.oid = x.relnamespace
LEFT JOIN pg_constraint c ON c.conindid = i.indexrelid AND c.conrelid = i.indrelid AND c.contype IN ('p', 'u', 'x')
WHERE i.indrelid = to_regclass(%s) ORDER BY 1 DESC, 2
"""


def taken_off(connection: Connection, target: str) -> list[str]:
    """Drop the indexes of the (quoted) new table, with their constraints; return the statements that make them."""
    with connection.cursor() as cursor:
        cursor.execute(_INDEXES, (target,))
        found = cursor.fetchall()
    for is_constraint, name, schema, index, _ in found:
        drop = (
            f"ALTER TABLE {target} DROP CONSTRAINT {name}"
            if is_constraint
            else f"DROP INDEX {quote(schema)}.{quote(index)}"
        )
        run(connection, drop)
    return [
        f"ALTER TABLE {target} ADD CONSTRAINT {name} {definition}" if is_constraint else definition
        for is_constraint, name, _, _, definition in found
    ]


def copied_in(
    connection: Connection, target: str, columns: Sequence[ArchivedColumn], batches: Iterable[pa.RecordBatch]
) -> int:
    """Fill the (quoted) table within the connection's transaction; return the rows.

    Generated columns fill themselves.
    """
    kept = [item for item in columns if not item.generated]
    schema = Schema(tuple(Column(item.name, _sent(item)) for item in kept))
    names = ", ".join(quote(item.name) for item in kept)
    staged = any(_is_cast(item) for item in kept)
    into = target
    if staged:
        into = quote(_STAGE)
        types = ", ".join(f"{quote(item.name)} {_sent(item)}" for item in kept)
        run(connection, f"CREATE TEMPORARY TABLE {into} ({types}) ON COMMIT DROP")
    copy = CopyIn(connection, f"COPY {into} ({names}) FROM STDIN (FORMAT binary)")
    try:
        for batch in batches:
            rows = _storage(batch, kept)
            for piece in encoded(rows, schema):
                copy.send(piece)
        count = copy.finish()
    except BaseException:
        copy.abort()
        raise
    if staged:
        cast = ", ".join(f"{quote(i.name)}::{i.type}" if _is_cast(i) else quote(i.name) for i in kept)
        run(connection, f"INSERT INTO {target} ({names}) SELECT {cast} FROM {into}")
    return count


def _is_cast(item: ArchivedColumn) -> bool:
    """Return whether the archive's text is no form in which COPY can take the column's type."""
    if item.form != "text":
        return False
    column = Column(item.name, item.type)
    return not (is_native(column) and pa.types.is_string(column.arrow().type))


def _sent(item: ArchivedColumn) -> str:
    """Return the type that is sent: the column's own, or text."""
    return "text" if _is_cast(item) else item.type


def _storage(batch: pa.RecordBatch, kept: Sequence[ArchivedColumn]) -> pa.RecordBatch:
    arrays = []
    for item in kept:
        values = batch.column(batch.schema.get_field_index(item.name))
        arrays.append(values.storage if isinstance(values, pa.ExtensionArray) else values)
    return pa.RecordBatch.from_arrays(arrays, names=[item.name for item in kept])


__all__ = ["copied_in", "taken_off"]
