"""The source `sql` against a real MariaDB and SQLite: the suite, types, positions, and what it refuses."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from millstream_pipelines.batch import Batch
from millstream_pipelines.errors import ConfigurationError, DataError, MillstreamError, RetriableError
from millstream_pipelines.registry import configured
from millstream_pipelines.sources.base import Range, ReadRequest
from millstream_pipelines.sources.sql import SqlSource
from millstream_pipelines.testing.source import SourceSuite
from servers.mariadb import MariaDB
from servers.plugin import mariadb_database, mariadb_server

__all__ = ["mariadb_database", "mariadb_server"]


def source(config: Mapping[str, Any]) -> SqlSource:
    return SqlSource(configured(SqlSource.Config, config, {}, "source 's'"), "source 's'")


def read(config: Mapping[str, Any], stream: str, **request: Any) -> list[Batch]:
    opened = source(config)
    try:
        return list(opened.read(ReadRequest(stream, **request)))
    finally:
        opened.close()


def rows(config: Mapping[str, Any], stream: str, **request: Any) -> list[dict[str, Any]]:
    return [row for batch in read(config, stream, **request) for row in batch.data.to_pylist()]


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A SQLite file, `tmp_path/shop.db`."""
    connection = sqlite3.connect(tmp_path / "shop.db", isolation_level=None)
    yield connection
    connection.close()


@pytest.fixture
def sqlite_config(tmp_path: Path) -> dict[str, Any]:
    return {"url": f"sqlite:///{tmp_path}/shop.db"}


@pytest.fixture(scope="module")
def people(mariadb_server: MariaDB) -> Iterator[MariaDB]:
    with mariadb_server.fresh_database() as database:
        database.execute("CREATE TABLE people (grp int NOT NULL, id int PRIMARY KEY)")
        database.execute("INSERT INTO people SELECT seq DIV 7, seq FROM seq_1_to_45000")
        yield database


class TestMariaDB(SourceSuite):
    """The shared conformance suite, over a table whose cursor values repeat across pages."""

    source = SqlSource
    stream = "people"
    row_count = 45_000
    cursor_field = "grp"
    ranges = (Range("-5", "100"), Range("100", "101"), Range("101", "99999999"))
    bad_config: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "url": {"url": "nonsense"},
        "streams": {"streams": [{"name": "n"}]},
        "password": {"url": "mysql+pymysql://me:secret-word@host/db"},
    }

    @pytest.fixture
    def config(self, people: MariaDB) -> dict[str, Any]:
        return {**people.config, "password": "", "trustCursorOrder": True}

    @pytest.fixture
    def secret(self, people: MariaDB) -> dict[str, str]:
        return {"password": people.password}


class TestSQLite(SourceSuite):
    """The shared conformance suite, over times kept as text."""

    source = SqlSource
    stream = "visits"
    row_count = 30_000
    cursor_field = "at"
    ranges = (Range("2025-12-31T00:00:00", "2026-01-01T00:00:00"), Range("2026-01-01T00:00:00", "2026-01-02T00:00:00"))

    @pytest.fixture
    def config(self, sqlite: sqlite3.Connection, sqlite_config: dict[str, Any]) -> dict[str, Any]:
        sqlite.execute("CREATE TABLE visits (id integer PRIMARY KEY, at datetime NOT NULL, page text)")
        sqlite.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000) "
            "INSERT INTO visits SELECT i, datetime('2026-01-01', (i / 9) || ' seconds'), 'p' || i FROM n"
        )
        return sqlite_config


