"""Every SQL type on its way into DuckDB: what it is stored as, and that the value comes back identical."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.testing.warehouse_case import OWNER, WarehouseCase, batch, totals
from millstream_pipelines.warehouses._duckdb.config import DuckDBConfig
from millstream_pipelines.warehouses._duckdb.connection import open_database, rows
from millstream_pipelines.warehouses._duckdb.types import stored_type
from millstream_pipelines.warehouses.base import Counts
from millstream_pipelines.warehouses.duckdb import DuckDBWarehouse

# type → DuckDB's type, and values that come back as they went in.
SAME: dict[str, tuple[str, list[Any]]] = {
    "smallint": ("SMALLINT", [-(2**15), 2**15 - 1]),
    "integer": ("INTEGER", [-(2**31), 2**31 - 1]),
    "bigint": ("BIGINT", [-(2**63), 2**63 - 1]),
    "real": ("FLOAT", [1.5, math.inf, -0.0]),
    "double precision": ("DOUBLE", [0.1, 5e-324, 1.7976931348623157e308, -math.inf, -0.0]),
    "boolean": ("BOOLEAN", [True, False]),
    "numeric(38,10)": ("DECIMAL(38,10)", [Decimal("-9999999999999999999999999999.9999999999"), Decimal("1E-10")]),
    "numeric(4)": ("DECIMAL(4,0)", [Decimal(9999)]),
    "numeric": ("VARCHAR", ["NaN", "9" * 1000, "-1.50"]),
    "numeric(50,20)": ("VARCHAR", ["123456789012345678901234567890.12345678901234567890"]),
    "date": ("DATE", [date(1, 1, 1), date(9999, 12, 31)]),
    "time": ("TIME", [time(0), time(23, 59, 59, 999999)]),
    "timestamp": ("TIMESTAMP", [datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999)]),
    "timestamptz": ("TIMESTAMP WITH TIME ZONE", [datetime(2024, 3, 10, 7, 0, 0, 1, tzinfo=UTC)]),
    "timetz": ("VARCHAR", ["12:34:56.789+05:30"]),
    "bytea": ("BLOB", [b"", b"\x00\xff\n\\"]),
    "text": ("VARCHAR", ["", "ünïcödé 💧", "tab\t\n\\N\r'\"", "nul\x00", "x" * 100_000]),
    "character varying(3)": ("VARCHAR", ["", "üäö"]),
    "uuid": ("UUID", ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    "json": ("JSON", ['{"b": 1, "a": [1,  2.50]}', "null"]),
    "jsonb": ("JSON", ["[" * 50 + "]" * 50, '"💧"']),
    "integer[]": ("VARCHAR", ["{1,NULL,3}"]),
    "int4range": ("VARCHAR", ["[1,5)", "empty"]),
    "inet": ("VARCHAR", ["192.168.0.1/24"]),
    "money": ("VARCHAR", ["$1,234.56"]),
    "bit(3)": ("VARCHAR", ["101"]),
    "app.mood": ("VARCHAR", ["sad"]),
}
# Stored in DuckDB's own spelling: type, DuckDB's type, text, what it reads as.
SPELLED = [
    ("interval", "INTERVAL", "1 year 2 mons -3 days 04:05:06.789", "1 year 2 months -3 days 04:05:06.789"),
    ("interval", "INTERVAL", "-3 days +04:05:06", "-3 days 04:05:06"),
    ("interval", "INTERVAL", "123456789 microseconds", "00:02:03.456789"),
    ("timestamp(3)", "TIMESTAMP", "2024-02-29 12:34:56.789", "2024-02-29 12:34:56.789"),
    ("timestamptz(0)", "TIMESTAMP WITH TIME ZONE", "2024-02-29 12:34:56+02", "2024-02-29 10:34:56+00"),
    ("uuid", "UUID", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
]


class TestTypes(WarehouseCase):
    """One column of one type, a NULL first and last."""

    warehouse = DuckDBWarehouse

    @pytest.fixture
    def config(self, tmp_path: Path) -> dict[str, Any]:
        return {"path": str(tmp_path / "dw.duckdb")}

    @pytest.fixture(autouse=True)
    def _looking(self, config: dict[str, Any]) -> Iterator[None]:
        self.other = open_database(DuckDBConfig(**config), OWNER)
        yield
        self.other.close()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return rows(self.other, sql)

    def written(self, kind: str, *values: Any, staged: bool = False) -> tuple[int, ...]:
        """Write one column, and a second time, so that the type as the catalog has it is seen too."""
        schema = Schema((Column("id", "bigint"), Column("v", kind)))
        load = self.open().load(self.merging() if staged else self.spec())
        for _ in range(2):
            target = load.shape(schema)
            assert target.get("v") in (Column("v", kind), Column("v", kind.replace("(4)", "(4,0)"))), (
                "the type's name survives in the catalog"
            )
        data = batch(target, *enumerate(values))
        load.write(data, [], Counts(read=data.num_rows))
        counts = load.settle()
        load.commit(None)
        return totals(counts)

    @pytest.mark.parametrize("staged", [False, True], ids=["append", "merge"])
    @pytest.mark.parametrize("kind", SAME)
    def test_values_come_back_identical(self, kind: str, staged: bool) -> None:
        stored, values = SAME[kind]
        assert stored_type(kind) == stored
        self.written(kind, None, *values, None, staged=staged)
        shown = "CAST(v AS VARCHAR)" if stored == "UUID" else "v"
        assert [value for _, value in self.seen(f"id, {shown}")] == [None, *values, None]

    def test_not_a_number(self) -> None:
        self.written("double precision", math.nan)
        assert self.seen("isnan(v)") == [(True,)]

    @pytest.mark.parametrize(("kind", "stored", "text", "shown"), SPELLED)
    def test_values_in_duckdbs_spelling(self, kind: str, stored: str, text: str, shown: str) -> None:
        assert stored_type(kind) == stored
        self.written(kind, text)
        assert self.seen("CAST(v AS VARCHAR)") == [(shown,)]

    @pytest.mark.parametrize(
        ("kind", "value"), [("interval", "soon"), ("uuid", "x"), ("jsonb", "{"), ("time(3)", "25:00")]
    )
    def test_values_that_duckdb_refuses_are_set_aside(self, kind: str, value: str) -> None:
        assert self.written(kind, None, value) == (2, 1, 1, 0, 0)
        assert self.metadata("rule, status", "quarantine") == [("cast(v)", "open")]
