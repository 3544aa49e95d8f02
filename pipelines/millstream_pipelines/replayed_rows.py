"""Rows of the quarantine as batches again, typed as the source describes them. Pure.

A value goes by its text: JSON has fewer types than a source. A row in which one value is none of its column's type
keeps that column as text, as a file would send it; the rows beside it do not.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from millstream_pipelines.batch import REPLAYED_ID, Form
from millstream_pipelines.casting import cast_column
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.warehouses.set_aside import SetAside

_SHAPING = ("cast(", "effective_at", "expression(", "filter", "nul_byte", "primary_key", "required(", "unknown_column(")


def kind(item: SetAside) -> tuple[Form, frozenset[str] | None]:
    """Return what a row holds; of an older runner's rows the rule tells: only shaping kept them as read."""
    form = item.form or ("read" if item.rule.startswith(_SHAPING) else "shaped")
    return form, None if item.masked is None else frozenset(item.masked)


def widened(described: Schema, rows: Sequence[SetAside]) -> Schema:
    """Return a schema with the columns that only the rows know, as text; those without any value are left out."""
    known = set(described.names)
    seen = dict.fromkeys(name for item in rows for name, value in item.row.items() if value is not None)
    return described.with_columns((*described, *(Column(name) for name in seen if name not in known)))


def as_shaped(wanted: Schema, rows: Sequence[SetAside]) -> Schema:
    """Return the columns of rows that were shaped before, with the types the manifest gives them now."""
    names = dict.fromkeys([*wanted.primary_key, *(name for item in rows for name in item.row)])
    return Schema(tuple(wanted.get(name) or Column(name) for name in names), wanted.primary_key)


def batches(rows: Sequence[SetAside], schema: Schema, masked: frozenset[str] = frozenset()) -> list[pa.RecordBatch]:
    """Return the rows in one or two batches, each with their numbers in REPLAYED_ID: those whose values all have the
    described types, then the others. `masked` columns hold masks, which are text."""
    typed: dict[str, pa.Array] = {}
    plain: dict[str, pa.Array] = {}
    odd: dict[str, pa.BooleanArray] = {}
    for column in schema:
        json_text = column.type in ("json", "jsonb")
        texts = [_text(item.row.get(column.name), keep_objects=json_text) for item in rows]
        plain[column.name] = pa.array(texts, pa.string())
        made = cast_column(plain[column.name], "text" if column.name in masked else column.type)
        typed[column.name] = made.values
        if made.refused is not None:
            odd[column.name] = made.refused
    ids = pa.array([item.id for item in rows], pa.int64())
    if not odd:
        return [_batch({**typed, REPLAYED_ID: ids})]
    strange = pa.array([False] * len(rows))
    for refused in odd.values():
        strange = pc.or_(strange, refused)
    mixed = {name: plain[name] if name in odd else values for name, values in typed.items()}
    parts = [
        _batch({**typed, REPLAYED_ID: ids}).filter(pc.invert(strange)),
        _batch({**mixed, REPLAYED_ID: ids}).filter(strange),
    ]
    return [part for part in parts if part.num_rows]


def _batch(columns: dict[str, pa.Array]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def _text(value: Any, *, keep_objects: bool) -> str | None:
    """Return the text of a JSON value as `json_rows` wrote it."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dict) and set(value) == {"base64"} and not keep_objects:
        return base64.b64decode(value["base64"]).decode()  # text with NUL, for which jsonb has no place
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
