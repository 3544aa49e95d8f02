"""The memory source: the suite, and how values meet their declared types."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from millstream_pipelines.registry import configured
from millstream_pipelines.sources.base import Range, ReadRequest
from millstream_pipelines.sources.memory import MemorySource
from millstream_pipelines.testing.source import SourceSuite


class TestMemory(SourceSuite):
    source = MemorySource
    stream = "people"
    row_count = 6
    cursor_field = "id"
    ranges = (Range("-5", "2"), Range("2", "3"), Range("3", "100"))
    bad_config = {"batchRows": {"batchRows": 0}, "streams": {"streams": []}}  # noqa: RUF012

    @pytest.fixture
    def config(self) -> dict[str, Any]:
        rows = [{"id": n, "name": f"n{n}", "tags": [n]} for n in range(5)]
        return {"batchRows": 2, "streams": {"people": {"rows": [*rows, {"_raw": "x"}]}, "empty": {}}}


def source(**stream: Any) -> MemorySource:
    return MemorySource(configured(MemorySource.Config, {"streams": {"s": stream}}, {}, "source 'm'"), "source 'm'")


def test_types_follow_from_the_values() -> None:
    values: dict[str, tuple[Any, Any, str]] = {
        "flag": (True, None, "boolean"),
        "small": (1, 2, "bigint"),
        "huge": (2**63, 1, "numeric"),
        "real": (1, 0.5, "double precision"),
        "exact": (Decimal("1.10"), 1, "numeric"),
        "day": (date(2024, 1, 1), None, "date"),
        "local": (datetime(2024, 1, 1), None, "timestamp"),
        "instant": (datetime(2024, 1, 1, tzinfo=UTC), None, "timestamptz"),
        "nested": ({"a": 1}, [1], "jsonb"),
        "mixed": (1, "x", "text"),
        "nothing": (None, None, "text"),
    }
    rows = [{name: value[item] for name, value in values.items()} for item in (0, 1)]
    schema = source(rows=rows).describe("s").schema
    assert {column.name: column.type for column in schema} == {name: value[2] for name, value in values.items()}
    (batch,) = source(rows=rows).read(ReadRequest("s"))
    assert batch.data.schema == schema.arrow()
    assert batch.data.to_pylist()[0]["huge"] == str(2**63)
    assert batch.data.to_pylist()[0]["nested"] == '{"a": 1}'


def test_a_value_that_does_not_fit_makes_the_column_text() -> None:
    (batch,) = source(columns={"n": "int4"}, rows=[{"n": 1}, {"n": "many"}]).read(ReadRequest("s"))
    assert batch.data.schema.field("n").type == pa.string()
    assert batch.data.to_pylist() == [{"n": "1"}, {"n": "many"}]


def test_declared_types_take_text() -> None:
    (batch,) = source(columns={"d": "date", "j": "jsonb"}, rows=[{"d": "2024-02-29", "j": "x"}]).read(ReadRequest("s"))
    assert batch.data.to_pylist() == [{"d": date(2024, 2, 29), "j": '"x"'}]
