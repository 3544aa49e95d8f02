"""Casts: what fits is kept exactly, what does not is refused by row."""

from __future__ import annotations

import math
import random
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from millstream_pipelines.casting import as_text, cast_column, castable
from millstream_pipelines.schema import arrow_type

REFUSED = object()
FIVE = datetime(2013, 1, 1, 5, tzinfo=UTC)

TEXT: list[tuple[str, str, Any]] = [
    ("smallint", "32767", 32767),
    ("smallint", "32768", REFUSED),
    ("integer", "1.5", REFUSED),
    ("integer", "", REFUSED),
    ("integer", " +007 ", 7),
    ("integer", "0x10", REFUSED),
    ("integer", "0xFFFFFFFF", REFUSED),
    ("integer", "1_000", REFUSED),
    ("integer", "１", REFUSED),
    ("bigint", "-9223372036854775808", -(2**63)),
    ("bigint", "9223372036854775808", REFUSED),
    ("double precision", "1e400", REFUSED),
    ("double precision", "1e-400", REFUSED),
    ("double precision", "0e-400", 0.0),
    ("double precision", " .5e1", 5.0),
    ("double precision", "-Infinity", -math.inf),
    ("double precision", "0x1p3", REFUSED),
    ("real", "1e39", REFUSED),
    ("numeric(4,1)", "00012.500", Decimal("12.5")),
    ("numeric(4,1)", "1e2", Decimal("100.0")),
    ("numeric(4,1)", "1000", REFUSED),
    ("numeric(10,2)", "1.005", REFUSED),
    ("numeric(10,2)", "", REFUSED),
    ("numeric(10,2)", "NaN", REFUSED),
    ("numeric(2,2)", ".25", Decimal("0.25")),
    ("numeric", "NaN", "NaN"),
    ("numeric", "123456789012345678901234567890123456789.5", "123456789012345678901234567890123456789.5"),
    ("numeric", "1e99999999", REFUSED),
    ("numeric", "12,5", REFUSED),
    ("numeric(40,2)", "1.234", REFUSED),
    ("boolean", "Yes", True),
    ("boolean", "f", False),
    ("boolean", "2", REFUSED),
    ("date", "2012-02-29", date(2012, 2, 29)),
    ("date", "2013-02-29", REFUSED),
    ("date", "1900-02-29", REFUSED),
    ("date", "2013-01-01 00:00:00", REFUSED),
    ("date", "01/02/2013", REFUSED),
    ("time", "05:06:07.5", time(5, 6, 7, 500000)),
    ("time", "24:00:01", REFUSED),
    ("timestamp", "2013-01-01", datetime(2013, 1, 1)),
    ("timestamp", "2013-01-01T05:00:00Z", REFUSED),
    ("timestamptz", "abc", REFUSED),
    ("timestamptz", "2013-01-01T05:00:00Z", FIVE),
    ("timestamptz", "2013-01-01 07:00:00 +02", FIVE),
    ("timestamptz", "2013-01-01 07:00+0200", FIVE),
    ("timestamptz", "2013-01-01t05:00:00z", FIVE),
    ("timestamptz", "2013-01-01 05:00", FIVE),
    ("timestamptz", "2013-01-01T05:00:00.1234560", FIVE.replace(microsecond=123456)),
    ("timestamptz", "2013-01-01T05:00:00.1234567", REFUSED),
    ("timestamp(3)", "2013-01-01 05:00:00", "2013-01-01 05:00:00"),
    ("timestamp(3)", "soon", REFUSED),
    ("bytea", "\\x00fF", b"\x00\xff"),
    ("bytea", "00ff", REFUSED),
    ("uuid", "123E4567-e89b-12d3-a456-426614174000", "123E4567-e89b-12d3-a456-426614174000"),
    ("uuid", "{123e4567e89b12d3a456426614174000}", "{123e4567e89b12d3a456426614174000}"),
    ("uuid", "{123e4567e89b12d3a456426614174000", REFUSED),
    ("jsonb", '{"a": [1, null]}', '{"a": [1, null]}'),
    ("jsonb", "[" * 50 + "]" * 50, "[" * 50 + "]" * 50),
    ("jsonb", "[1,]", REFUSED),
    ("jsonb", "NaN", REFUSED),
    ("jsonb", '"\\ud800"', REFUSED),
    ("json", "", REFUSED),
    ("inet", "10.0.0.1/8", "10.0.0.1/8"),
    ("inet", "::ffff:1.2.3.4", "::ffff:1.2.3.4"),
    ("inet", "10.0.0.256", REFUSED),
    ("inet", "fe80::1%eth0", REFUSED),
    ("cidr", "10.0.0.1/8", REFUSED),
    ("macaddr", "08:00:2b:01:02:03", "08:00:2b:01:02:03"),
    ("character varying(3)", "äöü", "äöü"),
    ("character varying(3)", "four", REFUSED),
    ("character(2)", "abc", REFUSED),
    ("integer[]", "{1,2}", "{1,2}"),
    ("integer[]", "1,2", REFUSED),
    ("int4range", "[1,2)", "[1,2)"),
    ("int4range", "1-2", REFUSED),
    ("bit(3)", "101", "101"),
    ("bit(3)", "10", REFUSED),
    ("text", "x" * 100_000, "x" * 100_000),
    ("text", "", ""),
    ("app.mood", "happy", "happy"),
]


