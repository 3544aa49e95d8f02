"""Which guarantee a stream has, as a table."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from millstream_api.stream import StreamSpec
from millstream_pipelines.guarantee import guarantee, weakest


def stream(**changes: Any) -> StreamSpec:
    return StreamSpec.model_validate({"name": "s", "target": "raw.s", "primaryKey": ["id"], **changes})


@pytest.mark.parametrize(
    ("changes", "source", "expected"),
    [
        ({"mode": "full"}, "repeats", "at-least-once"),
        ({"mode": "full", "writeDisposition": "replace", "primaryKey": []}, "repeats", "at-least-once"),
        ({"mode": "full", "writeDisposition": "replace"}, "repeats", "effectively-once"),
        ({"mode": "full", "writeDisposition": "merge"}, "repeats", "effectively-once"),
        ({"mode": "full"}, "exact", "exactly-once"),
        ({"mode": "full", "writeDisposition": "replace"}, "exact", "exactly-once"),
        ({"mode": "incremental"}, "exact", "exactly-once"),
        ({"mode": "incremental", "writeDisposition": "merge"}, "exact", "exactly-once"),
        ({"mode": "incremental", "writeDisposition": "merge"}, "repeats", "effectively-once"),
        ({"mode": "incremental"}, "repeats", "at-least-once"),
        (
            {"mode": "incremental", "writeDisposition": "scd2", "scd2": {"effectiveAt": "at"}},
            "repeats",
            "effectively-once",
        ),
        ({"mode": "incremental", "writeDisposition": "scd2"}, "repeats", "at-least-once"),
    ],
)
def test_each_combination(changes: dict[str, Any], source: Literal["exact", "repeats"], expected: str) -> None:
    found, why = guarantee(stream(**changes), source, "because of the source")
    assert found == expected
    assert "because of the source" in why
    assert ("would keep rows single" in why) == (expected == "at-least-once")


def test_the_weakest_of_several() -> None:
    assert weakest(["exactly-once", "at-least-once", "effectively-once"]) == "at-least-once"
    assert weakest(["exactly-once", ""]) == "exactly-once", "a stream that never got so far has none"
    assert weakest([]) == weakest([""]) == ""
