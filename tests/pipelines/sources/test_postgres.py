"""The source `postgres` against a real server: the suite, streams and keys, bounded batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pytest

from millstream_pipelines.errors import ConfigurationError, DataError
from millstream_pipelines.sources.base import Range
from millstream_pipelines.sources.postgres import PostgresSource
from millstream_pipelines.testing.source import SourceSuite
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


@pytest.fixture(scope="module")
def people(postgres_server: Postgres) -> Iterator[dict[str, Any]]:
    """Return a database with 250 000 rows: three batches at least."""
    with postgres_server.fresh_database() as database:
        config = config_of(database)
        with running_sql(config) as run:
            run("CREATE TABLE people AS SELECT g / 7 AS grp, g AS id FROM generate_series(1, 250000) g")
            run("ALTER TABLE people ADD PRIMARY KEY (id); CREATE INDEX ON people (grp)")
        yield config


class TestSuite(SourceSuite):
    """The shared conformance suite, over a table whose cursor values repeat across batches."""

    source = PostgresSource
    stream = "public.people"
    row_count = 250_000
    cursor_field = "grp"
    ranges = (Range("-9999999999", "100"), Range("100", "101"), Range("101", "99999999999999999999"))
    bad_config: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "port": {"port": "x"},
        "sslmode": {"sslmode": "maybe"},
        "streams": {"streams": [{"name": "n"}]},
    }

    @pytest.fixture
    def config(self, people: dict[str, Any]) -> dict[str, Any]:
        return people


def test_streams_are_tables_views_and_partitioned_parents(database: dict[str, Any], sql: Sql) -> None:
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


def test_a_query_is_a_stream(database: dict[str, Any], sql: Sql) -> None:
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


def test_same_name_in_two_schemas_asks_which(database: dict[str, Any], sql: Sql) -> None:
    sql("CREATE SCHEMA a; CREATE TABLE a.t (x int); CREATE TABLE t (x int)")
    with pytest.raises(ConfigurationError, match=r"several schemas; say which: a\.t, public\.t"):
        source(database).describe("t")
    assert source(database).describe("a.t").name == "a.t"


def test_unknown_names_suggest_the_nearest(database: dict[str, Any], sql: Sql) -> None:
    sql("CREATE TABLE orders (id int, customer int)")
    with pytest.raises(
        ConfigurationError, match=r"unknown stream 'public\.order'; known: .*did you mean 'public\.orders'"
    ):
        source(database).describe("public.order")
    with pytest.raises(ConfigurationError, match=r"did you mean 'customer'"):
        read(database, "orders", columns=("custmer",))


def test_batches_are_bounded_whatever_the_rows(database: dict[str, Any], sql: Sql) -> None:
    sql("CREATE TABLE narrow AS SELECT 1::smallint AS x FROM generate_series(1, 350000)")
    sizes = [batch.data.num_rows for batch in read(database, "narrow")]
    assert sum(sizes) == 350_000
    assert max(sizes) <= 100_000
    sql("CREATE TABLE wide AS SELECT repeat('x', 5000000) AS x FROM generate_series(1, 20)")
    batches = read(database, "wide")
    assert sum(batch.data.num_rows for batch in batches) == 20
    assert max(batch.data.nbytes for batch in batches) < 32 << 20
