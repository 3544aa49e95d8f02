"""Rows as Arrow batches: one binary COPY in one snapshot, never more than a few MiB in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from millstream_pipelines.batch import MAX_BATCH_BYTES, MAX_BATCH_ROWS, Batch, Position
from millstream_pipelines.errors import DataError
from millstream_pipelines.schema import Schema
from millstream_pipelines.sources._postgres.connection import dsn_of, explained, session_settings
from millstream_pipelines.sources._postgres.cursor import Cursor
from millstream_pipelines.sources._postgres.exact import exact

if TYPE_CHECKING:
    from millstream_pipelines.sources._postgres.config import PostgresConfig

_DRIVER_BATCH_BYTES = 4 * 1024 * 1024  # several batches are in flight in a run; larger ones were not faster
_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class Rows:
    """One query being read. `close` from another place ends the read in its middle."""

    def __init__(self, config: PostgresConfig, owner: str, stream: str) -> None:
        self._config, self._owner, self._stream = config, owner, stream
        self._open: list[Any] = []
        self._connection: Any = None

    def batches(self, sql: str, schema: Schema) -> Iterator[Any]:
        """Yield record batches of the schema's storage types; RetriableError when the connection breaks."""
        import adbc_driver_manager
        import adbc_driver_postgresql
        from adbc_driver_manager._reader import AdbcRecordBatchReader

        try:
            # Not the driver's DB-API: that loads Arrow's datasets, and its readers' errors carry no SQLSTATE, so that a
            # broken connection would look like a broken query.
            database = self._keep(adbc_driver_postgresql.connect(dsn_of(self._config)))
            self._connection = self._keep(adbc_driver_manager.AdbcConnection(database))
            statement = self._keep(adbc_driver_manager.AdbcStatement(self._connection))
            for setting in (*session_settings(self._config), _SNAPSHOT):
                statement.set_sql_query(setting)
                statement.execute_update()
            hint = adbc_driver_postgresql.StatementOptions.BATCH_SIZE_HINT_BYTES.value
            statement.set_options(**{hint: str(_DRIVER_BATCH_BYTES)})
            statement.set_sql_query(sql)
            handle, _ = statement.execute_query()
            for batch in self._keep(AdbcRecordBatchReader._import_from_c(handle.address)):
                yield from self._sized(self._exact(batch, schema))
        except adbc_driver_manager.Error as error:
            raise explained(error, error.sqlstate, self._config, self._owner, self._stream) from error
        finally:
            self.close()

    def cancel(self) -> None:
        """End the query, from another thread; a read that has ended takes no harm."""
        if self._connection is not None:
            with contextlib.suppress(Exception):  # it may be gone already
                self._connection.cancel()

    def close(self) -> None:
        """Give up the connection, wherever the read is."""
        while self._open:
            self._open.pop().close()

    def _keep(self, opened: Any) -> Any:
        """Return something opened, to be closed before what was opened earlier."""
        self._open.append(opened)
        return opened

    def _exact(self, batch: Any, schema: Schema) -> Any:
        arrays = [exact(array, column) for array, column in zip(batch.columns, schema, strict=True)]
        for array, column in zip(arrays, schema, strict=True):
            if pa.types.is_string(array.type):
                try:
                    array.validate(full=True)
                except pa.ArrowInvalid as error:
                    raise DataError(
                        f"{self._owner}: stream '{self._stream}': column '{column.name}' holds bytes that are no UTF-8 "
                        "(the database's encoding is SQL_ASCII); read it by a query with convert_from()",
                        reason="UnreadableData",
                    ) from error
        return pa.RecordBatch.from_arrays(arrays, names=schema.names)

    def _sized(self, batch: Any) -> Iterator[Any]:
        if batch.num_rows <= MAX_BATCH_ROWS and (batch.nbytes <= MAX_BATCH_BYTES or batch.num_rows == 1):
            yield batch
            return
        half = (batch.num_rows + 1) // 2
        yield from self._sized(batch.slice(0, half))
        yield from self._sized(batch.slice(half))


def vouched(rows: Any, position: Position | None = None) -> Batch:
    """Return rows that a server has made of exactly the described types."""
    return Batch(rows, position, vouched=True)


def positioned(batches: Iterator[Any], cursor: Cursor) -> Iterator[Batch]:
    """Turn ordered batches into such with positions. Rows of one cursor value stay on one side of a position.

    The last value of a batch may go on in the next one: its rows are held back and go in front of that. A value that
    fills a whole batch goes without a position.
    """
    held: Any = None
    for batch in batches:
        if held is not None:
            if held.num_rows + batch.num_rows > MAX_BATCH_ROWS or held.nbytes + batch.nbytes > MAX_BATCH_BYTES:
                yield vouched(held)
            else:
                batch = _joined(held, batch)
            held = None
        values = batch.column(batch.schema.get_field_index(cursor.column))
        count = cursor.complete(values)
        if count == batch.num_rows:
            yield vouched(batch, cursor.position(values[count - 1]))
        elif count:
            yield vouched(batch.slice(0, count), cursor.position(values[count - 1]))
            held = batch.slice(count)
        else:
            held = batch
    if held is not None:
        yield vouched(held, cursor.position(held.column(held.schema.get_field_index(cursor.column))[-1]))


def _joined(first: Any, second: Any) -> Any:
    """Put two batches into one; a column that is text in one of them is text in both."""
    if first.schema == second.schema:
        return pa.concat_batches([first, second])
    names = [
        left if left.type == right.type else left.with_type(pa.string())
        for left, right in zip(first.schema, second.schema, strict=True)
    ]
    target = pa.schema(names)
    return pa.concat_batches([first.cast(target), second.cast(target)])


__all__ = ["Rows", "positioned", "vouched"]
