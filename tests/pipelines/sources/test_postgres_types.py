"""Every type survives the source `postgres`, or goes as text and says so."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from millstream_pipelines.schema import arrow_type
from postgres_reading import Sql, config_of, read, running_sql, source
from servers.postgres import Postgres


@pytest.fixture
def database(postgres_database: Postgres) -> dict[str, Any]:
    """Return the configuration that reaches an empty database."""
    return config_of(postgres_database)


@pytest.fixture
def sql(database: dict[str, Any]) -> Iterator[Sql]:
    """Return a function that runs SQL as the owner."""
    with running_sql(database) as run:
        yield run


# Each type with values where drivers go wrong. `None` comes last in every column.
TYPES: dict[str, list[str]] = {
    "smallint": ["-32768", "32767"],
    "integer": ["-2147483648", "2147483647"],
    "bigint": ["-9223372036854775808", "9223372036854775807"],
    "numeric": ["0.10", "-1e-300", "NaN", "12345678901234567890123456789012345678901234567890.5"],
    "numeric(12,2)": ["-0.01", "9999999999.99", "0.00"],
    "numeric(5,1)": ["NaN", "1.5"],
    "numeric(38,0)": ["99999999999999999999999999999999999999"],
    "numeric(40,2)": ["12345678901234567890123456789012345678.99"],
    "numeric(3,-2)": ["99900"],
    "real": ["1.17549435e-38", "NaN", "-Infinity", "0.1"],
    "double precision": ["0.1", "NaN", "Infinity", "5e-324", "-0"],
    "boolean": ["true", "false"],
    "text": ["", " ", "NULL", "näïve 雪 🐟", "a\tb\nc\\", "x" * 100_000],
    "varchar(9)": ["", "abc"],
    "char(4)": ["ab", "abcd"],
    '"char"': ["x"],
    "name": ["n"],
    "bytea": ["\\x", "\\x00ff5c"],
    "date": ["0001-01-01", "9999-12-31", "4713-01-01 BC"],
    "time": ["00:00:00", "23:59:59.999999"],
    "timetz": ["12:00:00.5+02", "24:00:00-15:59"],
    "timestamp": ["0001-01-01 00:00:00", "9999-12-31 23:59:59.999999"],
    "timestamptz": ["1970-01-01 00:00:00.000001+05:30", "2026-03-29 02:30:00+01"],
    "timestamp(3)": ["2026-01-01 00:00:00.123"],
    "timestamptz(0)": ["2026-01-01 00:00:00+00", "infinity"],
    "interval": ["1 mon 2 days -00:00:00.5", "-1 year"],
    "uuid": ["123e4567-e89b-12d3-a456-426614174000"],
    "json": ['{"b": 1,  "a": [1, 1e400]}', "null"],
    "jsonb": ['{"a": 12345678901234567890.123, "b": "\\u00e9"}'],
    "xml": ["<a>1</a>"],
    "inet": ["10.0.0.0/8", "::1"],
    "macaddr": ["08:00:2b:01:02:03"],
    "bit(3)": ["101"],
    "bit varying(8)": ["1", ""],
    "int4range": ["[1,5)", "empty", "(,)"],
    "tstzrange": ['["2026-01-01 00:00:00+00",infinity]'],
    "int8multirange": ["{[1,3),[5,9)}"],
    "integer[]": ["{}", "{1,NULL,3}", "{{1,2},{3,4}}", "[0:1]={5,6}"],
    "text[]": ['{"a,b","c\\"d",NULL,"NULL"}'],
    "double precision[]": ["{0.1,NaN,Infinity}"],
    "timestamptz[]": ['{"2026-01-01 00:00:00+00",infinity}'],
    "point": ["(0.1,2)"],
    "tsvector": ["'a':1 'b':2"],
    "money": ["$1,000.50"],
    "oid": ["4294967295"],
    "pg_lsn": ["16/B374D848"],
}


def as_sql_text(array: pa.Array) -> list[str | None]:
    """Return what a loader that knows nothing but the batch would send."""
    if pa.types.is_binary(array.type):
        return [None if value is None else "\\x" + value.hex() for value in array.to_pylist()]
    if pa.types.is_floating(array.type):
        return [None if value is None else repr(value) for value in array.to_pylist()]
    text: list[str | None] = array.cast(pa.string()).to_pylist()
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        return [value if value is None or value[0] != "-" else _before_christ(value) for value in text]
    return text


def _before_christ(value: str) -> str:
    year, rest = value[1:].split("-", 1)
    return f"{int(year) + 1:04}-{rest} BC"


@pytest.mark.parametrize("type_name", TYPES)
def test_every_type_survives(type_name: str, database: dict[str, Any], sql: Sql) -> None:
    values = [*TYPES[type_name], None]
    sql("SET timezone = 'UTC'")
    sql(f"CREATE TABLE t (n integer, v {type_name})")
    for number, value in enumerate(values):
        sql(f"INSERT INTO t VALUES (%s, %s::text::{type_name})", number, value)
    described = source(database).describe("t").schema.get("v")
    assert described is not None
    (batch,) = read(database, "t")
    column = batch.data.column("v")
    assert column.type in (arrow_type(described.type), pa.string())
    order = batch.data.column("n").to_pylist()
    assert order == sorted(order)
    send = [(number, text) for number, text in zip(order, as_sql_text(column), strict=True)]
    sql(f"CREATE TABLE back (n integer, v {described.type})")
    for number, text in send:
        sql(f"INSERT INTO back VALUES (%s, %s::text::{described.type})", number, text)
    sql("SET extra_float_digits = 3")
    expected = sql("SELECT n, v::text FROM t ORDER BY n")
    assert sql("SELECT n, v::text FROM back ORDER BY n") == expected
    declared = (
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attname = 'v' AND attrelid = %s::regclass"
    )
    assert sql(declared, "back") == sql(declared, "t")


@pytest.mark.parametrize(
    ("type_name", "values"),
    [
        ("timestamptz", ["infinity", "-infinity", "2026-01-01 00:00:00+00", "294276-12-31 23:59:59.999999+00"]),
        ("numeric(5,1)", ["NaN", "1.5"]),
    ],
)
def test_what_arrow_cannot_hold_goes_as_text(
    type_name: str, values: list[str], database: dict[str, Any], sql: Sql
) -> None:
    sql("SET timezone = 'UTC'")
    sql(f"CREATE TABLE t (v {type_name})")
    for value in [*values, None]:
        sql(f"INSERT INTO t VALUES (%s::text::{type_name})", value)
    (batch,) = read(database, "t")
    column = batch.data.column("v")
    assert column.type == pa.string()
    back = [sql(f"SELECT %s::{type_name}::text", text)[0][0] for text in column.to_pylist()]
    assert back == [row[0] for row in sql("SELECT v::text FROM t")]
    stream = {"name": "t_text", "table": "t", "columns": {"v": "text"}}
    config = {**database, "streams": [stream]}
    (batch,) = read(config, "t_text")
    assert batch.data.column("v").to_pylist()[0] == sql("SELECT v::text FROM t")[0][0]


def test_domains_enums_and_composites_become_what_any_database_knows(database: dict[str, Any], sql: Sql) -> None:
    sql("CREATE DOMAIN positive AS integer CHECK (value > 0); CREATE DOMAIN price AS numeric(10,2)")
    sql("CREATE DOMAIN low_price AS price; CREATE TYPE mood AS ENUM ('ok', 'sad'); CREATE TYPE pair AS (a int, b text)")
    sql("CREATE TABLE t (a positive, b low_price, c mood, d mood[], e pair)")
    sql("INSERT INTO t VALUES (1, 2.5, 'ok', '{ok,sad}', ROW(1, 'x, y'))")
    schema = source(database).describe("t").schema
    assert {column.name: column.type for column in schema} == {
        "a": "integer",
        "b": "numeric(10,2)",
        "c": "text",
        "d": "text[]",
        "e": "text",
    }
    (batch,) = read(database, "t")
    (row,) = batch.data.to_pylist()
    assert (row["a"], str(row["b"]), row["c"], row["d"], row["e"]) == (1, "2.50", "ok", "{ok,sad}", '(1,"x, y")')


def test_floats_that_are_no_numbers(database: dict[str, Any], sql: Sql) -> None:
    sql("CREATE TABLE t AS SELECT 'NaN'::float8 AS x")
    assert math.isnan(read(database, "t")[0].data.column("x")[0].as_py())
