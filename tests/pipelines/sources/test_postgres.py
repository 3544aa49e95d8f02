"""The source `postgres` against a real server: the suite, every type, streams and keys, errors that say what to do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import psycopg2
import pyarrow as pa
import pytest
from psycopg2.extensions import make_dsn
from servers.postgres import PostgresServer

from millstream_pipelines.errors import ConfigurationError, DataError, RetriableError
from millstream_pipelines.registry import configured
from millstream_pipelines.schema import arrow_type
from millstream_pipelines.sources.base import ReadRequest
from millstream_pipelines.sources.postgres import PostgresSource
from millstream_pipelines.testing.source import SourceSuite

OWNER = "source 'shop'"


@pytest.fixture
def database(postgres_server: PostgresServer) -> Iterator[dict[str, Any]]:
    """Return the configuration that reaches an empty database."""
    with postgres_server.database() as config:
        yield config


@pytest.fixture
def sql(database: dict[str, Any]) -> Iterator[Any]:
    """Return a function that runs SQL as the owner and returns the rows."""
    connection = connected(database)

    def run(statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    yield run
    connection.close()


def connected(config: Mapping[str, Any]) -> Any:
    names = {"host": "host", "port": "port", "user": "user", "password": "password", "database": "dbname"}
    connection = psycopg2.connect(make_dsn(None, **{names[key]: config[key] for key in names if config.get(key)}))
    connection.autocommit = True
    return connection


def source(config: Mapping[str, Any], **changes: Any) -> PostgresSource:
    return PostgresSource(configured(PostgresSource.Config, {**config, **changes}, {}, OWNER), OWNER)


def read(config: Mapping[str, Any], stream: str, **changes: Any) -> list[Any]:
    reader = source(config)
    try:
        return list(reader.read(ReadRequest(stream, **changes)))
    finally:
        reader.close()


@pytest.fixture(scope="module")
def people(postgres_server: PostgresServer) -> Iterator[dict[str, Any]]:
    """Return a database with 250 000 rows: three batches at least."""
    with postgres_server.database() as config:
        connection = connected(config)
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE people AS SELECT g / 7 AS grp, g AS id FROM generate_series(1, 250000) g")
            cursor.execute("CREATE INDEX ON people (grp)")
        connection.close()
        yield config


class TestSuite(SourceSuite):
    """The shared conformance suite, over a table whose cursor values repeat across batches."""

    source = PostgresSource
    stream = "public.people"
    row_count = 250_000
    cursor_field = "grp"
    bad_config: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "port": {"port": "x"},
        "sslmode": {"sslmode": "maybe"},
        "streams": {"streams": [{"name": "n"}]},
    }

    @pytest.fixture
    def config(self, people: dict[str, Any]) -> dict[str, Any]:
        return people


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
def test_every_type_survives(type_name: str, database: dict[str, Any], sql: Any) -> None:
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
        ("timestamp", ["infinity", "-infinity", "2026-01-01 00:00:00"]),
        ("date", ["infinity", "-infinity", "2026-01-01"]),
        ("time", ["24:00:00", "00:00:01"]),
        ("numeric(5,1)", ["NaN", "1.5"]),
    ],
)
def test_what_arrow_cannot_hold_goes_as_text(
    type_name: str, values: list[str], database: dict[str, Any], sql: Any
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


def test_domains_enums_and_composites_become_what_any_database_knows(database: dict[str, Any], sql: Any) -> None:
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


def test_streams_are_tables_views_and_partitioned_parents(database: dict[str, Any], sql: Any) -> None:
    sql("CREATE SCHEMA s; CREATE TABLE s.a (x int, y text NOT NULL, z int, PRIMARY KEY (z, x)); CREATE TABLE empty ()")
    sql("CREATE VIEW v AS SELECT x FROM s.a; CREATE MATERIALIZED VIEW m AS SELECT x FROM s.a")
    sql("CREATE TABLE p (d date NOT NULL) PARTITION BY RANGE (d); CREATE TABLE p1 PARTITION OF p DEFAULT")
    sql('CREATE SCHEMA _millstream; CREATE TABLE _millstream.state (x int); CREATE TABLE "Odd ""name.x" ("a b" int)')
    streams = {info.name: info.schema for info in source(database).streams()}
    assert sorted(streams) == sorted(["s.a", "public.v", "public.m", "public.p", 'public.Odd "name.x'])
    assert streams["s.a"].primary_key == ("z", "x")
    assert [column.nullable for column in streams["s.a"]] == [False, False, False]
    assert [info.name for info in source(database, schemas=["s"]).streams()] == ["s.a"]
    assert source(database).describe("p1").schema.names == ["d"]
    assert source(database).describe('Odd "name.x').schema.names == ["a b"]
    sql('INSERT INTO "Odd ""name.x" VALUES (5)')
    assert read(database, 'public.Odd "name.x')[0].data.to_pylist() == [{"a b": 5}]
    with pytest.raises(ConfigurationError, match="has no columns"):
        source(database).describe("empty")


def test_a_query_is_a_stream(database: dict[str, Any], sql: Any) -> None:
    query = "SELECT 1 AS id, 12.50::numeric(6,2) AS price, '50%%'::text AS rate, now() AS at, '{1}'::int[] AS many; "
    config = {**database, "streams": [{"name": "q", "query": query.replace("%%", "%"), "primaryKey": ["id"]}]}
    info = source(config).describe("q")
    assert [column.type for column in info.schema] == ["integer", "numeric(6,2)", "text", "timestamptz", "integer[]"]
    assert info.schema.primary_key == ("id",)
    (batch,) = read(config, "q")
    assert str(batch.data.column("price")[0]) == "12.50"
    assert batch.data.column("rate")[0].as_py() == "50%"
    twice = {**database, "streams": [{"name": "q", "query": "SELECT 1 AS a, 2 AS a"}]}
    with pytest.raises(ConfigurationError, match="names columns twice"):
        source(twice).describe("q")
    broken = {**database, "streams": [{"name": "q", "query": "SELECT nonsense"}]}
    with pytest.raises(ConfigurationError, match="nonsense"):
        source(broken).describe("q")
    writes = {**database, "streams": [{"name": "q", "query": "SELECT nextval('s') AS x"}]}
    sql("CREATE SEQUENCE s")
    with pytest.raises(DataError, match="read-only"):
        read(writes, "q")


def test_same_name_in_two_schemas_asks_which(database: dict[str, Any], sql: Any) -> None:
    sql("CREATE SCHEMA a; CREATE TABLE a.t (x int); CREATE TABLE t (x int)")
    with pytest.raises(ConfigurationError, match=r"several schemas; say which: a\.t, public\.t"):
        source(database).describe("t")
    assert source(database).describe("a.t").name == "a.t"


def test_unknown_names_suggest_the_nearest(database: dict[str, Any], sql: Any) -> None:
    sql("CREATE TABLE orders (id int, customer int)")
    with pytest.raises(
        ConfigurationError, match=r"unknown stream 'public\.order'; known: .*did you mean 'public\.orders'"
    ):
        source(database).describe("public.order")
    with pytest.raises(ConfigurationError, match=r"did you mean 'customer'"):
        read(database, "orders", columns=("custmer",))


def test_batches_are_bounded_whatever_the_rows(database: dict[str, Any], sql: Any) -> None:
    sql("CREATE TABLE narrow AS SELECT 1::smallint AS x FROM generate_series(1, 350000)")
    sizes = [batch.data.num_rows for batch in read(database, "narrow")]
    assert sum(sizes) == 350_000
    assert max(sizes) <= 100_000
    sql("CREATE TABLE wide AS SELECT repeat('x', 5000000) AS x FROM generate_series(1, 20)")
    batches = read(database, "wide")
    assert sum(batch.data.num_rows for batch in batches) == 20
    assert max(batch.data.nbytes for batch in batches) < 32 << 20


def test_wrong_password_names_the_key_not_the_value(database: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        source(database, password="not-the-one-73").streams()
    assert "key 'password'" in str(caught.value)
    assert str(database["host"]) in str(caught.value)
    assert "not-the-one-73" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="no_such_db"):
        source(database, database="no_such_db").streams()


def test_unreachable_servers_are_retried(database: dict[str, Any]) -> None:
    for change in ({"host": "no-such-host.invalid"}, {"port": 1}):
        with pytest.raises(RetriableError, match=OWNER):
            source(database, **change).streams()
    with pytest.raises(ConfigurationError, match="sslmode is 'require'"):
        source(database, sslmode="require").streams()
    with pytest.raises(ConfigurationError, match="options are libpq"):
        source(database, options={"colour": "blue"}).streams()


@pytest.fixture
def reader(sql: Any) -> Iterator[dict[str, str]]:
    name = f"reader_{sql('SELECT current_database()')[0][0]}"
    sql(f"CREATE ROLE {name} LOGIN PASSWORD 'read-only-7'")
    yield {"user": name, "password": "read-only-7"}
    sql(f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_missing_permissions_say_the_grant(database: dict[str, Any], sql: Any, reader: dict[str, str]) -> None:
    sql("CREATE SCHEMA s; CREATE TABLE s.t (x int, secret text); CREATE TABLE open (x int)")
    config = {**database, **reader}
    with pytest.raises(ConfigurationError, match='GRANT USAGE ON SCHEMA "s" TO "reader_'):
        read(config, "s.t")
    sql(f"GRANT USAGE ON SCHEMA s TO {reader['user']}")
    with pytest.raises(ConfigurationError, match=r'GRANT SELECT ON "s"\."t" TO "reader_'):
        read(config, "s.t")
    assert source(config).streams() == []
    sql(f"GRANT SELECT (x) ON s.t TO {reader['user']}")
    assert source(config).describe("s.t").schema.names == ["x"]
    assert read(config, "s.t") == []
    hidden = {**config, "streams": [{"name": "q", "query": "SELECT * FROM open"}]}
    with pytest.raises(ConfigurationError, match=r'permission denied.*GRANT SELECT ON .* TO "reader_'):
        read(hidden, "q")


def test_row_security_never_hides_rows_in_silence(database: dict[str, Any], sql: Any, reader: dict[str, str]) -> None:
    sql("CREATE TABLE t AS SELECT 1 AS x; ALTER TABLE t ENABLE ROW LEVEL SECURITY")
    sql(f"GRANT SELECT ON t TO {reader['user']}")
    with pytest.raises(ConfigurationError, match="BYPASSRLS"):
        read({**database, **reader}, "t")
    assert read({**database, **reader, "rowSecurity": True}, "t") == []


def test_a_connection_lost_in_mid_read_is_no_end_of_data(database: dict[str, Any], sql: Any) -> None:
    sql("CREATE TABLE t AS SELECT g, repeat('x', 200) AS pad FROM generate_series(1, 400000) g")
    opened = source(database)
    rows = opened.read(ReadRequest("t"))
    next(rows)
    sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ '^COPY' AND datname = current_database()")
    with pytest.raises(RetriableError, match=r"stream 'public\.t'"):
        list(rows)
    opened.close()


def test_statement_timeout_names_its_field(database: dict[str, Any]) -> None:
    config = {**database, "statementTimeoutSeconds": 0.2}
    config["streams"] = [{"name": "slow", "query": "SELECT pg_sleep(5)::text AS x"}]
    with pytest.raises(RetriableError, match=r"statementTimeoutSeconds is 0\.2"):
        read(config, "slow")


def test_floats_that_are_no_numbers(database: dict[str, Any], sql: Any) -> None:
    sql("CREATE TABLE t AS SELECT 'NaN'::float8 AS x")
    assert math.isnan(read(database, "t")[0].data.column("x")[0].as_py())


def test_an_error_of_the_query_in_mid_read_is_not_retried(database: dict[str, Any], sql: Any) -> None:
    sql("CREATE VIEW v AS SELECT 1 / (g - 200000) AS x, repeat('x', 300) AS pad FROM generate_series(1, 300000) g")
    with pytest.raises(DataError, match="division by zero"):
        read(database, "v")
