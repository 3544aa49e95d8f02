"""Incremental reads of the source `postgres`: positions lie between cursor values, never inside one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from millstream_pipelines.errors import ConfigurationError, DataError
from millstream_pipelines.sources._postgres.config import PostgresStream
from millstream_pipelines.sources.base import ReadRequest
from postgres_reading import Sql, config_of, read_new, running_sql, source, values
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


def test_a_second_read_finds_only_what_is_new(database: dict[str, Any], sql: Sql) -> None:
    sql("CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY, v text); INSERT INTO t (v) VALUES ('a'), ('b')")
    first = read_new(database)
    assert values(first) == [1, 2]
    assert first[-1].position == {"field": "id", "cursor": 2, "kind": "number"}
    assert read_new(database, first[-1].position) == []
    sql("INSERT INTO t (v) VALUES ('c')")
    assert values(read_new(database, first[-1].position)) == [3]
    assert read_new(database, first[-1].position, columns=("v",))[0].data.to_pylist() == [{"v": "c", "id": 3}]
    sql("DELETE FROM t")
    assert read_new(database, first[-1].position) == []


@pytest.mark.parametrize(
    ("type_name", "expression"),
    [
        ("integer", "g / 40000"),
        ("numeric", "CASE g % 2 WHEN 0 THEN (g / 40000) + 0.50 ELSE (g / 40000) + 0.5 END"),
        ("numeric(20,2)", "(g / 40000) + 0.5"),
        ("text", "'k' || (g / 40000)"),
        ("timestamp", "'2020-01-01'::timestamp + g / 40000 * interval '1.000001 s'"),
        ("timestamptz", "'2020-01-01'::timestamptz + g / 3 * interval '1 microsecond'"),
        ("timestamptz(3)", "'2020-01-01'::timestamptz + g / 40000 * interval '1 ms'"),
        ("date", "'2020-01-01'::date + g / 140000"),
    ],
)
def test_a_position_never_splits_equal_values(
    type_name: str, expression: str, database: dict[str, Any], sql: Sql
) -> None:
    sql(f"CREATE TABLE t AS SELECT ({expression})::{type_name} AS id, g FROM generate_series(1, 300000) g")
    batches = read_new(database)
    assert sorted(values(batches, "g")) == list(range(1, 300_001))
    assert batches[-1].position is not None
    assert len([batch for batch in batches if batch.position]) > 1
    for number, batch in enumerate(batches):
        if batch.position is not None:
            rest = read_new(database, batch.position)
            assert sorted(values(rest, "g")) == sorted(values(batches[number + 1 :], "g"))


def test_one_value_larger_than_a_batch(database: dict[str, Any], sql: Sql) -> None:
    sql("CREATE TABLE t AS SELECT g / 250000 AS id FROM generate_series(1, 260000) g")
    batches = read_new(database)
    assert [batch.position for batch in batches][:2] == [None, None]
    assert len(values(batches)) == 260_000
    assert batches[-1].position == {"field": "id", "cursor": 1, "kind": "number"}


def test_cursors_must_be_of_an_ordered_type(database: dict[str, Any], sql: Sql) -> None:
    sql("CREATE TABLE t (id uuid, n int)")
    with pytest.raises(ConfigurationError, match="of type uuid cannot be a cursor; accepted: smallint"):
        read_new(database)
    with pytest.raises(ConfigurationError, match=r"needs cursor\.field"):
        read_new(database, cursor_field=None)
    with pytest.raises(ConfigurationError, match=r"cursor\.lag is a duration"):
        read_new(database, cursor_field="n", lag=timedelta(hours=1))
    sql("INSERT INTO t (n) VALUES (1)")
    with pytest.raises(ConfigurationError, match="belongs to another cursor than 'n'; run once with fullRefresh"):
        read_new(database, {"field": "id", "cursor": "x"}, cursor_field="n")


def test_lag_reads_again_from_before_the_position(database: dict[str, Any], sql: Sql) -> None:
    minute = "'2020-01-01'::timestamptz + g * interval '1 min'"
    sql(f"CREATE TABLE t AS SELECT g AS id, {minute} AS at FROM generate_series(1, 9) g")
    first = read_new(database, cursor_field="at")
    again = read_new(database, first[-1].position, cursor_field="at", lag=timedelta(minutes=2))
    assert values(again) == [8, 9]
    opened = source(database)
    assert opened.guarantee(ReadRequest("t", "incremental", "at"))[0] == "exact"
    assert opened.guarantee(ReadRequest("t", "incremental", "at", timedelta(minutes=2)))[0] == "repeats"
    opened.close()


def test_the_configuration_of_a_stream_gives_one_origin() -> None:
    with pytest.raises(ValueError, match="one of them"):
        PostgresStream(name="x", table="a", query="SELECT 1")


def test_no_value_no_order(database: dict[str, Any], sql: Sql) -> None:
    sql("CREATE TABLE t (id int, at timestamptz, n numeric)")
    sql("INSERT INTO t VALUES (1, 'infinity', 'NaN'), (NULL, NULL, 1), (NULL, now(), 2)")
    for cursor, message in (("id", "2 rows have NULL"), ("at", "1 rows have NULL"), ("n", "1 rows have NaN")):
        with pytest.raises(DataError, match=f"{message} in cursor '{cursor}'.*mode full"):
            read_new(database, cursor_field=cursor)
    sql("DELETE FROM t WHERE at IS NULL")
    with pytest.raises(DataError, match="1 rows have infinity in cursor 'at'"):
        read_new(database, cursor_field="at")
