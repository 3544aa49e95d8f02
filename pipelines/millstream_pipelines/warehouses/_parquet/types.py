"""SQL types in PostgreSQL's words as Parquet stores them.

| type | stored as | |
|---|---|---|
| smallint … bigint, real, double precision, boolean, bytea, text | the same | exact |
| numeric(p,s), p ≤ 38 | DECIMAL(p,s) | exact; beyond 38 digits most readers have no type |
| uuid | UUID | |
| json, jsonb | JSON | the text as it came |
| date, timestamp, timestamptz | DATE, TIMESTAMP in microseconds, UTC for instants | no infinity |
| time | TIME in microseconds | no 24:00 |
| arrays of these, of numeric and of text | LIST | one dimension that begins at 1 |
| numeric without limits or p > 38, intervals, ranges, inet, enums, bits, timetz … | text | as PostgreSQL spells it |

Every field keeps the SQL type's name in its metadata, `millstream.type`. A value that its type in Parquet cannot hold
is set aside: text is never guessed at, and nothing is rounded.
"""

from __future__ import annotations

import re
from functools import cache

import pyarrow as pa
import pyarrow.compute as pc

from millstream_pipelines import moments
from millstream_pipelines.batch import Reject
from millstream_pipelines.casting import as_text, cast_column
from millstream_pipelines.json_rows import json_rows
from millstream_pipelines.schema import Column, Schema, arrow_type, normalized
from millstream_pipelines.text_buffers import contents

TYPE = b"millstream.type"
_MAX_SHOWN = 100  # characters of a value in a message
_LISTED = (
    "smallint", "integer", "bigint", "real", "double precision", "boolean", "bytea", "uuid", "json", "jsonb", "date",
    "time", "timestamp", "timestamptz", "numeric", "text", "character", "character varying", "inet", "cidr", "interval",
)  # fmt: skip
_ITEM = re.compile(r'"((?:[^"\\]|\\.)*)"|([^,"{}\\]+)', re.DOTALL)


@cache
def stored_type(name: str) -> pa.DataType:
    """Return Parquet's type for an SQL type, as Arrow spells it."""
    name = normalized(name)
    base = re.sub(r"\(.*?\)", "", name)
    if base == "uuid":
        return pa.uuid()
    if base in ("json", "jsonb"):
        return pa.json_(pa.string())
    if base in ("time", "timestamp", "timestamptz"):
        return arrow_type(base)
    if base.endswith("[]") and base[:-2] in _LISTED:
        return pa.list_(stored_type(name[:-2]))
    return arrow_type(name)


def stored_field(column: Column) -> pa.Field:
    """Return the field of a column in a file: its SQL type is in the metadata."""
    return pa.field(column.name, stored_type(column.type), metadata={TYPE: column.type.encode()})


def stored_schema(schema: Schema) -> pa.Schema:
    """Return the schema of a file."""
    return pa.schema([stored_field(column) for column in schema])


def stored(batch: pa.RecordBatch, schema: Schema) -> tuple[pa.RecordBatch, list[Reject]]:
    """Return shaped rows as they are stored, and those with a value that Parquet cannot hold, with the rule."""
    arrays, keep, rejects = [], None, list[Reject]()
    for column, values in zip(schema, batch.columns, strict=True):
        made = _stored(values, column.type)
        arrays.append(made)
        if made.null_count == values.null_count:
            continue
        lost = pc.and_(pc.is_valid(values), pc.is_null(made))
        lost = lost if keep is None else pc.and_(keep, lost)
        keep = pc.invert(lost) if keep is None else pc.and_not(keep, lost)
        rejects += _rejects(column, batch.filter(lost), as_text(values.filter(lost)))
    made_batch = pa.RecordBatch.from_arrays(arrays, schema=stored_schema(schema))
    return (made_batch if keep is None else made_batch.filter(keep)), rejects


def _rejects(column: Column, rows: pa.RecordBatch, texts: pa.StringArray) -> list[Reject]:
    cure = f"`columns: [{{name: {column.name}, type: text}}]` takes it, or give an `expression`"
    return [
        Reject(
            f"cast({column.name})",
            f"column '{column.name}': Parquet's {_shown(column.type)} cannot hold '{str(text)[:_MAX_SHOWN]}'; {cure}",
            row,
            "shaped",
        )
        for row, text in zip(json_rows(rows), texts.to_pylist(), strict=True)
    ]


def _shown(sql_type: str) -> str:
    kind = stored_type(sql_type)
    return sql_type if pa.types.is_string(kind) else str(kind).removeprefix("extension<arrow.").removesuffix(">")


