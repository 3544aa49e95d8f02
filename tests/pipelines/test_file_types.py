"""Literals in csv, ndjson and parquet through a whole run into PostgreSQL: kept exactly, or set aside with a reason."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from millstream_api import Endpoint, RunPlan, RunReport
from millstream_api.pipeline import PipelineSpec
from millstream_pipelines.runner import RunRequest, execute
from servers.plugin import postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_server"]


@dataclass(frozen=True)
class Case:
    """One stream: its files, and what of column `v` is expected in the target."""

    files: dict[str, bytes]
    type: str
    values: list[str | None]
    refused: list[str] = field(default_factory=list)
    """Part of each message in quarantine."""
    declared: str | None = None
    config: dict[str, Any] = field(default_factory=dict)


def csv(*lines: str, type: str, keeps: list[str | None] | None = None, **more: Any) -> Case:  # noqa: A002
    rows = "".join(f"{number},{line}\n" for number, line in enumerate(lines))
    return Case({"a.csv": f"n,v\n{rows}".encode()}, type, list(lines) if keeps is None else keeps, **more)


def ndjson(*values: str, type: str, keeps: list[str | None] | None = None, **more: Any) -> Case:  # noqa: A002
    rows = "".join(f'{{"n": {number}, "v": {value}}}\n' for number, value in enumerate(values))
    return Case({"a.ndjson": rows.encode()}, type, list(values) if keeps is None else keeps, **more)


def parquet(values: pa.Array, type: str, keeps: list[str | None], **more: Any) -> Case:  # noqa: A002
    file = io.BytesIO()
    pq.write_table(pa.table({"n": list(range(len(values))), "v": values}), file)
    return Case({"a.parquet": file.getvalue()}, type, keeps, **more)


def numbers(kind: pa.DataType, *values: int | None) -> pa.Array:
    width = pa.int32() if kind.bit_width == 32 else pa.int64()
    return pa.array(values, width).cast(kind) if not pa.types.is_nested(kind) else pa.array(values)


US, MS, ZONED = pa.timestamp("us"), pa.timestamp("ms"), pa.timestamp("us", tz="UTC")
LONG = "1234567890123456789012345678901234567890.5"
CASES: dict[str, Case] = {
    "leading zeros stay text": csv("007", "008", type="text"),
    "a plus sign stays text": csv("+1", "2", type="text"),
    "minus zero keeps its sign": csv("-0", "1.5", type="double precision"),
    "beyond 64 bits": csv("9223372036854775808", "-1", type="numeric"),
    "forty digits": csv(LONG, "1.50", type="numeric"),
    "exponents": csv("1e3", "2.5E-3", type="double precision", keeps=["1000", "0.0025"]),
    "NaN stays text where nothing is declared": csv("1.5", "NaN", type="text"),
    "a day that is none": csv("2026-02-28", "2026-02-30", type="text"),
    "yes and no stay text": csv("yes", "no", type="text"),
    "zones make instants": csv(
        "2026-01-01T00:00:00Z", "2026-01-01T00:00:00+02:00", type="timestamp with time zone",
        keeps=["2026-01-01 00:00:00+00", "2025-12-31 22:00:00+00"],
    ),
    "some zones missing": csv("2026-01-01T00:00:00Z", "2026-01-01T00:00:00", type="text"),
    "nanoseconds stay text": csv("2026-01-01T00:00:00.123456789Z", type="text"),
    "an empty string is no NULL": csv("", '""', "x", type="text", keeps=[None, "", "x"]),
    "nor with other nulls": csv("NA", '"NA"', "", type="text", keeps=[None, "NA", ""], config={"nulls": ["NA"]}),
    "unless the manifest says so": csv("", '""', type="text", keeps=[None, None], config={"quotedNulls": True}),
    "an empty text among numbers": csv("", '""', "5", type="text", keeps=[None, "", "5"]),
    "declared integer": csv(
        "007", " 5", "x", "1.0", "", type="integer", declared="integer", keeps=["7", "5", None],
        refused=["'1.0' is no integer", "'x' is no integer"],
    ),
    "declared bigint": csv(
        "9223372036854775807", "9223372036854775808", type="bigint", declared="bigint", keeps=["9223372036854775807"],
        refused=["'9223372036854775808' is no bigint"],
    ),
    "declared boolean": csv(
        "yes", "0", "T", "maybe", type="boolean", declared="boolean", keeps=["true", "false", "true"],
        refused=["'maybe' is no boolean"],
    ),
    "declared numeric(12,2)": csv(
        "1e2", "1.239", "NaN", '"1,5"', type="numeric(12,2)", declared="numeric(12,2)", keeps=["100.00"],
        refused=["'1,5' is no", "'1.239' is no", "'NaN' is no numeric(12,2); `type: numeric` holds it"],
    ),
    "declared numeric": csv("NaN", "Infinity", "1E-2", type="numeric", declared="numeric",
                            keeps=["NaN", "Infinity", "0.01"]),
    "declared double": csv("NaN", "-inf", "1e999", type="double precision", declared="float8",
                           keeps=["NaN", "-Infinity"], refused=["'1e999' is no double precision"]),
    "declared date": csv(
        "2026-02-30", "2026-02-28", "infinity", "0044-03-15 BC", "10000-01-01", "01/02/2026", "5874898-01-01",
        type="date", declared="date", keeps=["2026-02-28", "infinity", "0044-03-15 BC", "10000-01-01"],
        refused=["'01/02/2026' is no date", "'2026-02-30' is no date", "'5874898-01-01' is no date"],
    ),
    "declared timestamptz": csv(
        "-infinity", "0044-03-15 12:00+02 BC", "12026-01-01T00:00:00Z", "4714-11-23 23:00Z BC", "2026-01-01 25:00",
        type="timestamp with time zone", declared="timestamptz",
        keeps=["-infinity", "0044-03-15 10:00:00+00 BC", "12026-01-01 00:00:00+00"],
        refused=["'2026-01-01 25:00' is no timestamptz", "'4714-11-23 23:00Z BC' is no timestamptz"],
    ),
    "declared time": csv("24:00", "24:00:01", "23:59", type="time without time zone", declared="time",
                         keeps=["24:00:00", "23:59:00"], refused=["'24:00:01' is no time"]),
    "json integers beyond 64 bits": ndjson("9223372036854775808", "1", type="numeric"),
    "json forty digits": ndjson(LONG, "1.10", type="numeric"),
    "json exponents": ndjson("1e400", "1", type="numeric", keeps=["1" + "0" * 400, "1"]),
    "json digits that no double has": ndjson("0.12345678901234567890", type="numeric"),
    "json strings of digits": ndjson('"1"', '"2"', type="text", keeps=["1", "2"]),
    "json of several kinds": ndjson("1", '"x"', "true", type="text", keeps=["1", "x", "true"]),
    "json nested among plain": ndjson(
        '{"a": 1.10}', "1", '"s"', "null", "[1]", type="jsonb", keeps=['{"a": 1.10}', "1", '"s"', None, "[1]"]
    ),
    "jsonb numbers beyond numeric": ndjson(
        '{"a": 1e400}', '{"a": 1e-20000}', '{"a": 1e140000}', '{"a": 12345678901234567890123}', type="jsonb",
        keeps=['{"a": 1' + "0" * 400 + "}", '{"a": 12345678901234567890123}'],
        refused=["is no jsonb", "is no jsonb"],
    ),
    "a type that changes in a later file": Case(
        {"a.csv": b"n,v\n1,5\n", "b.csv": b"n,v\n2,five\n", "c.csv": b"n,v\n3,7\n"}, "bigint", ["5", "7"],
        ["column 'v': 'five' is no bigint"],
    ),
    "a type that changes half-way": Case(
        {"a.ndjson": b'{"n": 1, "v": 1}\n' * 10_000 + b'{"n": 2, "v": {"x": 1}}\n{"n": 2, "v": "s"}\n'},
        "bigint", ["1"] * 10_000, ["""'{"x":1}' is no bigint""", "'s' is no bigint"],
    ),
    "columns without a name": Case({"a.csv": b"column_2,,v,\n1,2,3,4\n"}, "bigint", ["3"]),
    "infinity in parquet": parquet(
        numbers(ZONED, 2**63 - 1, -(2**63) + 1, -(2**63), None), "timestamp with time zone",
        ["infinity", "-infinity", None], refused=["is no timestamptz"],
    ),
    "times no server has": parquet(
        numbers(US, 2**62, -(2**62), 0), "timestamp without time zone",
        ["148108-07-06 14:00:27.387904", "1970-01-01 00:00:00"],
        refused=["'144170-06-28 09:59:32.612096 BC' is no timestamp"],
    ),
    "milliseconds that are no microseconds": parquet(
        numbers(MS, 2**62, 0), "timestamp without time zone", ["1970-01-01 00:00:00"], refused=["is no timestamp"]
    ),
    "days no server has": parquet(
        numbers(pa.date32(), 2**31 - 1, -(2**31), -2_440_589, -2_440_588), "date", ["infinity", "4714-11-24 BC"],
        refused=["'4714-11-23 BC' is no date", "BC' is no date"],
    ),
    "unsigned 64 bits": parquet(pa.array([2**64 - 1], pa.uint64()), "numeric(20,0)", [str(2**64 - 1)]),
    "seventy-six digits": parquet(
        pa.array([Decimal("9" * 74 + ".50")], pa.decimal256(76, 2)), "numeric(76,2)", ["9" * 74 + ".50"]
    ),
    "far times within nested values": parquet(
        pa.array([[2**62, 1], None]).cast(pa.list_(US)), "jsonb",
        ['["148108-07-06 14:00:27.387904", "1970-01-01 00:00:00.000001"]', None],
    ),
    "nanoseconds within nested values": parquet(
        pa.array([[2**60 + 1]]).cast(pa.list_(pa.timestamp("ns"))), "jsonb", ['["2006-07-14 23:58:24.606846977"]']
    ),
    "NUL": parquet(pa.array(["a\0b", "ok"]), "text", ["ok"], refused=["text holds a NUL byte"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def loaded(postgres_server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Postgres, RunReport]]:
    lake = tmp_path_factory.mktemp("lake")
    sources, streams = [], []
    for number, case in enumerate(CASES.values()):
        (lake / str(number)).mkdir()
        for name, content in case.files.items():
            (lake / str(number) / name).write_bytes(content)
        sources.append({"name": f"s{number}", "glob": f"{number}/*", **case.config})
        columns = [{"name": "v", "type": case.declared}] if case.declared else []
        streams.append({"name": f"s{number}", "target": f"raw.s{number}", "columns": columns})
    with postgres_server.fresh_database() as database:
        plan = RunPlan(
            action="run",
            namespace="test",
            name="types",
            source=Endpoint(name="f", type="files", config={"url": str(lake), "streams": sources}),
            warehouse=Endpoint(name="w", type="postgres", config=dict(database.config)),
            pipeline=PipelineSpec.model_validate(
                {"sourceRef": {"name": "f"}, "warehouseRef": {"name": "w"}, "streams": streams}
            ),
        )
        yield database, execute(RunRequest(plan, {}, "run-1", "test"))


@pytest.mark.parametrize("name", CASES)
def test_literals(loaded: tuple[Postgres, RunReport], name: str) -> None:
    database, report = loaded
    number, case = list(CASES).index(name), CASES[name]
    made = database.execute(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute "
        f"WHERE attname = 'v' AND attrelid = to_regclass('raw.s{number}')"
    )
    assert made == [(case.type,)], report.message
    place = f"raw.s{number}"
    order = "" if "columns without a name" in name else "ORDER BY n"
    assert [value for (value,) in database.execute(f"SELECT v::text FROM {place} {order}")] == case.values
    found = database.execute(f"SELECT message FROM _millstream.quarantine WHERE stream = 's{number}' ORDER BY message")
    assert len(found) == len(case.refused)
    for (message,), part in zip(found, sorted(case.refused), strict=True):
        assert part in message


def test_every_row_is_accounted_for(loaded: tuple[Postgres, RunReport]) -> None:
    _, report = loaded
    assert (report.exit_code, report.message) == (0, report.message)
    assert [stream.balance() for stream in report.streams] == [0] * len(CASES)
