"""Rows as JSON values, for the quarantine table: exact, readable, and nothing that jsonb refuses."""

from __future__ import annotations

import base64
import json
import math
from datetime import date, datetime, time
from typing import Any

import pyarrow as pa

from millstream_pipelines import moments
from millstream_pipelines.casting import as_text


def json_rows(rows: pa.RecordBatch | pa.Table) -> list[dict[str, Any]]:
    """Return each row as column → JSON value.

    Numbers that JSON cannot hold (decimals, NaN, infinity, a zero with a minus), times and intervals are text; bytes
    are text in PostgreSQL's `\\x…` form. Text with NUL, which jsonb refuses, is {"base64": "…"} of its UTF-8 bytes.
    """
    columns = [[_json_value(item) for item in _items(column)] for column in rows.columns]
    names = rows.schema.names
    if not columns:
        return [{} for _ in range(rows.num_rows)]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _items(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    kind = column.type
    if (pa.types.is_timestamp(kind) or pa.types.is_time(kind)) and "ns" in str(kind):
        return list(column.cast(pa.string()).to_pylist())  # Python's times end at the microsecond
    if pa.types.is_temporal(kind) and not pa.types.is_duration(kind):
        array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        if not moments.is_plain(array):
            return list(moments.spelled(array).to_pylist())
    if pa.types.is_duration(kind):
        return [item for chunk in _chunks(column) for item in as_text(chunk).to_pylist()]
    if pa.types.is_nested(kind):
        return [item for chunk in _chunks(column) for item in _nested(chunk)]
    return list(column.to_pylist())


def _nested(values: pa.Array) -> list[Any]:
    """Return values as the target would hold them, so that a replay loads the same; what JSON cannot hold as it is."""
    texts = as_text(values).to_pylist()
    plain = moments.spelled_within(values)
    return [plain[n].as_py() if text is None else json.loads(text) for n, text in enumerate(texts)]


def _chunks(column: pa.Array | pa.ChunkedArray) -> list[pa.Array]:
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return chunks or [pa.array([], column.type)]


def _json_value(value: Any) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return {"base64": base64.b64encode(value.encode()).decode()} if "\0" in value else value
    if isinstance(value, float):
        return value if math.isfinite(value) and (value or math.copysign(1, value) > 0) else str(value)
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(key).replace("\0", ""): _json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    return str(value)
