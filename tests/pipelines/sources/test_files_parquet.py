"""parquet: types are kept; what the warehouse lacks is made exact or refused."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from files_reading import batches, described, rows
from millstream_pipelines.errors import DataError
from millstream_pipelines.schema import arrow_type

NOON = datetime(2024, 2, 29, 12, 0, 0, 123456)
TYPES: dict[str, tuple[Any, Any, str, Any]] = {
    "int8": (pa.int8(), -1, "smallint", -1),
    "uint16": (pa.uint16(), 65535, "integer", 65535),
    "uint32": (pa.uint32(), 2**32 - 1, "bigint", 2**32 - 1),
    "uint64": (pa.uint64(), 2**64 - 1, "numeric(20,0)", Decimal(2**64 - 1)),
    "float32": (pa.float32(), 0.5, "real", 0.5),
    "decimal": (pa.decimal128(38, 10), Decimal("1.1000000000"), "numeric(38,10)", Decimal("1.1000000000")),
    "wide": (pa.decimal256(60, 2), Decimal("1" * 50 + ".10"), "numeric(60,2)", "1" * 50 + ".10"),
    "date": (pa.date32(), date(2024, 2, 29), "date", date(2024, 2, 29)),
    "time": (pa.time32("ms"), time(1, 2, 3), "time", time(1, 2, 3)),
    "seconds": (pa.timestamp("ms"), datetime(2024, 1, 1), "timestamp", datetime(2024, 1, 1)),
    "local": (pa.timestamp("us"), NOON, "timestamp", NOON),
    "ns": (pa.timestamp("ns"), NOON, "timestamp", NOON),
    "instant": (
        pa.timestamp("us", tz="Europe/Paris"),
        NOON.replace(tzinfo=UTC),
        "timestamptz",
        NOON.replace(tzinfo=UTC),
    ),
    "interval": (pa.duration("us"), timedelta(days=1), "interval", "86400000000 microseconds"),
    "bytes": (pa.large_binary(), b"\x00\xff", "bytea", b"\x00\xff"),
    "text": (pa.large_string(), "é\x00", "text", "é\x00"),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), "x", "text", "x"),
    "flag": (pa.bool_(), True, "boolean", True),
    "list": (pa.list_(pa.decimal128(10, 2)), [Decimal("1.10"), None], "jsonb", "[1.10,null]"),
    "struct": (pa.struct({"a": pa.int64(), "b": pa.date32()}), {"a": 1, "b": date(2024, 1, 1)}, "jsonb", None),
    "map": (pa.map_(pa.string(), pa.int64()), [("k", 1)], "jsonb", '{"k":1}'),
}


def test_types_are_kept(tmp_path: Path) -> None:
    table = pa.table({name: pa.array([value, None], kind) for name, (kind, value, _, _) in TYPES.items()})
    pq.write_table(table, tmp_path / "a.parquet")
    assert described(tmp_path) == {name: sql for name, (_, _, sql, _) in TYPES.items()}
    (batch,) = batches(tmp_path)
    first, second = rows([batch])
    assert json.loads(first.pop("struct")) == {"a": 1, "b": "2024-01-01"}
    assert first == {name: read for name, (_, _, _, read) in TYPES.items() if name != "struct"}
    assert set(second.values()) == {None}
    for name, (_, _, sql, _) in TYPES.items():
        assert batch.data.schema.field(name).type == arrow_type(sql), name


def test_nanoseconds_are_refused_cut_or_text(tmp_path: Path) -> None:
    table = pa.table({"t": pa.array([1_700_000_000_123_456_789], pa.timestamp("ns", tz="UTC"))})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="column 't' holds nanoseconds"):
        batches(tmp_path)
    assert rows(batches(tmp_path, nanoseconds="truncate"))[0]["t"].microsecond == 123456
    assert rows(batches(tmp_path, nanoseconds="text")) == [{"t": "2023-11-14 22:13:20.123456789Z"}]
    assert described(tmp_path, nanoseconds="text") == {"t": "text"}


def test_types_widen_between_files(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": pa.array([1], pa.int32()), "b": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"a": pa.array([1], pa.int64()), "b": ["x"]}), tmp_path / "b.parquet")
    assert described(tmp_path) == {"a": "bigint", "b": "text"}


def test_wide_rows_make_small_batches(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": ["x" * 100_000] * 1000}), tmp_path / "a.parquet", use_dictionary=False)
    found = batches(tmp_path)
    assert sum(batch.data.num_rows for batch in found) == 1000
    assert max(batch.data.nbytes for batch in found) <= 64 << 20


def test_a_truncated_file_says_so(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": list(range(1000))}), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="damaged or cut short"):
        batches(tmp_path)
