"""A table as Parquet files, read in one snapshot: zstd, sorted, row groups and files of bounded size.

A file that is full is handed on and may go from the disk before the next one is begun. What rises or repeats with the
order, numbers and times, is stored as differences; a dictionary is tried for the rest and given up where it is long.

While one session sends the rows, another hashes them in the same snapshot: what is later compared with the archive
never went through the driver or the writer.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from millstream_pipelines.errors import RetriableError
from millstream_pipelines.retention.columns import (
    TYPE_KEY,
    ArchivedColumn,
    Content,
    archived,
    content_of,
    postgres_query,
    selected,
)
from millstream_pipelines.retention.sessions import Sessions
from millstream_pipelines.schema import Column, arrow_type
from millstream_pipelines.sources._postgres.connection import SESSION, explained
from millstream_pipelines.sources._postgres.exact import exact
from millstream_pipelines.warehouses._postgres.connection import one, run, translating
from millstream_pipelines.warehouses.names import quote, quote_table

_FILE_BYTES = 64 * 1024 * 1024  # one is read back while the next is made
_ROW_GROUP_BYTES = 16 * 1024 * 1024  # as the driver hands it over; what a reader must hold at once is no more
_ZSTD_LEVEL = 3
_AS_ARCHIVED = ("UTF8", "SQL_ASCII")  # encodings whose bytes are those of an archive
_DIFFERENCES = frozenset({"integer", "date", "timestamp", "timestamptz"})
_LONGEST_DICTIONARY_BYTES = 64 * 1024

_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), n.nspname = 'pg_catalog' AND t.typtype = 'b',
  a.attgenerated <> ''
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""


@dataclass(frozen=True)
class Exported:
    """What PostgreSQL says the files must hold."""

    columns: tuple[ArchivedColumn, ...]
    content: Content


Sink = Callable[[Path], None]
"""Takes a finished file."""
Begin = Callable[[Sequence[ArchivedColumn]], Sink]
"""Makes the sink for files of these columns."""


class _NotExactError(Exception):
    """A value of this column needs text: NaN in a numeric, a time behind the year 294246."""


def columns_of(connection: Any, table: str) -> tuple[ArchivedColumn, ...]:
    """Return a table's columns as an archive stores them."""
    with connection.cursor() as cursor:
        cursor.execute(_COLUMNS, (quote_table(table),))
        return tuple(archived(*row) for row in cursor.fetchall())


def content(connection: Any, table: str, columns: Sequence[ArchivedColumn]) -> Content:
    """Return what a table holds, as PostgreSQL sees it in the connection's transaction."""
    run(connection, "; ".join(SESSION))  # texts are spelled as the archive has them, whatever the role's defaults are
    is_utf8 = connection.info.parameter_status("server_encoding") in _AS_ARCHIVED
    return content_of(columns, one(connection, postgres_query(columns, quote_table(table), is_utf8)))


def export(sessions: Sessions, table: str, order: str, folder: Path, begin: Begin) -> Exported:
    """Write the table's rows into files below `folder`, each for the sink. Memory: a row group or two.

    `begin` makes the sink; it is asked again, for files from the first on, where a value was found that its column's
    own Parquet type cannot hold.
    """
    as_text: set[str] = set()
    while True:
        try:
            return _attempt(sessions, table, order, folder, begin, as_text)
        except _NotExactError as error:
            as_text.add(str(error))
            sessions.hang_up()
        except BaseException:
            sessions.hang_up()
            raise


