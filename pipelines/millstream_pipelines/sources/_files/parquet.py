"""parquet: types are kept where the warehouse has them; the rest is made exact by `_fitted`, never approximate.

Row groups already committed are not read. Nested values become JSON text; dictionaries are decoded; nanoseconds that
microseconds cannot hold are refused, cut or sent as text, as `nanoseconds` says.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from millstream_pipelines import moments
from millstream_pipelines.errors import DataError
from millstream_pipelines.schema import Schema, arrow_type, schema_of, sql_type
from millstream_pipelines.sources._files.config import FileStream
from millstream_pipelines.sources._files.piece import Piece, Skip
from millstream_pipelines.sources._files.unpack import Part, damage_explained

# A batch this large on average leaves room for the decoder's own buffers within 64 MiB.
_BATCH_BYTES = 16 * 1024 * 1024
_BUFFER_BYTES = 1 << 20


class ParquetReader:
    """One part being read; it must be seekable."""

    def __init__(self, part: Part, stream: FileStream, batch_rows: int) -> None:
        self._part, self._stream, self._batch_rows = part, stream, batch_rows
        with damage_explained(part.where):
            self._file = pq.ParquetFile(part.file, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        names = self._file.schema_arrow.names
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(f"{part.where} has several columns named '{twice[0]}'", reason="DuplicateColumn")

    def schema(self) -> Schema:
        """Return the columns that the file declares."""
        declared = schema_of(self._file.schema_arrow)
        if self._stream.nanoseconds != "text":
            return declared
        kinds = {item.name: item.type for item in self._file.schema_arrow}
        return declared.with_columns(
            type(column)(column.name, "text") if _in_nanoseconds(kinds[column.name]) else column for column in declared
        )

    def pieces(self, columns: tuple[str, ...], skip: Skip) -> Iterator[Piece]:
        """Yield the rows that `skip` leaves, row group by row group."""
        known = self._file.schema_arrow.names
        wanted = [name for name in known if name in columns] if columns else None
        for group in range(self._file.num_row_groups):
            found = self._file.metadata.row_group(group)
            if skip.rows >= found.num_rows:
                skip.rows -= found.num_rows
                continue
            width = max(1, found.total_byte_size // max(1, found.num_rows))
            rows = max(1, min(self._batch_rows, _BATCH_BYTES // width))
            with damage_explained(self._part.where):
                batches = self._file.iter_batches(rows, row_groups=[group], columns=wanted, use_threads=False)
                for batch in batches:
                    yield Piece(self._fitted(batch))

    def _fitted(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        arrays = [self._column(name, column) for name, column in zip(batch.schema.names, batch.columns, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)

    def _column(self, name: str, values: pa.Array) -> pa.Array:
        """Return a column as its SQL type is stored, see `schema.arrow_type`."""
        if isinstance(values, pa.ExtensionArray):
            values = values.storage
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        kind, target = values.type, arrow_type(sql_type(values.type))
        if kind == target:
            return values
        if pa.types.is_nested(kind):
            python = moments.spelled_within(values).to_pylist()
            return pa.array([None if value is None else nested_text(value) for value in python], pa.string())
        if pa.types.is_duration(kind):
            return _interval(values, kind)
        if _in_nanoseconds(kind):
            return self._microseconds(name, values, target)
        try:
            return values.cast(target)
        except pa.ArrowInvalid:
            if not pa.types.is_timestamp(kind):
                raise
            return moments.spelled(values)  # beyond what microseconds count: the cast sets such rows aside

    def _microseconds(self, name: str, values: pa.Array, target: pa.DataType) -> pa.Array:
        if self._stream.nanoseconds == "text":
            return _iso(values)
        try:
            return values.cast(target, safe=self._stream.nanoseconds == "refuse")
        except pa.ArrowInvalid as error:
            raise DataError(
                f"{self._part.where}: column '{name}' holds nanoseconds, and a {sql_type(values.type)} ends at "
                f"microseconds; set `nanoseconds` of stream '{self._stream.name}' to truncate or text",
                reason="LossyType",
            ) from error


def _in_nanoseconds(kind: pa.DataType) -> bool:
    return bool((pa.types.is_timestamp(kind) or pa.types.is_time64(kind)) and kind.unit == "ns")


def _iso(values: pa.Array) -> pa.Array:
    """Return nanosecond times as ISO text, UTC where they are instants."""
    zoned = pa.types.is_timestamp(values.type) and values.type.tz is not None
    text = values.cast(pa.timestamp("ns") if zoned else values.type).cast(pa.string())
    return pc.binary_join_element_wise(text, "Z", "") if zoned else text


def _interval(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return durations as interval text. Nanoseconds become fractions of microseconds: the cast says if it minds."""
    words = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
    numbers = values.cast(pa.int64())
    if kind.unit == "ns":
        numbers = pc.divide(numbers.cast(pa.decimal128(22, 3)), pa.scalar(Decimal(1000)))
        words["ns"] = "microseconds"
    return pc.binary_join_element_wise(numbers.cast(pa.string()), words[kind.unit], " ")


def nested_text(value: Any) -> str:
    """Return a nested value as JSON text: decimals digit by digit, times as ISO text, bytes as base64."""
    return orjson.dumps(_plain(value), default=_written, option=orjson.OPT_NON_STR_KEYS).decode()


def _plain(value: Any) -> Any:
    """Return maps as objects, and everything that JSON lacks as what stands for it."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        if value and all(isinstance(item, tuple) for item in value):
            return {str(key): _plain(item) for key, item in value}
        return [_plain(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value


def _written(value: Any) -> Any:
    if isinstance(value, Decimal):
        return orjson.Fragment(format(value, "f").encode())
    if isinstance(value, (date, time, datetime)):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)
