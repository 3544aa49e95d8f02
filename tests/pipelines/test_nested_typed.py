"""Rows that a reader takes apart by the types of earlier ones come out as those that are taken apart by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from millstream_api.stream import Nested
from millstream_pipelines.batch import LINE
from millstream_pipelines.casting import cast_column
from millstream_pipelines.inference import infer_json
from millstream_pipelines.json_values import DECODER
from millstream_pipelines.nested import Opened, Opener
from millstream_pipelines.nested_layout import Layout, layout_of
from millstream_pipelines.nested_typed import opened_typed
from millstream_pipelines.own_lines import column_in_lines, read_from_lines, text_columns
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.sources._files.config import FileStream
from millstream_pipelines.sources._files.json import JsonReader
from millstream_pipelines.sources._files.json_typed import typed
from millstream_pipelines.sources._files.unpack import Part

BOTH = Nested(objects="columns", lists="tables", max_depth=4)
SEEN = [
    '{"id": 1, "price": 1.25, "ok": true, "at": "2026-01-01T00:00:00Z", "note": "n"}',
    '{"id": 2, "who": {"name": "Ann", "score": 0.5, "at": {"city": "Ghent"}}, "ns": [1, 2]}',
    '{"id": 3, "items": [{"sku": "a", "price": 4.50, "n": 1, "tags": ["x"], "o": {"k": 1}}]}',
    '{"id": 4, "who": {"none": null}, "items": null}',
]


class Both:
    """A stream of which some lines were seen, and both ways to read more."""

    def __init__(self, seen: list[str], nested: Nested = BOTH) -> None:
        records = [DECODER.decode(line) for line in seen]
        names = dict.fromkeys(name for record in records for name in record)
        kinds = {name: infer_json([record.get(name) for record in records]) for name in names}
        self.described = Schema(tuple(Column(name, kind) for name, kind in kinds.items()))
        self.nested = frozenset(name for name, kind in kinds.items() if kind == "jsonb")
        self.opener = Opener(nested, "stream 's'")
        self.opener.opened(text_columns(records, (), self.nested), self.nested)

    @property
    def layout(self) -> Layout | None:
        return layout_of(self.described, self.opener.places, self.opener.types)

    def typed(self, *lines: str, end: str = "\n") -> pa.RecordBatch | None:
        assert self.layout is not None
        return typed(end.join(lines).encode(), self.layout, self.nested)

    def apart(self, *lines: str) -> dict[str, Any]:
        """Return what lines hold, each column in the type told, read by themselves."""
        batch = text_columns([DECODER.decode(line) for line in lines], (), self.nested)
        types = dict(self.opener.types)
        found = self.opener.opened(batch, self.nested)
        self.opener.types = types  # what was told first counts
        return self.told(batch, found)

    def told(self, batch: pa.RecordBatch, found: Opened) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name in self.described.names:
            if name not in self.nested and name in batch.schema.names:
                made[name] = values(batch.column(name), str(self.described.get(name).type))  # type: ignore[union-attr]
        made |= {name: values(column, self.kind((), name)) for name, column in found.columns.items()}
        for child in found.children:
            rows = {name: values(column, self.kind(child.path, name)) for name, column in child.columns.items()}
            places = [place.to_pylist() for place in child.places]
            made["/".join(child.path)] = (child.parents.to_pylist(), places, without_nulls(rows))
        return without_nulls(made)

    def kind(self, path: tuple[str, ...], name: str) -> str:
        return self.opener.types.get((path, name), "text")


def values(column: pa.Array, kind: str) -> list[Any]:
    """Return a column as the warehouse gets it: its values, "refused" where they are none of the type."""
    cast = cast_column(column, kind)
    refused = cast.refused.to_pylist() if cast.refused is not None else [False] * len(column)
    return ["refused" if bad else value for value, bad in zip(cast.values.to_pylist(), refused, strict=True)]


def without_nulls(columns: dict[str, Any]) -> dict[str, Any]:
    """Leave out columns that hold nothing: that one is absent and that it is NULL comes to the same."""
    return {name: column for name, column in columns.items() if set(map(str, column)) != {"None"}}


@pytest.fixture
def both() -> Both:
    return Both(SEEN)


ALIKE = [
    ['{"id": 1, "price": 0.250, "ok": null, "at": "x", "who": null, "items": [{"price": 1.10}, null, {}]}'],
    ['{"id": 9223372036854775807, "price": 12345678901234567890.50, "items": [{"sku": "é東😀\\n\\"q\\\\"}]}'],
    ['{"items": [{"n": 1, "tags": []}, {"n": 2, "tags": ["a", null, "b"]}], "ns": [3]}', '{"items": []}', "{}"],
    ['{"id": 3, "items": [{"tags": ["x", "y"]}, {"tags": ["z"]}]}', '{"id": 4, "items": [{"tags": ["w"]}]}'],
    ['{"who": {"name": "", "score": 1e2, "at": {}}, "ns": []}', '{"who": {}}', '{"who": {"at": {"city": "Zürich"}}}'],
    ['{"price": "12.5", "who": {"score": "7"}}', '{"price": 3, "who": {"score": -0.0}}'],
    ['{"note": "\\"price\\": 1.50, \\\\", "who": {"name": "a\\"price\\": 2.50"}, "price": 3.50}'],
    ['{"note": "}", "price" :\t1.0}', '{"note": "{\\u0041", "pr\\u0069ce": null}'],
    ['{"note": "a\\u0000b"}', '{"note": "\\ud83d\\ude00"}'],
    ['{"id": -5, "price": -1, "ok": false}', '{"at": "2026-02-30T00:00:00Z"}', '{"at": "2026-02-03 04:05"}'],
    ['{"ok": true, "note": "true", "at": "true", "price": -0.000000000000000000001}'],
]


@pytest.mark.parametrize("lines", ALIKE)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_both_ways_give_the_same(both: Both, lines: list[str], end: str) -> None:
    batch = both.typed(*lines, end=end)
    assert batch is not None
    assert both.told(batch, opened_typed(batch, both.nested)) == both.apart(*lines)


LEFT = [
    '{"id": 1.0}',
    '{"id": 1e2}',
    '{"id": -0}',
    '{"price": -0}',
    '{"id": 9223372036854775808}',
    '{"id": "1"}',
    '{"note": 5}',
    '{"at": {"x": 1}}',
    '{"ok": "true"}',
    '{"ok": 1}',
    '{"price": true}',
    '{"price": [1.5]}',
    '{"price": 01.5}',
    '{"price": 1.}',
    '{"price": 1.5x}',
    '{"price": NaN}',
    '{"new": 1}',
    '{"who": {"new": null}}',
    '{"who": 5}',
    '{"who": []}',
    '{"items": {}}',
    '{"items": [5]}',
    '{"items": [[]]}',
    '{"items": [{"tags": [1]}]}',
    '{"items": [{"o": [{"k": 1}]}]}',
    '{"ns": [1, "2"]}',
    '{"ns": [1.5]}',
    '{"who": {"none": 1}}',
    '{"id": 1, "id": 2}',
    '{"who": {"name": "a", "name": "b"}}',
    '{"Id": 1}',
    '{"": 1}',
    '{"pr\\u0069ce": 1.5}',
    '{"note": "\\ud800"}',
    '{"note": "\x01"}',
    '{"note": "tab\t"}',
    '{"id": 1,}',
    '{"id": 1}{"id": 2}',
    '{"id": 1} null',
    '{"id": 1}, {"id": 2}',
    "null",
    "[1]",
    "5",
    '"x"',
    "",
    "  ",
    ' {"id": 1}',
    '{"id": 1} ',
    '{"id":',
    '{"id": 1}}',
    '{"note": "x"price": 1}',
    '{"price": 1.5: 2}',
    "{broken",
]


@pytest.mark.parametrize("line", LEFT)
def test_what_is_not_exactly_of_the_types_is_left_to_the_other_readers(both: Both, line: str) -> None:
    good = '{"id": 7}'
    assert both.typed(good, line, good) is None
    assert both.typed(line) is None
    assert both.typed(good, good) is not None


def test_lines_that_only_together_are_as_many_as_values_are_left(both: Both) -> None:
    assert both.typed('{"items": [', '{"sku": "a"}]}', '{"id": 1}{"id": 2}') is None
    assert both.typed('{"id": 1}', '{"id": 2}{"id": 3}', '{"id":', "4}") is None


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (['{"v": {"a": 1}}', '{"v": 5}'], "a value is neither object nor list"),
        (['{"v": {"a": 1}}', '{"v": {"a": {"b": 1}}}'], "a field is a number and an object"),
        (['{"v": [1, {"a": 1}]}'], "elements are of two kinds"),
        (['{"v": [1.5]}'], "numbers with fractions have no key by which they could be told"),
        (['{"v": {"a": {"b": {"c": {"d": {}}}}}}'], "what lies deeper stays JSON"),
        (['{"v": {"a\\"b": 1.5}}'], "a key has a quote"),
    ],
)
def test_some_values_have_no_layout(seen: list[str], why: str) -> None:
    assert Both(seen).layout is None, why


def test_two_fields_of_one_name_have_no_layout() -> None:
    both = Both(['{"v": {"a__b": 1}}'])
    assert both.layout is not None
    both.apart('{"v": {"a": {"b": 2}}}')
    assert both.layout is None


def test_a_key_whose_numbers_are_text_is_so_everywhere() -> None:
    both = Both(['{"n": 1.5, "v": {"n": 1, "m": 1}}'])
    batch = both.typed('{"n": 2.50, "v": {"n": 3, "m": 4}}')
    assert batch is not None
    assert batch.column("v").to_pylist() == [{"n": "3", "m": 4}]


def test_the_line_has_what_the_columns_have_not(both: Both) -> None:
    lines = ['{"id": 1, "price": 1.10, "items": [{"sku": "a", "price": 2.50}]}', '{"id": 2, "who": {"name": "é"}}']
    batch = both.typed(*lines)
    assert batch is not None
    assert batch.column(LINE).to_pylist() == [f"{lines[0]}\n", lines[1]]
    assert read_from_lines(batch).to_pylist() == [
        {"id": "1", "price": "1.10", "items": '[{"sku":"a","price":2.50}]', "who": None},
        {"id": "2", "price": None, "items": None, "who": '{"name":"é"}'},
    ]
    bare = batch.drop_columns(["items", "who"])
    assert column_in_lines(bare.slice(1), "who").to_pylist() == ['{"name":"é"}']
    assert column_in_lines(bare, "absent").to_pylist() == [None, None]


def test_a_reader_tries_again_and_again(tmp_path: Path, both: Both) -> None:
    good = '{"id": 7, "note": "' + "x" * 1000 + '"}\n'
    path = tmp_path / "a.ndjson"
    path.write_text(good * 9000 + '{"id": "x"}\n' + good * 20_000)
    with path.open("rb") as file:
        part = Part("a.ndjson", "a.ndjson", "ndjson", file)
        pieces = list(JsonReader(part, FileStream(name="s", glob="*"), both.nested, lambda: both.layout).pieces())
    assert sum(piece.data.num_rows for piece in pieces) == 29_001
    ways = [LINE in piece.data.schema.names for piece in pieces]
    assert ways[0], "the first block holds what is known"
    assert not all(ways), "one does not"
    assert ways[-1], "and the next do again"
