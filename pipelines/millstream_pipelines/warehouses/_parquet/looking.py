"""A look into the files by SQL: an in-memory DuckDB whose tables are the files of the newest commits.

Set checks ask it about the commit to be, people about the ledger. A column is read when its name is in the SQL; a row
group is in memory at a time.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import IO, Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from millstream_pipelines.errors import MillstreamError
from millstream_pipelines.schema import Schema
from millstream_pipelines.warehouses._duckdb.connection import rows, translating
from millstream_pipelines.warehouses._parquet import history
from millstream_pipelines.warehouses._parquet.commits import StoredFile
from millstream_pipelines.warehouses._parquet.log import TableLog
from millstream_pipelines.warehouses._parquet.store import Store
from millstream_pipelines.warehouses._parquet.tables import Pending
from millstream_pipelines.warehouses._parquet.types import stored_schema
from millstream_pipelines.warehouses.names import quote

_NAME = r'"((?:[^"]|"")+)"'
_TABLE = re.compile(rf"{_NAME}\.{_NAME}")
# What a scan hands over at once: DuckDB keeps several of them.
_BATCH_ROWS, _BATCH_BYTES = (2_048, 16_384), 2 * 1024 * 1024
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "enable_external_access": "false",
    "threads": "1",
}


class Looking:
    """Answers SQL. `pending`: a table as an open transaction would make it, by schema and name."""

    def __init__(
        self, store: Store, owner: str, pending: Callable[[tuple[str, str]], Pending | None], memory_limit: str
    ) -> None:
        self._store, self._owner, self._pending = store, owner, pending
        limits = {"memory_limit": memory_limit, "temp_directory": tempfile.gettempdir()}
        self._connection = duckdb.connect(":memory:", config={**_SETTINGS, **limits})
        self._connection.execute("SET TimeZone = 'UTC'")
        self._filled = False  # `_millstream` is as it was when first asked for
        self._known: set[tuple[str, str]] = set()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a query and return its rows. Tables are those it names as `"schema"."table"`, and `_millstream`."""
        if "_millstream" in sql and not self._filled:
            history.fill(self._connection, self._store, self._owner)
            self._filled = True
        pa.default_memory_pool().release_unused()  # of the batches that were written
        named = {tuple(part.replace('""', '"') for part in found) for found in _TABLE.findall(sql)}
        made = [self._register(schema, table, sql) for schema, table in named if schema != "_millstream"]
        views = [view for view in made if view is not None]
        try:
            with translating(self._owner, "asking the warehouse"):
                return rows(self._connection, sql)
        except MillstreamError as error:
            failed = next((view.failure for view in views if view.failure is not None), None)
            raise failed or error from error

    def close(self) -> None:
        """Forget everything."""
        self._connection.close()

    def _register(self, schema: str, table: str, sql: str) -> _Rows | None:
        log = TableLog(self._store, schema, table, self._owner)
        pending = self._pending((schema, table))
        if pending is not None:
            columns, files = pending.columns, pending.files
        elif (shape := log.read().shape) is not None:
            columns, files = shape, log.state.files
        else:
            return None
        view = _Rows(self._store, log.folder, _named_in(columns, sql), files)
        name = f"millstream_{len(self._known)}"
        with translating(self._owner, f"reading {schema}.{table}"):
            self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}")
            self._connection.register(name, view)
            self._connection.execute(f"CREATE OR REPLACE VIEW {quote(schema)}.{quote(table)} AS FROM {name}")
        self._known.add((schema, table))
        return view


def _named_in(columns: Schema, sql: str) -> Schema:
    """Return the columns that a query can be about; all where it may mean more than it names."""
    asked = re.sub(r"(?i)\bcount\(\*\)", "", sql).lower()
    if re.search(r"\*|\bnatural\b|\bcolumns\b|^\s*from\b", asked):
        return columns
    wanted = [item for item in columns if item.name.lower().replace('"', '""') in asked]
    return Schema(tuple(wanted or list(columns)[:1]))


class _Rows:
    """The rows of some files as Arrow. Each scan of a query begins a stream of its own."""

    def __init__(self, store: Store, folder: str, columns: Schema, files: list[StoredFile]) -> None:
        self._store, self._folder, self._files = store, folder, files
        self._schema = stored_schema(columns)
        self.failure: MillstreamError | None = None
        """What went wrong under a scan: the engine only hands on its text."""

    def __arrow_c_schema__(self) -> Any:
        return self._schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return pa.RecordBatchReader.from_batches(self._schema, self._batches()).__arrow_c_stream__(requested_schema)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        try:
            for item in self._files:
                with closing(self._store.incoming(f"{self._folder}/{item.key}")) as opened:
                    yield from self._of_file(opened)
        except MillstreamError as error:
            self.failure = error
            raise

    def _of_file(self, opened: IO[bytes]) -> Iterator[pa.RecordBatch]:
        file = pq.ParquetFile(pa.PythonFile(opened, mode="r"), pre_buffer=False, buffer_size=1 << 20)
        has = set(file.schema_arrow.names)
        wanted = [name for name in self._schema.names if name in has]
        for group in range(file.num_row_groups):
            found = file.metadata.row_group(group)
            width = max(1, found.total_byte_size // max(1, found.num_rows))
            size = max(_BATCH_ROWS[0], min(_BATCH_ROWS[1], _BATCH_BYTES // width))
            for batch in file.iter_batches(size, row_groups=[group], columns=wanted, use_threads=False):
                yield self._fitted(batch, has)

    def _fitted(self, batch: pa.RecordBatch, has: set[str]) -> pa.RecordBatch:
        """Return rows with the table's columns: those a file lacks are NULL, those that were narrower are widened."""
        arrays = []
        for field in self._schema:
            if field.name not in has:
                arrays.append(pa.nulls(batch.num_rows, field.type))
                continue
            values = batch.column(field.name)
            arrays.append(values if values.type == field.type else values.cast(field.type))
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)
