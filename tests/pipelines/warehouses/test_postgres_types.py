"""Every SQL type on its way into PostgreSQL: written as a batch stores it, read back identical, straight and staged."""

from __future__ import annotations

import math
import struct
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import psycopg2
import pytest

from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.testing.warehouse_case import batch
from millstream_pipelines.warehouses.base import Counts
from postgres_case import PostgresCase

# type → (value as a batch stores it, literal that PostgreSQL must find equal); one value: the literal is the value.
VALUES: dict[str, list[Any]] = {
    "smallint": [-(2**15), 0, 2**15 - 1],
    "integer": [-(2**31), 2**31 - 1],
    "bigint": [-(2**63), 2**63 - 1],
    "real": [1.5, (struct.unpack("f", struct.pack("f", 0.1))[0], "0.1"), (math.inf, "Infinity"), (-0.0, "-0")],
    "double precision": [0.1, 5e-324, 1.7976931348623157e308, (math.inf, "Infinity"), (-math.inf, "-Infinity"),
                         (math.nan, "NaN"), (-0.0, "-0")],
    "boolean": [True, False],
    "numeric(38,10)": [Decimal("0"), Decimal("-9999999999999999999999999999.9999999999"), Decimal("1E-10"),
                       Decimal("10000.0000000000")],
    "numeric(38,0)": [Decimal(10**38 - 1), Decimal(-1)],
    "numeric(5,5)": [Decimal("0.00001"), Decimal("-0.99999")],
    "numeric(4)": [Decimal(9999), Decimal(-10)],
    "numeric(50,20)": ["123456789012345678901234567890.12345678901234567890"],
    "numeric(3,-2)": ["12300"],
    "numeric": ["NaN", "Infinity", "-Infinity", "0." + "0" * 500 + "1", "9" * 1000, "-1.50"],
    "date": [date(1, 1, 1), date(9999, 12, 31), date(1970, 1, 1)],
    "time": [time(0), time(23, 59, 59, 999999)],
    "time(3)": ["12:34:56.789"],
    "timestamp": [datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999), datetime(1969, 12, 31, 23, 59, 59, 1)],
    "timestamp(3)": ["2024-02-29 12:34:56.789"],
    "timestamptz": [datetime(1, 1, 1, tzinfo=UTC), datetime(2024, 3, 10, 7, 0, 0, 1, tzinfo=UTC)],
    "timestamptz(0)": ["2024-02-29 12:34:56+00"],
    "timetz": ["12:34:56.789+05:30"],
    "interval": ["1 year 2 mons -3 days +04:05:06.789", "-00:00:00.000001", "123456789 microseconds"],
    "bytea": [(b"", "\\x"), (b"\x00\xff\n\\", "\\x00ff0a5c"), (b"x" * 70000, "\\x" + "78" * 70000)],
    "text": ["", "ünïcödé 💧", "tab\t\n\\N\r'\"", "x" * 100_000, "\u202e\ufeff"],
    "character varying(3)": ["", "ab", "üäö"],
    "character varying": ["any"],
    "character(5)": ["ab", "abcde"],
    "uuid": ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000",
             "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
             "a0eebc999c0b4ef8bb6d6bb9bd380a11"],
    "json": ['{"b": 1, "a": [1,  2.50]}', "null", '"\\u00fc"'],
    "jsonb": ['{"b": 1, "a": [1, 2.50, null, "💧"]}', "[" * 50 + "]" * 50, "1e300", "null"],
    "integer[]": ["{1,NULL,3}", "{}", "{{1,2},{3,4}}", "[2:3]={7,8}"],
    "text[]": ['{"a,b","",NULL,"null","\\"q\\"","ü"}'],
    "numeric[]": ["{1.50,NaN}"],
    "timestamptz[]": ['{"2024-01-01 00:00:00+00"}'],
    "int4range": ["[1,5)", "empty", "(,)"],
    "numrange": ["[1.5,2.5]"],
    "tstzrange": ['["2024-01-01 00:00:00+00",infinity)'],
    "daterange": ["[2024-01-01,2024-02-01)"],
    "int4multirange": ["{[1,3),[5,7)}"],
    "inet": ["192.168.0.1/24", "::1"],
    "cidr": ["10.0.0.0/8"],
    "macaddr": ["08:00:2b:01:02:03"],
    "money": ["$1,234.56"],
    "bit(3)": ["101"],
    "bit varying(8)": ["10110"],
    "point": ["(1.5,-2)"],
    "polygon": ["((0,0),(1,1),(1,0))"],
    "xml": ["<a>&lt;ü</a>"],
    "tsvector": ["'a':1 'b':2"],
    "oid": ["4294967295"],
    "public.mood": ["sad", "very happy"],
    "public.mood[]": ["{sad,NULL}"],
    "public.positive": ["1", "7.5"],
    "citext": ["MiXed"],
    "hstore": ['"a"=>"1", "b"=>NULL'],
}  # fmt: skip
SETUP = (
    "CREATE TYPE public.mood AS ENUM ('sad', 'very happy')",
    "CREATE DOMAIN public.positive AS numeric CHECK (VALUE > 0)",
    "CREATE EXTENSION IF NOT EXISTS citext",
    "CREATE EXTENSION IF NOT EXISTS hstore",
)


class TestTypes(PostgresCase):
    """One column of one type, a NULL first and last."""

    @pytest.mark.parametrize("staged", [False, True], ids=["append", "merge"])
    @pytest.mark.parametrize("kind", VALUES)
    def test_values_come_back_identical(self, kind: str, staged: bool) -> None:
        for statement in SETUP:
            self._perhaps(statement)
        pairs = [item if isinstance(item, tuple) else (item, str(item)) for item in VALUES[kind]]
        schema = Schema((Column("id", "bigint"), Column("v", kind)))
        spec = self.merging() if staged else self.spec()
        load = self.open().load(spec)
        try:
            target = load.shape(schema)
        except Exception:
            if kind in ("citext", "hstore", "xml"):
                pytest.skip(f"the server has no {kind}")
            raise
        assert target.get("v") == Column("v", schema.columns[1].type)
        rows = batch(target, (0, None), *((n, value) for n, (value, _) in enumerate(pairs, 1)), (99, None))
        load.write(rows, [], Counts(read=rows.num_rows))
        load.commit(None)
        found = self.query(f"SELECT id, v::text FROM {self.table} ORDER BY id")
        expected = [
            (n, self.query(f"SELECT {_literal(text)}::{kind}::text")[0][0]) for n, (_, text) in enumerate(pairs, 1)
        ]
        assert found == [(0, None), *expected, (99, None)]

    def _perhaps(self, statement: str) -> None:
        try:
            self.execute(statement)
        except psycopg2.Error:  # it is there already, or this server does not ship the extension
            return


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