def _stored(values: pa.Array, sql_type: str) -> pa.Array:
    """Return a column as it is stored, NULL where its type in Parquet has no such value. Its text was cast before."""
    kind = stored_type(sql_type)
    if pa.types.is_temporal(kind):
        plain = cast_column(values, normalized(re.sub(r"\(.*?\)", "", sql_type))).values
        return _finite(plain)
    if kind == pa.uuid():
        return _uuids(values)
    if pa.types.is_list(kind):
        return _lists(values, normalized(sql_type)[:-2])
    return pa.ExtensionArray.from_storage(kind, values) if isinstance(kind, pa.BaseExtensionType) else values


def _finite(values: pa.Array) -> pa.Array:
    """Refuse infinity and 24:00, which other readers take for other values."""
    if moments.is_plain(values):
        return values
    kind = values.type
    numbers = values.view(pa.int32() if kind.bit_width == 32 else pa.int64())
    if pa.types.is_time(kind):
        fits = pc.less(numbers, moments.DAY_US)
    else:
        infinite = moments.INFINITE_DAYS if pa.types.is_date(kind) else moments.INFINITE_US
        fits = pc.less(pc.abs(numbers), infinite)
    return pc.if_else(fits, values, pa.scalar(None, kind))


def _uuids(text: pa.StringArray) -> pa.Array:
    """Return uuids as bytes: digits are taken together from one buffer, not value by value."""
    given = text.drop_null() if text.null_count else text
    packed = _packed(given)
    if packed is None:
        text = pc.replace_substring_regex(cast_column(text, "uuid").values, "[-{}]", "")
        packed = _packed(text.drop_null())
    storage = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(text) - text.null_count, [None, packed])
    if text.null_count:
        places = pc.subtract(pc.cumulative_sum(pc.cast(text.is_valid(), pa.int64())), 1)
        storage = storage.take(pc.if_else(text.is_valid(), places, pa.scalar(None, pa.int64())))
    return pa.ExtensionArray.from_storage(pa.uuid(), storage)


def _packed(text: pa.StringArray) -> pa.Buffer | None:
    """Return the bytes of uuids of one length; None where that does not tell their digits apart."""
    lengths = pc.min_max(pc.binary_length(text)).as_py()
    if lengths["min"] != lengths["max"] or lengths["min"] not in (None, 32, 36):
        return None
    try:
        found = bytes.fromhex(contents(text).translate(None, b"-").decode("ascii"))
    except ValueError:
        return None
    return pa.py_buffer(found) if len(found) == 16 * len(text) else None


def _lists(text: pa.StringArray, element: str) -> pa.Array:
    """Return PostgreSQL's array texts as lists, NULL for what is no list of one dimension, or has such an element."""
    parsed = [None if value is None else _items(value) for value in text.to_pylist()]
    given = pa.array([item for items in parsed for item in items or ()], pa.string())
    flat = _stored(cast_column(given, element).values, element)
    if flat.null_count != given.null_count:
        lost = pc.and_(pc.is_valid(given), pc.is_null(flat)).to_pylist()
        at = 0
        for place, items in enumerate(parsed):
            end = at + len(items or ())
            parsed[place] = None if any(lost[at:end]) else items
            at = end
        return _lists(pa.array([None if items is None else _text(items) for items in parsed], pa.string()), element)
    ends = [0]
    for items in parsed:
        ends.append(ends[-1] + len(items or ()))
    nulls = pa.array([items is None for items in parsed], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), flat, mask=nulls)


def _items(text: str) -> list[str | None] | None:
    """Return the elements of an array text; None for bounds of its own, or a further dimension."""
    inner = text.strip()
    if not (inner.startswith("{") and inner.endswith("}")):
        return None
    found: list[str | None] = []
    inner, at = inner[1:-1], 0
    if not inner.strip():
        return found
    while True:
        match = _ITEM.match(inner, at)
        if match is None:
            return None
        quoted, plain = match.groups()
        if quoted is not None:
            found.append(re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL))
        else:
            found.append(None if plain.strip().upper() == "NULL" else plain.strip())
        at = match.end()
        if at == len(inner):
            return found
        if inner[at] != ",":
            return None
        at += 1


def _text(items: list[str | None]) -> str:
    """Return elements as an array text."""

    def written(item: str | None) -> str:
        return "NULL" if item is None else '"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"'

    return "{" + ",".join(map(written, items)) + "}"
