"""Records of the source `rest`: types, exact numbers, nesting, and what fits no column."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from millstream_pipelines.errors import DataError
from millstream_pipelines.sources._rest.body import dumped, parsed
from rest_reading import batches, rows, source
from scripted_api import Answer, ScriptedApi, serving


@pytest.fixture
def api() -> Iterator[ScriptedApi]:
    """Return an API on loopback without routes."""
    with serving() as running:
        yield running


def sends(api: ScriptedApi, text: str | bytes) -> None:
    content = text.encode() if isinstance(text, str) else text
    api.routes["/items"] = lambda _: Answer(content)


@pytest.mark.parametrize(
    ("values", "type_name", "read"),
    [
        ("1, null, -9223372036854775808", "bigint", [1, None, -(2**63)]),
        ("1, 9223372036854775808", "numeric", ["1", "9223372036854775808"]),
        ("1, 0.1, 1e300", "double precision", [1.0, 0.1, 1e300]),
        ("0.12345678901234567890, 1", "numeric", ["0.12345678901234567890", "1"]),
        ("1e400", "numeric", ["1E+400"]),
        ("9007199254740993, 0.5", "numeric", ["9007199254740993", "0.5"]),
        ("true, false, null", "boolean", [True, False, None]),
        ('"", "a", null', "text", ["", "a", None]),
        ("null, null", "text", [None, None]),
        ('1, "a", true, 0.50', "text", ["1", "a", "true", "0.50"]),
        (
            '{"a": 0.10}, [1, 123456789012345678901234567890]',
            "jsonb",
            ['{"a":0.10}', "[1,123456789012345678901234567890]"],
        ),
        ('"a", {"b": 1}', "text", ["a", '{"b":1}']),
        ("NaN, 1.5", "text", ["NaN", "1.5"]),
    ],
)
def test_types_follow_the_values_and_lose_nothing(api: ScriptedApi, values: str, type_name: str, read: Any) -> None:
    listed = values.split(", ") if "[" not in values else [values[:11], values[13:]]
    sends(api, "[" + ",".join(f'{{"v": {value}}}' for value in listed) + "]")
    column = source(api).describe("items").schema.get("v")
    assert column is not None
    assert column.type == type_name
    assert [row["v"] for row in rows(api)] == read


def test_declared_types_are_cast_and_misfits_go_as_text(api: ScriptedApi) -> None:
    columns = {"at": "timestamptz", "price": "numeric(8,2)", "n": "integer", "ok": "boolean"}
    good = '{"at": "2026-01-02T03:04:05+02:00", "price": 12.5, "n": "7", "ok": true}'
    sends(api, f"[{good}]")
    (batch,) = batches(api, stream={"columns": columns})
    assert batch.data.schema.types == [pa.timestamp("us", "UTC"), pa.decimal128(8, 2), pa.int32(), pa.bool_()]
    assert batch.data.to_pylist()[0]["price"] == Decimal("12.50")
    sends(api, f'[{good}, {{"at": "soon", "price": "dear", "n": 7.5, "ok": 3}}]')
    (batch,) = batches(api, stream={"columns": columns})
    assert set(batch.data.schema.types) == {pa.string()}
    assert batch.data.to_pylist()[1] == {"at": "soon", "price": "dear", "n": "7.5", "ok": "3"}


def test_a_later_page_may_bring_misfits_and_new_columns(api: ScriptedApi) -> None:
    pages = {"0": [{"id": 1}], "1": [{"id": "two", "new": 0.5}], "2": []}
    api.routes["/items"] = lambda asked: pages[asked.query["offset"]]
    stream = {"pagination": {"type": "offset"}}
    assert source(api, stream=stream).describe("items").schema.names == ["id"]
    first, second = batches(api, stream=stream, batchRows=1)
    assert first.data.schema.types == [pa.int64()]
    assert second.data.to_pylist() == [{"id": "two", "new": 0.5}]
    assert second.data.schema.types == [pa.string(), pa.float64()]
    assert rows(api, stream=stream) == [{"id": "1", "new": None}, {"id": "two", "new": 0.5}]


def test_nesting_50_deep_survives(api: ScriptedApi) -> None:
    deep = "[" * 50 + "0.10" + "]" * 50
    sends(api, f'[{{"v": {deep}}}]')
    assert rows(api) == [{"v": deep}]


def test_nesting_beyond_reason_is_no_crash(api: ScriptedApi) -> None:
    deep = "[" * 500 + '{"a":0.10,"b":"\\u00e9"},null,[]' + "]" * 500
    assert dumped(parsed(deep.encode())) == deep
    sends(api, f'[{{"v": {deep}}}]')
    assert rows(api) == [{"v": deep}]
    with pytest.raises(ValueError, match="nested too deep"):
        parsed(b"[" * 200_000 + b"]" * 200_000)


def test_half_a_surrogate_pair_is_set_aside(api: ScriptedApi) -> None:
    sends(api, r'[{"id": 1, "v": "\ud83d\ude00"}, {"id": 2, "v": "\ud83d"}, {"id": 3, "v": "nul \u0000"}]')
    (batch,) = batches(api)
    assert [row["v"] for row in batch.data.to_pylist()] == ["\U0001f600", "nul \0"]
    (reject,) = batch.rejects
    assert reject.rule == "malformed_row"
    assert reject.row["_raw"] == r'{"id":2,"v":"\ud83d"}'
    assert batch.rows_read == 3


def test_records_can_be_one_object_or_plain_values(api: ScriptedApi) -> None:
    sends(api, '{"a": {"b": [{"id": 5}]}}')
    assert rows(api, stream={"recordPath": "a.b.0"}) == [{"id": 5}]
    sends(api, "[1, 2]")
    assert rows(api) == [{"value": 1}, {"value": 2}]
    sends(api, '[{"id": 1}, {}]')
    assert rows(api) == [{"id": 1}, {"id": None}]


def test_an_empty_api_has_no_columns_unless_they_are_named(api: ScriptedApi) -> None:
    for body in ("[]", "", "null"):
        sends(api, body)
        with pytest.raises(DataError, match=r"has no records now.*name them under the stream's `columns`"):
            source(api).describe("items")
        assert len(source(api).streams()[0].schema) == 0
        assert rows(api) == []
    named = source(api, stream={"columns": {"id": "bigint"}}).describe("items")
    assert [(column.name, column.type) for column in named.schema] == [("id", "bigint")]
    sends(api, "[{}, {}]")
    (batch,) = batches(api)
    assert (batch.data.num_rows, len(batch.rejects), batch.rows_read) == (0, 2, 2)


def test_wide_values_pass(api: ScriptedApi) -> None:
    sends(api, json.dumps([{"v": "ü" * 100_000}]))
    assert rows(api) == [{"v": "ü" * 100_000}]
