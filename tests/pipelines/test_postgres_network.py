"""A network that swallows everything ends by a time-out, at source and warehouse, waiting or in mid-sending."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from chaos.proxy import Direction, Proxy
from millstream_pipelines.errors import RetriableError
from millstream_pipelines.testing.warehouse_case import PEOPLE
from millstream_pipelines.warehouses.base import Counts, LoadSpec
from millstream_pipelines.warehouses.postgres import PostgresWarehouse
from postgres_reading import config_of, read_new
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

ROWS = 200_000
MUCH, LITTLE = 1_000_000, 2_000  # bytes: in the middle of the rows; among the questions before them


def _warehouse(config: dict[str, Any]) -> PostgresWarehouse:
    return PostgresWarehouse(PostgresWarehouse.Config.model_validate(config), "Warehouse 'dw'")


def copied_in(config: dict[str, Any]) -> None:
    warehouse = _warehouse(config)
    warehouse.probe()
    spec = LoadSpec("a/b", "people", "run-1", "pod-1", "raw.people", "incremental", "append")
    load = warehouse.load(spec)
    sent = load.shape(PEOPLE)
    numbers = list(range(ROWS))
    rows = pa.RecordBatch.from_pydict({"id": numbers, "name": ["x" * 50] * ROWS, "rev": numbers}, schema=sent.arrow())
    load.write(rows, [], Counts(read=ROWS))
    load.commit({"rev": ROWS})


def read_out(config: dict[str, Any]) -> None:
    read_new(config, stream="t")


@pytest.mark.parametrize(
    ("use", "direction", "after"),
    [(copied_in, "up", MUCH), (copied_in, "down", LITTLE), (read_out, "down", MUCH), (read_out, "up", LITTLE)],
    ids=["rows on their way in", "an answer of the warehouse", "rows on their way out", "a question to the source"],
)
def test_a_silent_network_is_a_retriable_error(
    use: Callable[[dict[str, Any]], None], direction: Direction, after: int, postgres_database: Postgres
) -> None:
    postgres_database.execute(f"CREATE TABLE t AS SELECT g AS id, repeat('x', 50) FROM generate_series(1, {ROWS}) g")
    postgres_database.execute("ALTER TABLE t ADD PRIMARY KEY (id)")
    proxy = Proxy(postgres_database.host, postgres_database.port, "black-hole", direction, after)
    config = config_of(postgres_database) | {"port": proxy.port, "networkTimeoutSeconds": 2}
    raised: list[BaseException] = []

    def run() -> None:
        try:
            use(config)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)  # the system's own patience is a quarter of an hour
    alive = thread.is_alive()
    proxy.close()
    assert not alive
    assert proxy.spoiled
    assert [type(error) for error in raised] == [RetriableError], raised


def test_a_pod_that_vanished_does_not_keep_its_stream(postgres_database: Postgres) -> None:
    """The server ends a session that has gone silent, and with it the lease: another run gets its turn."""
    proxy = Proxy(postgres_database.host, postgres_database.port, "black-hole", "up", MUCH)
    config = config_of(postgres_database) | {"networkTimeoutSeconds": 2}
    with pytest.raises(RetriableError):
        copied_in(config | {"port": proxy.port})
    deadline = time.monotonic() + 60
    while _busy(config, "run-2"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    proxy.close()


def test_a_reader_that_vanished_does_not_keep_its_session(postgres_database: Postgres) -> None:
    """What a dead session has read holds back vacuum at the source."""
    postgres_database.execute(f"CREATE TABLE t AS SELECT g AS id, repeat('x', 50) FROM generate_series(1, {ROWS}) g")
    postgres_database.execute("ALTER TABLE t ADD PRIMARY KEY (id)")
    proxy = Proxy(postgres_database.host, postgres_database.port, "black-hole", "up", LITTLE)
    options = {"application_name": "vanished"}
    with pytest.raises(RetriableError):
        read_out(config_of(postgres_database) | {"port": proxy.port, "networkTimeoutSeconds": 2, "options": options})
    deadline = time.monotonic() + 60
    while postgres_database.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'vanished'"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    proxy.close()


def _busy(config: dict[str, Any], run: str) -> bool:
    warehouse = _warehouse(config)
    try:
        warehouse.load(LoadSpec("a/b", "people", run, "pod-2", "raw.people", "incremental", "append"))
    except RetriableError as error:
        return error.reason == "StreamBusy"
    finally:
        warehouse.close()
    return False
