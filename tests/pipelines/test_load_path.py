"""Which way rows go: a table of streams and sides, the path, and the reason that `millstream explain` prints."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from millstream_api.stream import StreamSpec
from millstream_pipelines.load_path import chosen
from millstream_pipelines.schema import Column, Schema

ID, NAME = Column("id", "bigint", nullable=False), Column("name", "text")
BOTH = Schema((ID, NAME))
MERGE = {"writeDisposition": "merge", "primaryKey": ["id"]}


def path(stream: dict[str, Any], given: Schema | str = BOTH, target: Schema | str = BOTH, checks: int = 0) -> str:
    spec = StreamSpec.model_validate({"name": "s", "target": "raw.s", **stream})
    side = given if isinstance(given, str) else SimpleNamespace(schema=given)
    return str(chosen(spec, side, target, checks))


@pytest.mark.parametrize(
    "stream",
    [
        {},
        {"writeDisposition": "replace"},
        MERGE,
        {"mode": "incremental", "cursor": {"field": "id"}},
        {"select": ["id", "name"]},
        {"contract": {"rows": "freeze", "types": "evolve", "columns": "discard"}},
    ],
)
def test_raw(stream: dict[str, Any]) -> None:
    assert path(stream).startswith("raw: ")


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        ({"columns": [{"name": "id", "type": "text"}]}, "`columns` changes id"),
        ({"columns": [{"name": "name", "mask": "hash"}, {"name": "x", "source": "id"}]}, "`columns` changes name, x"),
        ({"filter": "id > 1"}, "`filter` looks at each row"),
        ({"nested": {"objects": "columns"}}, "`nested` takes values apart"),
        ({**MERGE, "writeDisposition": "scd2"}, "writeDisposition 'scd2'"),
        ({**MERGE, "deletes": {"column": "name"}}, "writeDisposition 'merge' with `deletes`"),
    ],
)
def test_arrow_because_of_the_stream(stream: dict[str, Any], reason: str) -> None:
    assert reason in path(stream)
    assert path(stream).startswith("arrow: ")


@pytest.mark.parametrize(
    ("given", "target", "reason"),
    [
        ("the source gives batches", BOTH, "the source gives batches"),
        (BOTH, "the warehouse takes batches", "the warehouse takes batches"),
        (BOTH, Schema((ID,)), "column 'name' is left out by the contract"),
        (
            BOTH,
            Schema((Column("id", "integer", False), NAME)),
            "'id' is bigint at the source and integer in",
        ),
        (BOTH, Schema((ID, Column("name", "character varying(9)"))), "'name' is text at the source and character var"),
        (BOTH, Schema((ID, Column("name", "text", False))), "'name' may be NULL at the source and not in the target"),
    ],
)
def test_arrow_because_of_a_side(given: Schema | str, target: Schema | str, reason: str) -> None:
    assert reason in path({}, given, target)
    assert path({}, given, target).startswith("arrow: ")


def test_a_key_that_may_be_null_is_looked_at() -> None:
    loose = Schema((Column("id", "bigint"), NAME))
    assert "'id' may be NULL" in path(MERGE, loose, loose)
    assert path({}, loose, loose).startswith("raw: ")


@pytest.mark.parametrize(("checks", "words"), [(1, "1 check looks at"), (2, "2 checks look at")])
def test_checks_look_at_rows(checks: int, words: str) -> None:
    assert words in path({}, checks=checks)
