"""Arrow batches as PostgreSQL's binary COPY stream, column types kept (pgpq encodes)."""

from __future__ import annotations

import binascii
import hashlib
import io
import re
from collections.abc import Iterator
from typing import Any

import pgpq
import pyarrow as pa
import pyarrow.compute as pc
from pgpq import encoders
from pgpq import schema as pg

from millstream_pipelines import moments
from millstream_pipelines.failpoints import reached
from millstream_pipelines.schema import Column, Schema

_SLICE_ROWS = 10_000  # encoded pieces stay a few MiB, so a batch is never in memory twice

_NATIVE = re.compile(
    r"smallint|integer|bigint|real|double precision|boolean|date|time|timestamp|timestamptz|bytea|text|json|jsonb|uuid"
    r"|character varying(\(\d+\))?|character(\(\d+\))?|numeric\(\d+(,\d+)?\)"
)


def is_native(column: Column) -> bool:
    """Return whether COPY can fill a column of this type directly. Others go through a text stage and a cast."""
    if not _NATIVE.fullmatch(column.type):
        return False
    return not column.type.startswith("numeric(") or pa.types.is_decimal(column.arrow().type)


class CopyStream(io.RawIOBase):
    """A file that COPY reads: encodes slice by slice. `digest` hashes what was sent.

    The driver reports an error of `read` as a cancelled COPY, which would look retriable; `failure` keeps the error.
    """

    def __init__(self, rows: pa.RecordBatch, schema: Schema, digest: hashlib.blake2b) -> None:
        self.rows = rows
        self.schema = schema
        self.digest = digest
        self.failure: Exception | None = None
        self._pieces = self._encoded()
        self._buffer = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes, b"" at the end."""
        while not self._buffer:
            try:
                piece = next(self._pieces, None)
            except Exception as error:
                self.failure = error
                raise
            if piece is None:
                return b""
            self.digest.update(piece)
            reached("in-copy")
            self._buffer = memoryview(piece)
        head, self._buffer = self._buffer[:size], self._buffer[size:]
        return bytes(head)

    def _encoded(self) -> Iterator[bytes]:
        first = _converted(self.rows.slice(0, 0), self.schema)
        encoder = pgpq.ArrowToPostgresBinaryEncoder.new_with_encoders(first.schema, _encoders(first, self.schema))
        yield bytes(encoder.write_header())
        for start in range(0, self.rows.num_rows, _SLICE_ROWS):
            yield bytes(encoder.write_batch(_converted(self.rows.slice(start, _SLICE_ROWS), self.schema)))
        yield bytes(encoder.finish())


def _converted(rows: pa.RecordBatch, schema: Schema) -> pa.RecordBatch:
    arrays = [_sendable(rows.column(i), column.type) for i, column in enumerate(schema)]
    return pa.RecordBatch.from_arrays(arrays, names=rows.schema.names)


def _sendable(values: pa.Array, sql_type: str) -> pa.Array:
    if sql_type == "uuid":
        return uuid_bytes(values)
    # As numbers: the encoder's own shift from Unix's epoch to PostgreSQL's refuses infinity.
    return moments.server_numbers(values) if sql_type in ("date", "timestamp", "timestamptz") else values


def _encoders(rows: pa.RecordBatch, schema: Schema) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for field, column in zip(rows.schema, schema, strict=True):
        if column.type == "jsonb":
            made[field.name] = encoders.StringEncoderBuilder.new_with_output(field, pg.Jsonb())
        else:
            made[field.name] = pgpq.ArrowToPostgresBinaryEncoder.infer_encoder(field)
    return made


def uuid_bytes(texts: pa.Array) -> pa.Array:
    """Return uuid texts as 16-byte values: one unhex over the whole column's characters, none per row."""
    if not len(texts):
        return pa.array([], pa.binary(16))
    filled = pc.fill_null(pc.replace_substring(texts, "-", ""), "0" * 32)
    if not _are_digits(filled):
        filled = pc.replace_substring_regex(filled, "[{}]", "")
    if not _are_digits(filled):
        raise ValueError("a uuid without 32 hex digits; casting should have refused the row")
    raw = binascii.unhexlify(filled.buffers()[2].slice(filled.offset * 32, len(filled) * 32))
    values = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(texts), [None, pa.py_buffer(raw)])
    return pc.if_else(pc.is_valid(texts), values, pa.scalar(None, pa.binary(16))) if texts.null_count else values


def _are_digits(texts: pa.Array) -> bool:
    return bool(pc.min_max(pc.binary_length(texts)).as_py() == {"min": 32, "max": 32})