@pytest.mark.parametrize(("target", "text", "expected"), TEXT)
def test_text(target: str, text: str, expected: Any) -> None:
    cast = cast_column(pa.array([text, None]), target)
    assert cast.values.type == arrow_type(target)
    assert cast.values.to_pylist() == [None if expected is REFUSED else expected, None]
    assert (cast.refused is not None) == (expected is REFUSED)


TYPED: list[tuple[Any, str, list[Any]]] = [
    (pa.array([1, 40000, None]), "smallint", [1, REFUSED, None]),
    (pa.array([2**63], pa.uint64()), "bigint", [REFUSED]),
    (pa.array([2**64 - 1], pa.uint64()), "numeric(20,0)", [Decimal(2**64 - 1)]),
    (pa.array([2**53 + 1, 5]), "double precision", [REFUSED, 5.0]),
    (pa.array([1.0, 1.5, math.nan, 1e20]), "integer", [1, REFUSED, REFUSED, REFUSED]),
    (pa.array([1e300, 0.5, math.inf]), "real", [REFUSED, 0.5, math.inf]),
    (pa.array([0.1, 1.005, 1e20]), "numeric(5,2)", [Decimal("0.10"), REFUSED, REFUSED]),
    (pa.array([Decimal("1.00"), Decimal("1.50")]), "integer", [1, REFUSED]),
    (pa.array([Decimal("1.100"), Decimal("1.005")]), "numeric(4,2)", [Decimal("1.10"), REFUSED]),
    (pa.array([Decimal("1.5")]), "double precision", [1.5]),
    (pa.array([5, 1000]), "numeric(4,1)", [Decimal("5.0"), REFUSED]),
    (pa.array([0, 1, 2]), "boolean", [False, True, REFUSED]),
    (pa.array([True]), "integer", [1]),
    (pa.array([1, None]), "date", [REFUSED, None]),
    (pa.array([date(2013, 1, 1)]), "timestamptz", [datetime(2013, 1, 1, tzinfo=UTC)]),
    (pa.array([FIVE, FIVE.replace(hour=0)], pa.timestamp("us", "UTC")), "date", [REFUSED, date(2013, 1, 1)]),
    (pa.array([FIVE], pa.timestamp("us", "America/New_York")), "timestamptz", [FIVE]),
    (
        pa.array([1000, 1001], pa.timestamp("ns")),
        "timestamptz",
        [datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC), REFUSED],
    ),
    (pa.array(["1", "x", "1"]).dictionary_encode(), "integer", [1, REFUSED, 1]),
    (pa.array(["1"], pa.large_string()), "integer", [1]),
    (pa.array(["1"], pa.string_view()), "text", ["1"]),
    (pa.array([b"ab", b"\xff"]), "text", ["ab", REFUSED]),
    (pa.array([{"a": 1, "b": [None, "ü"]}, None]), "jsonb", ['{"a":1,"b":[null,"ü"]}', None]),
    (pa.array([[1.5, math.nan]]), "jsonb", [REFUSED]),
    (pa.array([1, None]), "text", ["1", None]),
    (pa.array([FIVE], pa.timestamp("us", "America/New_York")), "text", ["2013-01-01 05:00:00.000000Z"]),
    (pa.array([timedelta(seconds=1)]), "interval", ["1000000 microseconds"]),
    (pa.nulls(2), "integer", [None, None]),
]


@pytest.mark.parametrize(("values", "target", "expected"), TYPED)
def test_typed(values: Any, target: str, expected: list[Any]) -> None:
    cast = cast_column(values, target)
    assert cast.values.type == arrow_type(target)
    assert cast.values.to_pylist() == [None if item is REFUSED else item for item in expected]
    refused = [False] * len(expected) if cast.refused is None else cast.refused.to_pylist()
    assert refused == [item is REFUSED for item in expected]


def test_equal_types_are_not_copied() -> None:
    for values, target in ((pa.array([1, 2]), "bigint"), (pa.array(["a"]), "text"), (pa.array(["1.5"]), "numeric")):
        assert cast_column(values, target).values.buffers()[-1].address == values.buffers()[-1].address


def test_slices_are_cast_by_their_own_rows() -> None:
    cast = cast_column(pa.array(["x", "1", "0x2", None, "3"]).slice(1, 3), "integer")
    assert (cast.values.to_pylist(), cast.refused.to_pylist()) == ([1, None, None], [False, True, False])


