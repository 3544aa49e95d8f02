"""Incremental reads of the source `postgres`: positions between values, and the safe horizon under real writers."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import make_dsn
from servers.postgres import PostgresServer

from millstream_pipelines.batch import Batch, Position
from millstream_pipelines.errors import ConfigurationError, DataError, RetriableError
from millstream_pipelines.registry import configured
from millstream_pipelines.sources._postgres.config import PostgresStream
from millstream_pipelines.sources.base import ReadRequest
from millstream_pipelines.sources.postgres import PostgresSource

OWNER = "source 'shop'"
Connect = Callable[[], Any]


@pytest.fixture
def database(postgres_server: PostgresServer) -> Iterator[dict[str, Any]]:
    """Return the configuration that reaches an empty database; reads wait a second for writers."""
    with postgres_server.database() as config:
        yield {**config, "waitForWritersSeconds": 1}


@pytest.fixture
def connect(database: dict[str, Any]) -> Iterator[Connect]:
    """Return a function that opens a further session."""
    opened: list[Any] = []

    def open_session() -> Any:
        names = {"host": "host", "port": "port", "user": "user", "password": "password", "database": "dbname"}
        opened.append(
            psycopg2.connect(make_dsn(None, **{names[key]: database[key] for key in names if key in database}))
        )
        return opened[-1]

    yield open_session
    for connection in opened:
        connection.close()


@pytest.fixture
def sql(connect: Connect) -> Callable[..., list[tuple[Any, ...]]]:
    """Return a function that runs SQL in its own transaction."""
    connection = connect()
    connection.autocommit = True
    return lambda statement, *parameters: execute(connection, statement, *parameters)


def execute(connection: Any, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters or None)
        return cursor.fetchall() if cursor.description else []


def read(config: Mapping[str, Any], position: Position | None = None, **changes: Any) -> list[Batch]:
    source = PostgresSource(configured(PostgresSource.Config, config, {}, OWNER), OWNER)
    wanted = {"stream": "public.t", "mode": "incremental", "cursor_field": "id", "position": position, **changes}
    try:
        return list(source.read(ReadRequest(**wanted)))
    finally:
        source.close()


def values(batches: list[Batch], column: str = "id") -> list[Any]:
    return [value for batch in batches for value in batch.data.column(column).to_pylist()]


def test_a_second_read_finds_only_what_is_new(database: dict[str, Any], sql: Any) -> None:
    sql("CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY, v text); INSERT INTO t (v) VALUES ('a'), ('b')")
    first = read(database)
    assert values(first) == [1, 2]
    assert first[-1].position == {"field": "id", "cursor": 2}
    assert read(database, first[-1].position) == []
    sql("INSERT INTO t (v) VALUES ('c')")
    assert values(read(database, first[-1].position)) == [3]
    assert read(database, first[-1].position, columns=("v",))[0].data.to_pylist() == [{"v": "c", "id": 3}]
    sql("DELETE FROM t")
    assert read(database, first[-1].position) == []


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
    type_name: str, expression: str, database: dict[str, Any], sql: Any
) -> None:
    sql(f"CREATE TABLE t AS SELECT ({expression})::{type_name} AS id, g FROM generate_series(1, 300000) g")
    batches = read(database)
    assert sorted(values(batches, "g")) == list(range(1, 300_001))
    assert batches[-1].position is not None
    assert len([batch for batch in batches if batch.position]) > 1
    for number, batch in enumerate(batches):
        if batch.position is not None:
            rest = read(database, batch.position)
            assert sorted(values(rest, "g")) == sorted(values(batches[number + 1 :], "g"))


def test_one_value_larger_than_a_batch(database: dict[str, Any], sql: Any) -> None:
    sql("CREATE TABLE t AS SELECT g / 250000 AS id FROM generate_series(1, 260000) g")
    batches = read(database)
    assert [batch.position for batch in batches][:2] == [None, None]
    assert len(values(batches)) == 260_000
    assert batches[-1].position == {"field": "id", "cursor": 1}


def test_cursors_must_be_of_an_ordered_type(database: dict[str, Any], sql: Any) -> None:
    sql("CREATE TABLE t (id uuid, n int)")
    with pytest.raises(ConfigurationError, match="of type uuid cannot be a cursor; accepted: smallint"):
        read(database)
    with pytest.raises(ConfigurationError, match=r"needs cursor\.field"):
        read(database, cursor_field=None)
    with pytest.raises(ConfigurationError, match=r"cursor\.lag is a duration"):
        read(database, cursor_field="n", lag=timedelta(hours=1))
    sql("INSERT INTO t (n) VALUES (1)")
    with pytest.raises(ConfigurationError, match="belongs to another cursor than 'n'; run once with fullRefresh"):
        read(database, {"field": "id", "cursor": "x"}, cursor_field="n")


def test_cursors_whose_order_nobody_keeps_are_refused(database: dict[str, Any], sql: Any) -> None:
    sql("CREATE SEQUENCE s CACHE 20; CREATE TABLE t (id int NOT NULL DEFAULT nextval('s'))")
    sql("INSERT INTO t DEFAULT VALUES")
    with pytest.raises(ConfigurationError, match=r"sequence s hands out 20 values .* ALTER SEQUENCE s CACHE 1"):
        read(database)
    assert values(read({**database, "trustCursorOrder": True})) == [1]
    sql("CREATE MATERIALIZED VIEW m AS SELECT id FROM t")
    with pytest.raises(ConfigurationError, match="materialized view"):
        read(database, stream="m")


def test_a_smaller_id_that_commits_later_is_waited_for(database: dict[str, Any], connect: Connect, sql: Any) -> None:
    sql("CREATE TABLE t (id serial PRIMARY KEY, v text)")
    slow = connect()
    execute(slow, "INSERT INTO t (v) VALUES ('one')")
    sql("INSERT INTO t (v) VALUES ('two')")
    with pytest.raises(RetriableError, match=r"1 transaction\(s\) may still commit .*nothing was skipped") as caught:
        read(database)
    assert caught.value.reason == "WaitingForWriters"
    later = threading.Timer(0.5, slow.commit)
    later.start()
    assert values(read({**database, "waitForWritersSeconds": 30})) == [1, 2]
    later.join()


def test_writers_of_other_tables_and_readers_are_not_waited_for(
    database: dict[str, Any], connect: Connect, sql: Any
) -> None:
    sql("CREATE TABLE t (id serial PRIMARY KEY); CREATE TABLE other (x int); INSERT INTO t DEFAULT VALUES")
    execute(connect(), "INSERT INTO other VALUES (1)")
    execute(connect(), "SELECT * FROM t")
    assert values(read({**database, "waitForWritersSeconds": 0})) == [1]


def test_a_partition_waits_for_writers_of_its_parent(database: dict[str, Any], connect: Connect, sql: Any) -> None:
    sql("CREATE TABLE p (id serial) PARTITION BY RANGE (id); CREATE TABLE t PARTITION OF p DEFAULT")
    slow = connect()
    execute(slow, "INSERT INTO p DEFAULT VALUES")
    sql("INSERT INTO p DEFAULT VALUES")
    for stream in ("p", "t"):
        with pytest.raises(RetriableError, match="may still commit"):
            read(database, stream=stream)


def test_a_prepared_transaction_is_waited_for(database: dict[str, Any], connect: Connect, sql: Any) -> None:
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
                read(database, cursor_field=cursor)
    finally:
        sql(f"COMMIT PREPARED '{name}'")
    assert values(read(database)) == [1, 2]


def test_a_time_is_read_up_to_the_oldest_running_transaction(
    database: dict[str, Any], connect: Connect, sql: Any
) -> None:
    sql("CREATE TABLE t (id int, at timestamptz NOT NULL DEFAULT now()); INSERT INTO t VALUES (1)")
    slow = connect()
    execute(slow, "SELECT 1")  # its now() is fixed here; the table is locked much later
    sql("INSERT INTO t VALUES (3)")
    first = read(database, cursor_field="at")
    assert values(first) == [1]
    execute(slow, "INSERT INTO t VALUES (2)")
    assert read(database, first[-1].position, cursor_field="at") == []
    slow.commit()
    assert values(read(database, first[-1].position, cursor_field="at")) == [2, 3]


def test_a_time_of_the_future_waits_for_its_time(database: dict[str, Any], sql: Any) -> None:
    sql("CREATE TABLE t (id int, at timestamptz NOT NULL)")
    sql("INSERT INTO t VALUES (1, now()), (2, now() + interval '1 day')")
    assert values(read(database, cursor_field="at")) == [1]


def test_a_time_without_zone_waits_for_all_or_falls_back(database: dict[str, Any], connect: Connect, sql: Any) -> None:
    sql("CREATE TABLE t (id int, at timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'))")
    sql("INSERT INTO t VALUES (1), (0); UPDATE t SET at = at - interval '2 days' WHERE id = 0")
    slow = connect()
    execute(slow, "SELECT 1")
    sql("INSERT INTO t VALUES (3)")
    assert values(read(database, cursor_field="at")) == [0]
    assert values(read({**database, "cursorTimeZone": "UTC"}, cursor_field="at")) == [0, 1]
    execute(slow, "INSERT INTO t VALUES (2)")
    slow.commit()
    assert sorted(values(read(database, cursor_field="at"))) == [0, 1, 2, 3]


def test_a_date_is_read_when_its_day_is_over(database: dict[str, Any], sql: Any) -> None:
    sql("CREATE TABLE t AS SELECT 3 - g AS id, current_date - g AS day FROM generate_series(0, 3) g")
    first = read(database, cursor_field="day")
    assert values(first) in ([0, 1], [0, 1, 2])  # it is still yesterday in the westernmost zone until noon UTC
    assert sorted(values(read(database, cursor_field="day", lag=timedelta(days=1)))) == [0, 1, 2, 3]


def test_lag_reads_again_from_before_the_position(database: dict[str, Any], sql: Any) -> None:
    minute = "'2020-01-01'::timestamptz + g * interval '1 min'"
    sql(f"CREATE TABLE t AS SELECT g AS id, {minute} AS at FROM generate_series(1, 9) g")
    first = read(database, cursor_field="at")
    again = read(database, first[-1].position, cursor_field="at", lag=timedelta(minutes=2))
    assert values(again) == [8, 9]
    source = PostgresSource(configured(PostgresSource.Config, database, {}, OWNER), OWNER)
    request = ReadRequest("t", "incremental", "at")
    assert source.guarantee(request)[0] == "exact"
    assert source.guarantee(ReadRequest("t", "incremental", "at", timedelta(minutes=2)))[0] == "repeats"
    source.close()


def test_starts_hidden_from_a_plain_user_are_waited_for(database: dict[str, Any], connect: Connect, sql: Any) -> None:
    role = f"plain_{sql('SELECT current_database()')[0][0]}"
    sql(f"CREATE ROLE {role} LOGIN PASSWORD 'plain-7'; CREATE TABLE t (id int, at timestamptz NOT NULL DEFAULT now())")
    sql(f"INSERT INTO t VALUES (1); GRANT SELECT ON t TO {role}")
    try:
        other = connect()
        execute(other, "SELECT 1")
        config = {**database, "user": role, "password": "plain-7"}
        with pytest.raises(RetriableError, match="GRANT pg_read_all_stats TO"):
            read(config, cursor_field="at")
        other.commit()
        assert values(read(config, cursor_field="at")) == [1]
    finally:
        sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.parametrize("cursor", ["id", "at", "local"])
def test_no_row_is_missed_or_doubled_under_writers_that_commit_out_of_order(
    cursor: str, database: dict[str, Any], connect: Connect, sql: Any
) -> None:
    """Seven writers insert and commit after random pauses, some roll back; a reader follows. Compare at the end."""
    sql(
        "CREATE TABLE t (id bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), writer int, "
        "local timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'))"
    )
    sql("CREATE INDEX ON t (at); CREATE INDEX ON t (local)")
    stop = threading.Event()
    failures: list[BaseException] = []

    def write(number: int, connection: Any) -> None:
        chance = random.Random(number)
        try:
            while not stop.is_set():
                if chance.random() < 0.5:
                    execute(connection, "SELECT 1")  # the transaction begins well before it locks the table
                    time.sleep(chance.random() * 0.05)
                for _ in range(chance.randint(1, 4)):
                    execute(connection, "INSERT INTO t (writer) VALUES (%s)", number)
                    time.sleep(chance.random() * 0.03)
                connection.commit() if chance.random() < 0.9 else connection.rollback()
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(number, connect())) for number in range(7)]
    for writer in writers:
        writer.start()
    seen: Counter[int] = Counter()
    position, reads = None, 0
    patient = {**database, "waitForWritersSeconds": 10}

    def follow() -> None:
        nonlocal position, reads
        for batch in read(patient, position, cursor_field=cursor):
            seen.update(batch.data.column("id").to_pylist())
            position = batch.position or position
        reads += 1

    try:
        deadline = time.monotonic() + 6
        while time.monotonic() < deadline:
            follow()
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert not failures
    follow()
    committed = {row[0] for row in sql("SELECT id FROM t")}
    assert reads > 2
    assert len(committed) > 100
    assert set(seen) == committed
    assert max(seen.values()) == 1


def test_the_configuration_of_a_stream_gives_one_origin() -> None:
    with pytest.raises(ValueError, match="one of them"):
        PostgresStream(name="x", table="a", query="SELECT 1")


def test_no_value_no_order(database: dict[str, Any], sql: Any) -> None:
    sql("CREATE TABLE t (id int, at timestamptz, n numeric)")
    sql("INSERT INTO t VALUES (1, 'infinity', 'NaN'), (NULL, NULL, 1), (NULL, now(), 2)")
    for cursor, message in (("id", "2 rows have NULL"), ("at", "1 rows have NULL"), ("n", "1 rows have NaN")):
        with pytest.raises(DataError, match=f"{message} in cursor '{cursor}'.*mode full"):
            read(database, cursor_field=cursor)
    sql("DELETE FROM t WHERE at IS NULL")
    with pytest.raises(DataError, match="1 rows have infinity in cursor 'at'"):
        read(database, cursor_field="at")
