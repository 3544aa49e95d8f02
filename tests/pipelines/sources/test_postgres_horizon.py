"""The safe horizon, one situation at a time: who is waited for and who is not. Many at once: tests/chaos."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from millstream_pipelines.errors import ConfigurationError, RetriableError
from postgres_reading import Connect, Sql, config_of, connected, execute, read_new, running_sql, values
from servers.postgres import Postgres


@pytest.fixture
def database(postgres_database: Postgres) -> dict[str, Any]:
    """Return the configuration that reaches an empty database; reads wait a second for writers."""
    return {**config_of(postgres_database), "waitForWritersSeconds": 1}


@pytest.fixture
def connect(database: dict[str, Any]) -> Iterator[Connect]:
    """Return a function that opens a further session."""
    opened: list[Any] = []

    def open_session() -> Any:
        opened.append(connected(database))
        return opened[-1]

    yield open_session
    for connection in opened:
        connection.close()


@pytest.fixture
def sql(database: dict[str, Any]) -> Iterator[Sql]:
    """Return a function that runs SQL in its own transaction."""
    with running_sql(database) as run:
        yield run


def test_cursors_whose_order_nobody_keeps_are_refused(database: dict[str, Any], sql: Sql) -> None:
    sql("CREATE SEQUENCE s CACHE 20; CREATE TABLE t (id int NOT NULL DEFAULT nextval('s'))")
    sql("INSERT INTO t DEFAULT VALUES")
    with pytest.raises(ConfigurationError, match=r"sequence s hands out 20 values .* ALTER SEQUENCE s CACHE 1"):
        read_new(database)
    assert values(read_new({**database, "trustCursorOrder": True})) == [1]
    sql("CREATE MATERIALIZED VIEW m AS SELECT id FROM t")
    with pytest.raises(ConfigurationError, match="materialized view"):
        read_new(database, stream="m")


def test_a_smaller_id_that_commits_later_is_waited_for(database: dict[str, Any], connect: Connect, sql: Sql) -> None:
    sql("CREATE TABLE t (id serial PRIMARY KEY, v text)")
    slow = connect()
    execute(slow, "INSERT INTO t (v) VALUES ('one')")
    sql("INSERT INTO t (v) VALUES ('two')")
    with pytest.raises(RetriableError, match=r"1 transaction\(s\) may still commit .*nothing was skipped") as caught:
        read_new(database)
    assert caught.value.reason == "WaitingForWriters"
    later = threading.Timer(0.5, slow.commit)
    later.start()
    assert values(read_new({**database, "waitForWritersSeconds": 30})) == [1, 2]
    later.join()


def test_writers_of_other_tables_and_readers_are_not_waited_for(
    database: dict[str, Any], connect: Connect, sql: Sql
) -> None:
    sql("CREATE TABLE t (id serial PRIMARY KEY); CREATE TABLE other (x int); INSERT INTO t DEFAULT VALUES")
    execute(connect(), "INSERT INTO other VALUES (1)")
    execute(connect(), "SELECT * FROM t")
    assert values(read_new({**database, "waitForWritersSeconds": 0})) == [1]


def test_a_partition_waits_for_writers_of_its_parent(database: dict[str, Any], connect: Connect, sql: Sql) -> None:
    sql("CREATE TABLE p (id serial) PARTITION BY RANGE (id); CREATE TABLE t PARTITION OF p DEFAULT")
    slow = connect()
    execute(slow, "INSERT INTO p DEFAULT VALUES")
    sql("INSERT INTO p DEFAULT VALUES")
    for stream in ("p", "t"):
        with pytest.raises(RetriableError, match="may still commit"):
            read_new(database, stream=stream)


def test_a_prepared_transaction_is_waited_for(database: dict[str, Any], connect: Connect, sql: Sql) -> None:
    if sql("SHOW max_prepared_transactions")[0][0] == "0":
        pytest.skip("the server has no prepared transactions")
    sql("CREATE TABLE t (id serial, at timestamptz NOT NULL DEFAULT now())")
    name = database["database"]  # prepared transactions share one space of names
    slow = connect()
    execute(slow, "INSERT INTO t DEFAULT VALUES")
    sql("INSERT INTO t DEFAULT VALUES")
    threading.Timer(0.3, lambda: execute(slow, f"PREPARE TRANSACTION '{name}'")).start()
    try:
        for cursor in ("id", "at"):
            with pytest.raises(RetriableError, match="prepared transaction"):
                read_new({**database, "waitForWritersSeconds": 5}, cursor_field=cursor)
    finally:
        sql(f"COMMIT PREPARED '{name}'")
    assert values(read_new(database)) == [1, 2]


def test_a_time_is_read_up_to_the_oldest_running_transaction(
    database: dict[str, Any], connect: Connect, sql: Sql
) -> None:
    sql("CREATE TABLE t (id int, at timestamptz NOT NULL DEFAULT now()); INSERT INTO t VALUES (1)")
    slow = connect()
    execute(slow, "SELECT 1")  # its now() is fixed here; the table is locked much later
    sql("INSERT INTO t VALUES (3)")
    first = read_new(database, cursor_field="at")
    assert values(first) == [1]
    execute(slow, "INSERT INTO t VALUES (2)")
    assert read_new(database, first[-1].position, cursor_field="at") == []
    slow.commit()
    assert values(read_new(database, first[-1].position, cursor_field="at")) == [2, 3]


def test_a_time_of_the_future_waits_for_its_time(database: dict[str, Any], sql: Sql) -> None:
    sql("CREATE TABLE t (id int, at timestamptz NOT NULL)")
    sql("INSERT INTO t VALUES (1, now()), (2, now() + interval '1 day')")
    assert values(read_new(database, cursor_field="at")) == [1]


def test_a_time_without_zone_waits_for_all_or_falls_back(database: dict[str, Any], connect: Connect, sql: Sql) -> None:
    sql("CREATE TABLE t (id int, at timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'))")
    sql("INSERT INTO t VALUES (1), (0); UPDATE t SET at = at - interval '2 days' WHERE id = 0")
    slow = connect()
    execute(slow, "SELECT 1")
    sql("INSERT INTO t VALUES (3)")
    assert values(read_new(database, cursor_field="at")) == [0]
    assert values(read_new({**database, "cursorTimeZone": "UTC"}, cursor_field="at")) == [0, 1]
    execute(slow, "INSERT INTO t VALUES (2)")
    slow.commit()
    assert sorted(values(read_new(database, cursor_field="at"))) == [0, 1, 2, 3]


def test_a_date_is_read_when_its_day_is_over(database: dict[str, Any], sql: Sql) -> None:
    sql("CREATE TABLE t AS SELECT 3 - g AS id, current_date - g AS day FROM generate_series(0, 3) g")
    first = read_new(database, cursor_field="day")
    assert values(first) in ([0, 1], [0, 1, 2])  # it is still yesterday in the westernmost zone until noon UTC
    assert sorted(values(read_new(database, cursor_field="day", lag=timedelta(days=1)))) == [0, 1, 2, 3]


def test_starts_hidden_from_a_plain_user_are_waited_for(database: dict[str, Any], connect: Connect, sql: Sql) -> None:
    role = f"plain_{sql('SELECT current_database()')[0][0]}"
    sql(f"CREATE ROLE {role} LOGIN PASSWORD 'plain-7'; CREATE TABLE t (id int, at timestamptz NOT NULL DEFAULT now())")
    sql(f"INSERT INTO t VALUES (1); GRANT SELECT ON t TO {role}")
    try:
        other = connect()
        execute(other, "SELECT 1")
        config = {**database, "user": role, "password": "plain-7"}
        with pytest.raises(RetriableError, match="GRANT pg_read_all_stats TO"):
            read_new(config, cursor_field="at")
        other.commit()
        assert values(read_new(config, cursor_field="at")) == [1]
    finally:
        sql(f"DROP OWNED BY {role}; DROP ROLE {role}")