@pytest.mark.parametrize("bad", ["1.5", "", "2013-02-29", "99999999999999999999"])
@pytest.mark.parametrize("target", ["integer", "bigint", "numeric(6,2)", "date", "timestamptz", "double precision"])
def test_many_refusals_stay_cheap(target: str, bad: str) -> None:
    # By halving alone 100 000 refusals would take most of a minute.
    good = {"date": "2013-01-01", "timestamptz": "2013-01-01"}.get(target, "1")
    cast = cast_column(pa.array([bad, good] * 50_000), target)
    assert cast.refused is None or cast.refused.true_count == 50_000


def test_castable() -> None:
    assert castable("text", "timestamptz")
    assert castable("bigint", "numeric(3,1)")
    assert not castable("bigint", "timestamptz")
    assert not castable("bytea", "date")


def test_as_text_keeps_maps_as_objects() -> None:
    maps = pa.array([[("a", 1)], [("a", 1), ("a", 2)]], pa.map_(pa.string(), pa.int64()))
    assert as_text(maps).to_pylist() == ['{"a":1}', None]


EDGES = [
    ("date", "infinity", "infinity"),
    ("date", "-Infinity", "-infinity"),
    ("date", " 10000-02-29 ", "10000-02-29"),
    ("date", "10001-02-29", None),
    ("date", "0001-02-29 BC", "0001-02-29 BC"),
    ("date", "4714-11-24 BC", "4714-11-24 BC"),
    ("date", "4714-11-23 BC", None),
    ("date", "5874898-01-01", None),
    ("date", "0044-03-15 12:00 BC", None),
    ("time", "24:00", "24:00:00"),
    ("time", "24:00:00.5", None),
    ("timestamp", "0044-03-15 12:00:00.5 BC", "0044-03-15 12:00:00.500000 BC"),
    ("timestamp", "0044-03-15 12:00Z BC", None),
    ("timestamp", "10000-01-01", "10000-01-01 00:00:00.000000"),
    ("timestamp", "10000-01-01 24:30", None),
    ("timestamptz", "+infinity", "infinity"),
    ("timestamptz", "10000-01-01 00:00-01:30", "10000-01-01 01:30:00.000000Z"),
    ("timestamptz", "294277-01-01 00:00Z", None),
    ("timestamptz", "10000-01-01 00:00 CET", None),
]


@pytest.mark.parametrize(("target", "text", "expected"), EDGES)
def test_the_edges_of_time(target: str, text: str, expected: str | None) -> None:
    cast = cast_column(pa.array([text, None]), target)
    assert as_text(cast.values).to_pylist() == [expected, None]
    assert (cast.refused is not None) == (expected is None)
    again = cast_column(as_text(cast.values), target)
    assert (again.values, again.refused) == (cast.values, None)


def test_infinity_is_beyond_all_other_times() -> None:
    values = cast_column(pa.array(["-infinity", "4714-11-24 BC", "2026-01-01", "5874897-12-31", "infinity"]), "date")
    assert pc.array_sort_indices(values.values).to_pylist() == [0, 1, 2, 3, 4]


SEEDS = {
    "integer": ["12", "-7", "+5", "007", "2147483647"],
    "double precision": ["1.5", "1e5", "-nan", "inf", "nan(1)", "-.5e-3", "5."],
    "numeric(6,2)": ["12.50", "1e2", "-.5", "5.", "0001.5", "1E-2", "12.500"],
    "date": ["2013-01-31", "2012-02-29"],
    "timestamp": ["2013-01-01", "2013-01-01T05:06:07.123", "2013-01-01 05", "2013-01-01 05:06"],
    "timestamptz": [
        "2013-01-01T05:06:07.1Z",
        "2013-01-01 05:06+02:00",
        "2013-01-01 05+02",
        "2013-01-01",
        "2013-01-01 05",
    ],
    "time": ["05:06:07.5", "05:06", "05"],
    "boolean": ["true", "T", "0", "no"],
}


@pytest.mark.parametrize("target", SEEDS)
def test_what_a_text_means_does_not_depend_on_its_neighbours(target: str) -> None:
    chance = random.Random(7)
    texts = {_mutated(chance.choice(SEEDS[target]), chance) for _ in range(300)} | set(SEEDS[target])
    together = as_text(cast_column(pa.array([*texts, "poison"]), target).values)
    for text, meant in zip(texts, together, strict=False):
        assert as_text(cast_column(pa.array([text]), target).values)[0] == meant, text


def _mutated(text: str, chance: random.Random) -> str:
    for _ in range(chance.choice((1, 1, 2, 3))):
        place = chance.randrange(len(text) + 1)
        text = text[:place] + chance.choice(["", *"0123456789+-.eE:TZ nxXif()"]) + text[place + chance.randrange(2) :]
    return text
