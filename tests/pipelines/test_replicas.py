"""A read replica as source, and as a warehouse, which it cannot be."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from millstream_pipelines.errors import RetriableError
from millstream_pipelines.sources.base import ReadRequest
from millstream_pipelines.warehouses.postgres import PostgresWarehouse
from pipeline_runs import Runs
from postgres_reading import config_of, source
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres
from servers.standby import following, is_held_up, replayed

__all__ = ["postgres_database", "postgres_server"]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def replica(postgres_server: Postgres) -> Iterator[Postgres]:
    """It lets no read hold its replay up."""
    with following(postgres_server, max_standby_streaming_delay="0") as found:
        yield found


class TestReplica(Runs):
    """Runs that read the replica and load into its primary."""

    @pytest.fixture(autouse=True)
    def _replica(self, _database: None, replica: Postgres) -> None:
        self.source = replace(self.warehouse, port=replica.port)
        self.warehouse.execute("CREATE TABLE items (id bigint PRIMARY KEY, name text)")
        self.warehouse.execute("INSERT INTO items SELECT n, repeat('x', 200) FROM generate_series(1, 100000) n")
        until(lambda: replayed(self.warehouse, self.source))

    def test_whole_tables_are_read_on_either_path(self) -> None:
        for more in ({}, {"checks": [{"type": "not_null", "column": "id"}]}):
            report = self.run_stream("items", mode="full", writeDisposition="replace", **more)
            assert report.exit_code == 0, report.message
            assert self.ask("SELECT count(*), sum(id)::bigint FROM raw.items") == [(100_000, 5_000_050_000)]

    def test_incremental_reads_are_refused_unless_the_order_is_trusted(self) -> None:
        stream: dict[str, Any] = {"mode": "incremental", "cursor": {"field": "id"}}
        report = self.run_stream("items", **stream)
        assert (report.exit_code, "read the primary" in report.message) == (78, True), report.message
        named = {"streams": [{"name": "items", "table": "public.items", "primaryKey": ["id"]}]}
        trusting = {**self.source.config, **named, "trustCursorOrder": True}
        report = self.run_stream("items", source=("postgres", trusting), **stream)
        assert report.exit_code == 0, report.message
        assert self.ask("SELECT count(*) FROM raw.items") == [(100_000,)]

    def test_a_read_that_the_replay_ends_is_tried_again_and_says_what_helps(self) -> None:
        reading = source(config_of(self.source))
        batches = iter(reading.read(ReadRequest("public.items")))
        try:
            next(batches)
            self.warehouse.execute("DELETE FROM items WHERE id % 2 = 0")
            self.warehouse.execute("VACUUM items")
            # The server ends the read at once, or as soon as it can send on.
            until(lambda: replayed(self.warehouse, self.source) or is_held_up(self.warehouse, self.source))
            with pytest.raises(RetriableError, match=r"hot_standby_feedback = on") as caught:
                list(batches)
        finally:
            reading.close()
        assert caught.value.reason == "ReplicaConflict"
        until(lambda: replayed(self.warehouse, self.source))
        assert self.run_stream("items", mode="full", writeDisposition="replace").exit_code == 0
        assert self.ask("SELECT count(*) FROM raw.items") == [(50_000,)]

    def test_it_is_no_warehouse(self) -> None:
        warehouse = PostgresWarehouse(PostgresWarehouse.Config.model_validate(self.source.config), "Warehouse 'dw'")
        with pytest.raises(RetriableError, match="is a standby, which takes no writes") as caught:
            warehouse.probe()
        assert caught.value.reason == "ReadOnly"
