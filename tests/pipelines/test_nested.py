"""Nested columns taken apart: nothing is lost, every number as it was written, every element with its parent."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from millstream_api.stream import Nested
from millstream_pipelines.child_names import numbered
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.nested import Opened, Opener

BOTH = {"objects": "columns", "lists": "tables"}


def opened(values: list[str | None] | pa.Array, name: str = "v", **spec: Any) -> tuple[Opened, Opener]:
    array = pa.array(values, pa.string()) if isinstance(values, list) else values
    opener = Opener(Nested.model_validate(spec or BOTH), "stream 's'")
    batch = pa.record_batch({"id": list(range(len(array))), name: array})
    return opener.opened(batch, frozenset({name})), opener


def columns(found: Opened) -> dict[str, list[Any]]:
    return {name: array.to_pylist() for name, array in found.columns.items()}


def children(found: Opened) -> dict[str, list[tuple[Any, ...]]]:
    """Return each child table as rows: parent, places, then the fields."""
    return {
        "/".join(child.path): list(
            zip(
                child.parents.to_pylist(),
                *(place.to_pylist() for place in child.places),
                *(column.to_pylist() for column in child.columns.values()),
                strict=True,
            )
        )
        for child in found.children
    }


OBJECTS: list[tuple[list[str | None], dict[str, list[Any]], bool]] = [
    (['{"a": 1, "b": {"c": "x"}}', None, "{}"], {"v__a": [1, None, None], "v__b__c": ["x", None, None]}, False),
    (['{"a": 1}', '{"b": true}'], {"v__a": [1, None], "v__b": [None, True]}, False),
    (['{"a": 1}', '"plain"'], {"v__a": [1, None]}, True),
    (['{"a": 1}', "7"], {"v__a": [1, None]}, True),
    (['{"a": 1}', "null"], {"v__a": [1, None]}, False),
    (['{"a": 1}', '{"a": "x"}'], {"v__a": ["1", "x"]}, False),
    (['{"a": {"b": 1}}', '{"a": 5}'], {"v__a__b": [1, None], "v__a": ['{"b":1}', "5"]}, False),
    (['{"a": 1}', "{broken"], {"v__a": ["1", None]}, True),
    (['{"a": 1, "a": 2}', '{"b": 1.10}'], {"v__a": [2, None], "v__b": [None, "1.10"]}, False),
]


@pytest.mark.parametrize(("values", "expected", "whole"), OBJECTS)
def test_objects_become_columns(values: list[str | None], expected: dict[str, list[Any]], whole: bool) -> None:
    found, _ = opened(values)
    assert columns(found) == expected
    assert found.whole == ({"v"} if whole else set())
    assert set(found.origins.values()) <= {"v"}


NUMBERS = [
    ("1.10", "1.10", "numeric"),
    ("1e400", "1e400", "numeric"),
    ("12345678901234567890.5", "12345678901234567890.5", "numeric"),
    ("0.1", "0.1", "numeric"),
    ("9223372036854775807", "9223372036854775807", "bigint"),
    ("42", 42, "bigint"),
    ("9223372036854775808", "9223372036854775808", "numeric"),
    ('"2026-01-01T00:00:00Z"', "2026-01-01T00:00:00Z", "timestamptz"),
    ('"007"', "007", "text"),
    ("true", True, "boolean"),
]


@pytest.mark.parametrize(("number", "kept", "kind"), NUMBERS)
def test_values_keep_every_digit(number: str, kept: Any, kind: str) -> None:
    found, opener = opened([f'{{"a": {number}, "l": [{number}]}}', '{"a": null}'])
    assert columns(found) == {"v__a": [kept, None]}
    assert children(found) == {"v__l": [(0, 0, kept)]}
    assert opener.types == {((), "v__a"): kind, (("v__l",), "value"): kind}


def test_lists_become_children_with_their_parents_and_places() -> None:
    found, _ = opened(['[{"q": 1, "p": [{"z": 1}, {"z": 2}]}, {"q": 2}]', "[]", None, '[{"q": 3, "p": [{"z": 4}]}]'])
    assert children(found) == {
        "v": [(0, 0, 1), (0, 1, 2), (3, 0, 3)],
        "v/p": [(0, 0, 0, 1), (0, 0, 1, 2), (3, 0, 0, 4)],
    }
    assert (columns(found), found.whole) == ({}, set())
    assert (numbered(("v",)), numbered(("v", "p"))) == (["_index"], ["_index_1", "_index"])


def test_lists_of_all_kinds() -> None:
    found, opener = opened(['[1, "x", null, {"k": 5}, [7, [8]]]', "[true]"])
    assert children(found) == {
        "v": [
            (0, 0, None, "1"), (0, 1, None, '"x"'), (0, 2, None, None), (0, 3, 5, None), (0, 4, None, "[7,[8]]"),
            (1, 0, None, "true"),
        ],
        "v/value": [(0, 4, 0, "7"), (0, 4, 1, "[8]")],
        "v/value/value": [(0, 4, 1, 0, 8)],
    }  # fmt: skip
    assert opener.types[(("v",), "value")] == "jsonb"


def test_depth_is_bounded() -> None:
    found, _ = opened(['{"a": {"b": {"c": 1}}, "l": [[1]]}'], maxDepth=2, **BOTH)
    assert columns(found) == {"v__a__b": ['{"c":1}']}
    assert children(found) == {"v__l": [(0, 0, "[1]")]}


@pytest.mark.parametrize(
    ("spec", "made", "kinds"),
    [
        ({"objects": "columns"}, {"v__a": [1], "v__l": ["[1]"]}, {}),
        ({"lists": "tables"}, {}, {}),
    ],
)
def test_one_without_the_other(spec: dict[str, str], made: dict[str, Any], kinds: dict[str, Any]) -> None:
    found, _ = opened(['{"a": 1, "l": [1]}'], **spec)
    assert (columns(found), children(found)) == (made, kinds)
    assert found.whole == (set() if made else {"v"})


def test_elements_are_opened_where_objects_are_not() -> None:
    found, _ = opened(['[{"a": 1, "o": {"b": 2}}]'], lists="tables")
    assert children(found) == {"v": [(0, 0, 1, '{"b":2}')]}


@pytest.mark.parametrize(
    ("name", "values", "one", "other"),
    [
        ("v", ['{"a__b": 1, "a": {"b": 2}}'], "v.a.b", "v.a__b"),
        ("v", ['[{"a__b": 1, "a": {"b": 2}}]'], "a.b", "a__b"),
    ],
)
def test_two_columns_of_one_name_are_refused_by_both_names(
    name: str, values: list[str | None], one: str, other: str
) -> None:
    with pytest.raises(ConfigurationError, match="would both be column") as caught:
        opened(values, name)
    assert f"'{one}'" in str(caught.value)
    assert f"'{other}'" in str(caught.value)


def test_a_column_of_the_stream_is_not_overwritten() -> None:
    batch = pa.record_batch({"v__a": [1], "v": ['{"a": 2}']})
    with pytest.raises(ConfigurationError, match=r"'v\.a' and 'v__a' would both be column 'v__a'"):
        Opener(Nested(objects="columns"), "s").opened(batch, frozenset({"v"}))


def test_arrows_own_nested_types() -> None:
    values = pa.array([{"a": 1, "l": [{"x": "y"}]}, None])
    found, _ = opened(values)
    assert (columns(found), children(found)) == ({"v__a": [1, None]}, {"v__l": [(0, 0, "y")]})


def test_types_are_told_once() -> None:
    _, opener = opened(['{"a": 1}'])
    batch = pa.record_batch({"v": ['{"a": "x", "b": 1.5}']})
    assert columns(opener.opened(batch, frozenset({"v"}))) == {"v__a": ["x"], "v__b": ["1.5"]}
    assert [(column.name, column.type) for column in opener.schema((), ["v__a", "v__b", "v__c"])] == [
        ("v__a", "bigint"),
        ("v__b", "numeric"),
        ("v__c", "text"),
    ]
