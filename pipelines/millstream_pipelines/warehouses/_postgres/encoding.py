"""Arrow batches as PostgreSQL's binary COPY stream, column types kept (pgpq encodes)."""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from typing import Any

import pgpq
import pyarrow as pa
import pyarrow.compute as pc
from pgpq import encoders
from pgpq import schema as pg

from millstream_pipelines import moments
from millstream_pipelines.raw_copy import TRAILER
from millstream_pipelines.schema import Schema
from millstream_pipelines.warehouses._postgres.numeric_binary import numeric_bytes

_SLICE_BYTES = 2 * 1024 * 1024  # of a batch: it is never in memory twice


def encoded(rows: pa.RecordBatch, schema: Schema) -> Iterator[memoryview]:
    """Yield the rows as a binary COPY has them, without header and trailer, in pieces of a few MiB."""
    slices = -(-rows.nbytes // _SLICE_BYTES) or 1
    slice_rows = -(-rows.num_rows // slices) or 1
    for start in range(0, rows.num_rows, slice_rows):
        part = _converted(rows.slice(start, slice_rows), schema)
        encoder = pgpq.ArrowToPostgresBinaryEncoder.new_with_encoders(part.schema, _encoders(part, schema))
        encoder.write_header()
        first = encoder.write_batch(part)
        rest = encoder.finish()  # pgpq keeps back what it likes
        yield memoryview(first + rest if first else rest)[: -len(TRAILER)]


def _converted(rows: pa.RecordBatch, schema: Schema) -> pa.RecordBatch:
    arrays = [_sendable(rows.column(i), column.type) for i, column in enumerate(schema)]
    return pa.RecordBatch.from_arrays(arrays, names=rows.schema.names)


def _sendable(values: pa.Array, sql_type: str) -> pa.Array:
    if sql_type == "uuid" and not pa.types.is_fixed_size_binary(values.type):
        return uuid_bytes(values)
    if sql_type == "numeric":
        return numeric_bytes(values)
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
