"""Rows that bring their own line of JSON: what no column has is read from it, as the line-by-line reader would."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from millstream_pipelines.batch import LINE
from millstream_pipelines.json_values import DECODER, as_json, as_text

_NESTED = b"jsonb"


def with_lines(data: pa.RecordBatch, lines: pa.StringArray, nested: Iterable[str]) -> pa.RecordBatch:
    """Return a batch with its lines; `nested`: the columns whose values are JSON text when they are read from there."""
    return data.append_column(pa.field(LINE, pa.string(), metadata={_NESTED: json.dumps(sorted(nested))}), lines)


def read_from_lines(data: pa.RecordBatch) -> pa.RecordBatch:
    """Return the rows of a batch with lines, as text columns: every key of the lines, nested values as JSON text."""
    return text_columns([DECODER.decode(line) for line in data.column(LINE).to_pylist()], (), _nested(data))


def column_in_lines(data: pa.RecordBatch, name: str) -> pa.Array:
    """Return a column that a batch has in its lines only; NULLs where it has not even those."""
    if LINE not in data.schema.names or name not in (nested := _nested(data)):
        return pa.nulls(data.num_rows)
    return text_column([DECODER.decode(line).get(name) for line in data.column(LINE).to_pylist()], name in nested)


def text_columns(records: list[dict[str, Any]], before: Iterable[str], nested: Iterable[str]) -> pa.RecordBatch:
    """Return records as text columns, those `before` first. Raises UnicodeEncodeError, orjson.JSONEncodeError."""
    names: dict[str, Any] = dict.fromkeys(before)
    for record in records:
        names.update(record)
    for name in names:
        name.encode()
    arrays = [text_column([record.get(name) for record in records], name in nested) for name in names]
    if not arrays:  # objects without keys are rows all the same
        return pa.RecordBatch.from_struct_array(pa.array([{}] * len(records), pa.struct([])))
    return pa.RecordBatch.from_arrays(arrays, names=list(names))


def text_column(values: list[Any], nested: bool) -> pa.Array:
    """Return one text column; columns of one kind are written without a call per value."""
    kinds = set(map(type, values)) - {type(None)}
    if kinds <= {str} and not nested:
        return pa.array(values, pa.string())
    if kinds == {bool}:
        return pa.array(values, pa.bool_()).cast(pa.string())
    write = as_json if nested else as_text
    return pa.array([write(value) for value in values], pa.string())


def _nested(data: pa.RecordBatch) -> frozenset[str]:
    metadata = data.schema.field(LINE).metadata or {}
    return frozenset(json.loads(metadata.get(_NESTED, b"[]")))