def _attempt(sessions: Sessions, table: str, order: str, folder: Path, begin: Begin, as_text: set[str]) -> Exported:
    with translating(sessions.owner, f"reading {table} for its archive"):
        connection = sessions.judge()
        run(connection, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        snapshot = one(connection, "SELECT pg_export_snapshot()")[0]
        columns = tuple(
            replace(item, form="text") if item.name in as_text else item for item in columns_of(connection, table)
        )
        judge = _Judge(connection, table, columns)
        judge.start()
        try:
            _write(_batches(sessions, table, order, columns, snapshot), columns, folder, begin(columns))
        except BaseException:
            cause = judge.failure  # which ended the snapshot, and so the read
            connection.cancel()
            judge.join()
            if cause is not None:
                raise cause from None
            raise
        judge.join()
        if judge.failure is not None:
            raise judge.failure
        connection.rollback()  # nothing was changed; the snapshot goes
        return Exported(columns, judge.found)


class _Judge(threading.Thread):
    """Hashes the table in the exporting snapshot, on the connection that made it."""

    def __init__(self, connection: Any, table: str, columns: tuple[ArchivedColumn, ...]) -> None:
        super().__init__(name="millstream-hash", daemon=True)
        self._connection, self._table, self._columns = connection, table, columns
        self.found: Content
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self.found = content(self._connection, self._table, self._columns)
        except BaseException as error:
            self.failure = error


def _batches(
    sessions: Sessions, table: str, order: str, columns: Sequence[ArchivedColumn], snapshot: str
) -> Iterator[pa.RecordBatch]:
    import adbc_driver_manager
    from adbc_driver_postgresql import StatementOptions

    hint = {StatementOptions.BATCH_SIZE_HINT_BYTES.value: str(_ROW_GROUP_BYTES)}
    chosen = ", ".join(selected(item) for item in columns)
    begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    try:
        connection = sessions.reader()
        with connection.cursor(adbc_stmt_kwargs=hint) as cursor:
            for statement in (begin, f"SET TRANSACTION SNAPSHOT '{snapshot}'"):
                cursor.execute(statement)
            cursor.execute(f"SELECT {chosen} FROM {quote_table(table)} ORDER BY {quote(order)}")
            for batch in cursor.fetch_record_batch():
                yield _stored(batch, columns)
        with connection.cursor() as cursor:
            cursor.execute("COMMIT")
    except adbc_driver_manager.Error as error:
        raise explained(error, error.sqlstate, sessions.reading, sessions.owner, table) from error


def _stored(batch: pa.RecordBatch, columns: Sequence[ArchivedColumn]) -> pa.RecordBatch:
    schema = arrow_schema(columns)
    arrays = [
        _array(values, item, field.type) for values, item, field in zip(batch.columns, columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(values: pa.Array, column: ArchivedColumn, wanted: pa.DataType) -> pa.Array:
    if column.form == "uuid" and values.type == wanted:
        return values
    if column.form == "text":
        return values if pa.types.is_string(values.type) else pc.cast(values, pa.string())
    found = exact(values, Column(column.name, column.type))
    if found.type != wanted:
        raise _NotExactError(column.name)
    return found


def arrow_schema(columns: Sequence[ArchivedColumn]) -> pa.Schema:
    """Return the schema of an archive's files; each field says the SQL type it came from."""
    return pa.schema([pa.field(item.name, _arrow(item), metadata={TYPE_KEY: item.type.encode()}) for item in columns])


def _arrow(column: ArchivedColumn) -> pa.DataType:
    if column.form == "uuid":
        return pa.uuid()
    return pa.string() if column.form == "text" else arrow_type(column.type)


def _write(batches: Iterator[pa.RecordBatch], columns: Sequence[ArchivedColumn], folder: Path, sink: Sink) -> None:
    schema = arrow_schema(columns)
    try:
        for number in itertools.count():
            first = next(batches, None)
            if first is None:
                return
            path = folder / f"part-{number:05}.parquet"
            with pq.ParquetWriter(path, schema, **_encoding(columns)) as writer:
                _fill(writer, path, itertools.chain([first], batches))
            sink(path)
            path.unlink()
    except OSError as error:
        raise RetriableError(f"writing to {folder}: {error}; it needs room for files of 300 MB") from error


def _fill(writer: pq.ParquetWriter, path: Path, batches: Iterator[pa.RecordBatch]) -> None:
    """Fill one file; what is over stays in `batches`."""
    for batch in batches:
        writer.write_batch(batch, row_group_size=max(1, batch.num_rows))
        if path.stat().st_size >= _FILE_BYTES:
            return


def _encoding(columns: Sequence[ArchivedColumn]) -> dict[str, Any]:
    by_difference: dict[str, Literal["DELTA_BINARY_PACKED"]] = {
        item.name: "DELTA_BINARY_PACKED" for item in columns if item.form in _DIFFERENCES
    }
    return {
        "compression": "zstd", "compression_level": _ZSTD_LEVEL, "column_encoding": by_difference or None,
        "use_dictionary": [item.name for item in columns if item.form not in {*_DIFFERENCES, "uuid", "boolean"}],
        "dictionary_pagesize_limit": _LONGEST_DICTIONARY_BYTES,
    }  # fmt: skip


__all__ = ["Begin", "Exported", "Sink", "arrow_schema", "columns_of", "content", "export"]
