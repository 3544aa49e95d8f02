"""json and ndjson: numbers digit by digit, nested values as JSON, bad lines set aside, documents never held whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from files_reading import batches, described, rejects, rows
from millstream_pipelines.errors import DataError


def read(tmp_path: Path, content: str | bytes, name: str = "a.ndjson", **stream: Any) -> Any:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    found = batches(tmp_path, **stream)
    return rows(found), [(item.rule, item.row) for item in rejects(found)]


def test_values_are_exact(tmp_path: Path) -> None:
    line = '{"i": 1, "big": 123456789012345678901234567890, "d": 1.10, "e": 1e400, "t": true, "n": null, "s": "007"}\n'
    good, _ = read(tmp_path, line)
    assert good == [
        {
            "i": "1",
            "big": "123456789012345678901234567890",
            "d": "1.10",
            "e": "1e400",
            "t": "true",
            "n": None,
            "s": "007",
        }
    ]
    assert described(tmp_path) == {
        "i": "bigint",
        "big": "numeric",
        "d": "numeric",
        "e": "numeric",
        "t": "boolean",
        "n": "text",
        "s": "text",
    }


def test_nested_values_are_json_text_digit_by_digit(tmp_path: Path) -> None:
    good, _ = read(tmp_path, '{"a": {"x": [1.10, 12345678901234567890123, "é", null]}}\n{"a": "plain"}\n{"a": 1.50}\n')
    assert [row["a"] for row in good] == ['{"x":[1.10,12345678901234567890123,"é",null]}', '"plain"', "1.50"]
    assert described(tmp_path) == {"a": "jsonb"}


def test_bad_lines_are_set_aside(tmp_path: Path) -> None:
    content = b'{"a": 1}\n{"a": \n[1]\n\n{"a": NaN}\n{"a": "\xff"}\n{"a": "\\ud800"}\n{"a": 2}'
    good, bad = read(tmp_path, content)
    assert good == [{"a": "1"}, {"a": "2"}]
    assert [(rule, row["_raw"], row.get("_line")) for rule, row in bad] == [
        ("malformed_row", '{"a":', 2),
        ("malformed_row", "[1]", 3),
        ("malformed_row", '{"a": NaN}', 5),
        ("encoding", '{"a": "\\xff"}', 6),
        ("encoding", '{"a": "\\ud800"}', None),
    ]


@pytest.mark.parametrize("name", ["a.ndjson", "a.json"])
def test_fifty_levels_and_long_values(tmp_path: Path, name: str) -> None:
    deep = json.dumps({"a": json.loads("[" * 50 + "]" * 50), "b": "x" * 100_000})
    good, bad = read(tmp_path, f"{deep}\n" * 100, name)
    assert [len(row["a"]) for row in good] == [100] * 100
    assert {len(row["b"]) for row in good} == {100_000}
    assert bad == []


def test_a_hundred_thousand_levels_is_a_reject_not_a_crash(tmp_path: Path) -> None:
    _, bad = read(tmp_path, '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}\n")
    assert bad[0][0] == "malformed_row"


def test_later_keys_appear_later(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_text('{"a": 1}\n')
    good, _ = read(tmp_path, '{"b": 2}\n', "b.ndjson")
    assert good == [{"a": "1"}, {"b": "2"}]
    assert described(tmp_path) == {"a": "bigint", "b": "bigint"}


def test_a_type_that_changes_is_text_for_the_cast_to_judge(tmp_path: Path) -> None:
    content = "".join(f'{{"a": {n}}}\n' for n in range(10)) + '{"a": "ten"}\n'
    good, bad = read(tmp_path, content, inferRows=5)
    assert described(tmp_path, inferRows=5) == {"a": "bigint"}
    assert good[-1] == {"a": "ten"}
    assert bad == []


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ('[{"a": 1}, {"a": 2}]', None),
        ('{"a": 1}\n{"a": 2}', None),
        ('{"meta": {"n": [2]}, "data": {"items": [{"a": 1}, {"a": 2}]}, "end": 0}', "data.items"),
        ('{"data": [{"a": 1}, {"a": 2}]}', "data"),
    ],
)
def test_documents(tmp_path: Path, document: str, path: str | None) -> None:
    assert read(tmp_path, document, "a.json", recordPath=path) == ([{"a": "1"}, {"a": "2"}], [])


def test_a_large_document_is_read_across_blocks(tmp_path: Path) -> None:
    records = [{"id": n, "text": "é" * (n % 50), "nested": {"n": n / 7}} for n in range(60_000)]
    good, bad = read(tmp_path, json.dumps({"x": records}, ensure_ascii=False), "a.json", recordPath="x")
    assert bad == []
    assert [(int(row["id"]), row["text"], json.loads(row["nested"])["n"]) for row in good] == [
        (record["id"], record["text"], record["nested"]["n"])
        for record in records  # type: ignore[index]
    ]


@pytest.mark.parametrize("document", ['[{"a": 1}, {"a": ', '[{"a": 1} {"a": 2}]', '[{"a": 1}', '{"a": 1}}', "x"])
def test_a_malformed_document_says_where(tmp_path: Path, document: str) -> None:
    with pytest.raises(DataError, match=r"'a\.json'.*at character"):
        read(tmp_path, document, "a.json")


def test_a_record_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="recordPath 'items' finds no key 'items'"):
        read(tmp_path, '{"data": []}', "a.json", recordPath="items")


def test_records_that_are_no_objects_are_set_aside(tmp_path: Path) -> None:
    good, bad = read(tmp_path, '[{"a": 1}, 2, "x", null, [3], {}]', "a.json")
    assert good == [{"a": "1"}, {"a": None}]
    assert [row["_raw"] for _, row in bad] == ["2", '"x"', "null", "[3]"]


@pytest.mark.parametrize("content", ["", "\n\n", "[]", "{}"])
def test_no_records(tmp_path: Path, content: str) -> None:
    good, bad = read(tmp_path, content, "a.json")
    assert (len(good), bad) == (1 if content == "{}" else 0, [])