MARIADB_TYPES: list[tuple[str, str, str, str | None]] = [
    # declared, literal, our type, value as text
    ("bigint", "-9223372036854775808", "bigint", "-9223372036854775808"),
    ("bigint unsigned", "18446744073709551615", "numeric(20,0)", "18446744073709551615"),
    ("int unsigned", "4294967295", "bigint", "4294967295"),
    ("mediumint", "-8388608", "integer", "-8388608"),
    ("smallint unsigned", "65535", "integer", "65535"),
    ("tinyint(1)", "7", "smallint", "7"),
    ("decimal(12,2)", "-0.05", "numeric(12,2)", "-0.05"),
    ("decimal(38,10)", "1234567890123456789012345678.0123456789", "numeric(38,10)",
     "1234567890123456789012345678.0123456789"),
    ("decimal(65,30)", "1e-30", "numeric(65,30)", "0.000000000000000000000000000001"),
    ("float", "0.1", "real", "0.10000000149011612"),
    ("float", "16777217.5", "real", "16777218.0"),
    ("double", "0.1e-300", "double precision", "1e-301"),
    ("varchar(10)", "''", "character varying(10)", ""),
    ("varchar(10)", "NULL", "character varying(10)", None),
    ("char(4)", "'ab'", "character varying(4)", "ab"),
    ("longtext", "'日本 🚀 50% :name'", "text", "日本 🚀 50% :name"),
    ("enum('a','b')", "'b'", "text", "b"),
    ("set('x','y')", "'x,y'", "text", "x,y"),
    ("varbinary(4)", "x'00ff'", "bytea", "b'\\x00\\xff'"),
    ("longblob", "x''", "bytea", "b''"),
    ("date", "'9999-12-31'", "date", "9999-12-31"),
    ("datetime(6)", "'2026-03-29 02:30:00.000001'", "timestamp", "2026-03-29 02:30:00.000001"),
    ("timestamp(3)", "'2026-03-29 02:30:00.125'", "timestamptz", "2026-03-29 02:30:00.125000+00:00"),
    ("time(6)", "'-838:59:58.000001'", "interval", "-838:59:58.000001"),
    ("year", "2026", "smallint", "2026"),
    ("uuid", "'6ccd780c-baba-1026-9564-5b8c656024db'", "uuid", "6ccd780c-baba-1026-9564-5b8c656024db"),
    ("inet6", "'::1'", "text", "::1"),
]  # fmt: skip


@pytest.mark.parametrize(("declared", "literal", "kind", "text"), MARIADB_TYPES, ids=lambda value: str(value)[:24])
def test_mariadb_types_survive(
    mariadb_database: MariaDB, declared: str, literal: str, kind: str, text: str | None
) -> None:
    mariadb_database.execute("SET sql_mode = 'STRICT_ALL_TABLES'", f"CREATE TABLE t (x {declared} NULL)")
    mariadb_database.execute(
        "SET time_zone = '+00:00', @x = 1, NAMES utf8mb4; "[:-2], f"INSERT INTO t VALUES ({literal})"
    )
    opened = source(mariadb_database.config)
    assert opened.describe("t").schema.columns[0].type == kind
    (row,) = rows(mariadb_database.config, "t")
    assert (None if row["x"] is None else str(row["x"])) == text


def test_a_value_no_type_holds_goes_on_as_text(
    mariadb_database: MariaDB, sqlite: sqlite3.Connection, tmp_path: Path
) -> None:
    mariadb_database.execute("CREATE TABLE t (day date)", "INSERT INTO t VALUES ('0000-00-00'), ('2026-01-01')")
    assert [row["day"] for row in rows(mariadb_database.config, "t")] == ["0000-00-00", "2026-01-01"]
    sqlite.execute("CREATE TABLE t (n integer, price decimal(6,2), at datetime)")
    sqlite.execute("INSERT INTO t VALUES (1, 2.5, '2026-01-01 10:00:00'), ('many', '12.50', 'never')")
    found = rows({"url": f"sqlite:///{tmp_path}/shop.db"}, "t")
    assert [row["n"] for row in found] == ["1", "many"]
    assert [row["price"] for row in found] == ["2.5", "12.5"]
    assert [row["at"] for row in found] == ["2026-01-01 10:00:00", "never"]


def test_streams_are_tables_views_and_queries(mariadb_database: MariaDB) -> None:
    mariadb_database.execute(
        "CREATE TABLE `order` (id int PRIMARY KEY, `a b` varchar(5) NOT NULL)",
        "INSERT INTO `order` VALUES (1, '10%')",
        "CREATE VIEW v AS SELECT id FROM `order`",
    )
    query = "SELECT id, '12:30' AS at, CAST(2.50 AS decimal(5,2)) AS price FROM `order` WHERE `a b` LIKE '10%';"
    config = {**mariadb_database.config, "streams": [{"name": "q", "query": query, "primaryKey": ["id"]}]}
    found = {info.name: info.schema for info in source(config).streams()}
    assert sorted(found) == ["order", "q", "v"]
    assert found["order"].primary_key == ("id",)
    assert [column.nullable for column in found["order"]] == [False, False]
    assert rows(config, "order") == [{"id": 1, "a b": "10%"}]
    assert [(column.name, column.type) for column in found["q"]] == [
        ("id", "bigint"), ("at", "text"), ("price", "numeric")
    ]  # fmt: skip
    assert [(row["id"], row["at"], str(row["price"])) for row in rows(config, "q")] == [(1, "12:30", "2.50")]
    typed = {**config, "streams": [{"name": "q", "query": query, "columns": {"price": "numeric(5,2)"}}]}
    assert source(typed).describe("q").schema.columns[2].type == "numeric(5,2)"
    other = {**config, "schemas": [mariadb_database.database]}
    assert f"{mariadb_database.database}.order" in [info.name for info in source(other).streams()]


def test_memory_is_bounded_whatever_the_rows(mariadb_database: MariaDB) -> None:
    mariadb_database.execute(
        "CREATE TABLE wide (x longtext)", "INSERT INTO wide SELECT repeat('x', 1000000) FROM seq_1_to_60"
    )
    mariadb_database.execute("CREATE TABLE narrow (x tinyint)", "INSERT INTO narrow SELECT 1 FROM seq_1_to_50000")
    wide = read(mariadb_database.config, "wide")
    assert sum(batch.data.num_rows for batch in wide) == 60
    narrow = read(mariadb_database.config, "narrow")
    assert sum(batch.data.num_rows for batch in narrow) == 50_000
    assert max(batch.data.num_rows for batch in narrow) <= 20_000


def test_incremental_goes_on_behind_the_position(mariadb_database: MariaDB) -> None:
    mariadb_database.execute("CREATE TABLE t (id int PRIMARY KEY, at datetime(3) NOT NULL, n decimal(8,3) NOT NULL)")
    mariadb_database.execute("INSERT INTO t VALUES (1, '2026-01-01 00:00:00.5', 1.5), (2, '2026-01-02', 2.25)")
    config = {**mariadb_database.config, "trustCursorOrder": True}
    for field, cursor in (("id", 2), ("at", "2026-01-02 00:00:00"), ("n", "2.250")):
        *_, batch = read(config, "t", mode="incremental", cursor_field=field)
        assert batch.position == {"field": field, "cursor": cursor}
        assert rows(config, "t", mode="incremental", cursor_field=field, position=batch.position) == []
    mariadb_database.execute("INSERT INTO t VALUES (3, '2026-01-03', 3)")
    position = {"field": "at", "cursor": "2026-01-02 00:00:00"}
    assert [row["id"] for row in rows(config, "t", mode="incremental", cursor_field="at", position=position)] == [3]
    part = Range("2026-01-01 00:00:00.5", "2026-01-03")
    assert [row["id"] for row in rows(config, "t", mode="incremental", cursor_field="at", range=part)] == [1, 2]
    with pytest.raises(ConfigurationError, match=r"window\.from: 'monday' is no timestamp, the type of cursor 'at'"):
        read(config, "t", mode="incremental", cursor_field="at", range=Range("monday", "2026-01-03"))


def test_what_could_miss_rows_is_refused(mariadb_database: MariaDB) -> None:
    mariadb_database.execute("CREATE TABLE t (id int PRIMARY KEY, at datetime, name varchar(9))")
    mariadb_database.execute("INSERT INTO t VALUES (1, NULL, 'a')")
    config = mariadb_database.config
    trusted = {**config, "trustCursorOrder": True}
    cases: list[tuple[Mapping[str, Any], str, type[MillstreamError], str]] = [
        (config, "id", ConfigurationError, r"out of order.*cursor\.lag.*trustCursorOrder"),
        (trusted, "at", DataError, "1 rows have NULL in cursor 'at'"),
        (trusted, "name", ConfigurationError, r"cursor 'name' is character varying\(9\).*: id, at"),
        (trusted, "idd", ConfigurationError, "unknown cursor 'idd'.*did you mean 'id'"),
    ]
    for given, field, kind, words in cases:
        with pytest.raises(kind, match=words):
            read(given, "t", mode="incremental", cursor_field=field)


def test_sqlite_refuses_a_cursor_whose_order_is_not_its_values(
    sqlite: sqlite3.Connection, sqlite_config: dict[str, Any]
) -> None:
    sqlite.execute("CREATE TABLE t (n integer NOT NULL)")
    sqlite.execute("INSERT INTO t VALUES (1), ('abc')")
    with pytest.raises(DataError, match=r"cursor .n. .* holds .abc., a str"):
        read(sqlite_config, "t", mode="incremental", cursor_field="n")


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"password": "wrong-one"}, ConfigurationError, "login refused; check keys 'user' and 'password'"),
        ({"url": "mysql+pymysql://127.0.0.1:1/x"}, RetriableError, "127.0.0.1:1/x"),
        ({"url": "sqlite:////no/such/file.db"}, ConfigurationError, "unable to open database file"),
        ({"url": "sqlite://"}, ConfigurationError, "sqlite needs a file"),
        ({"url": "klingon://x/y"}, ConfigurationError, "no SQLAlchemy dialect for 'klingon'"),
        ({"url": "oracle+oracledb://x/y"}, ConfigurationError, "driver for 'oracle.oracledb' is not installed"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_connections_say_what_to_do(
    mariadb_database: MariaDB, change: dict[str, Any], kind: type[MillstreamError], words: str
) -> None:
    with pytest.raises(kind, match=words) as caught:
        source({**mariadb_database.config, **change}).streams()
    assert mariadb_database.password not in str(caught.value)
    assert "wrong-one" not in str(caught.value)


def test_a_connection_killed_in_mid_read_may_be_retried(mariadb_database: MariaDB) -> None:
    mariadb_database.execute("CREATE TABLE t (x text)", "INSERT INTO t SELECT repeat('x', 5000) FROM seq_1_to_20000")
    opened = source(mariadb_database.config)
    batches = opened.read(ReadRequest("t"))
    next(iter(batches))
    mine = "SELECT id FROM information_schema.processlist WHERE db = database() AND id <> connection_id()"
    for (number,) in mariadb_database.execute(mine):
        mariadb_database.execute(f"KILL {number}")
    with pytest.raises(RetriableError, match="stream 't'"):
        list(batches)
    opened.close()


def test_nothing_can_be_written(
    mariadb_database: MariaDB, sqlite: sqlite3.Connection, sqlite_config: dict[str, Any]
) -> None:
    sqlite.execute("CREATE TABLE t (x integer)")
    sqlite.execute("INSERT INTO t VALUES (1)")
    assert len(rows(sqlite_config, "t")) == 1
    writing = {**sqlite_config, "streams": [{"name": "q", "query": "SELECT 1) q; DELETE FROM t; --"}]}
    with pytest.raises(MillstreamError):
        read(writing, "q")
    assert sqlite.execute("SELECT count(*) FROM t").fetchone() == (1,)
    mariadb_database.execute("CREATE SEQUENCE s")
    drawing = {**mariadb_database.config, "streams": [{"name": "q", "query": "SELECT nextval(s) AS x"}]}
    with pytest.raises(MillstreamError, match=r"(?i)read.only"):
        read(drawing, "q")
