"""A PgBouncer between us and the server: a pool of sessions works in every way, any other is refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from millstream_pipelines import pooler
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.warehouses.postgres import PostgresWarehouse
from pipeline_runs import Runs
from postgres_reading import config_of, source
from retention.policies import FLIGHTS, carried_out, months, spec
from servers.pgbouncer import pooling
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

MERGE: dict[str, Any] = {"writeDisposition": "merge", "primaryKey": ["id"]}


@pytest.fixture(scope="module")
def sessions(postgres_server: Postgres) -> Iterator[Postgres]:
    with pooling(postgres_server, "session") as found:
        yield found


def opened(database: Postgres) -> None:
    warehouse = PostgresWarehouse(PostgresWarehouse.Config.model_validate(database.config), "Warehouse 'dw'")
    try:
        warehouse.probe()
    finally:
        warehouse.close()


class TestSessions(Runs):
    """Source and warehouse through one pool of sessions."""

    @pytest.fixture(autouse=True)
    def _pooled(self, _database: None, sessions: Postgres) -> None:
        self.direct = self.warehouse
        self.source = self.warehouse = replace(self.warehouse, port=sessions.port)

    @pytest.mark.parametrize("stream", [
        {"mode": "incremental", "cursor": {"field": "id"}},
        {"mode": "incremental", "cursor": {"field": "id"}, "raw": False},
        {"mode": "full", "writeDisposition": "replace"},
        {"mode": "incremental", "cursor": {"field": "id"}, **MERGE},
        {"mode": "full", "writeDisposition": "scd2", "primaryKey": ["id"]},
    ], ids=["append", "append by Arrow", "replace", "merge", "scd2"])  # fmt: skip
    def test_every_way_of_loading(self, stream: dict[str, Any]) -> None:
        if not stream.pop("raw", True):
            stream["checks"] = [{"type": "not_null", "column": "id"}]
        self.direct.execute(
            "CREATE TABLE items AS SELECT id::bigint, 'x' || id AS name, timestamptz '2026-01-01' AS at "
            "FROM generate_series(1, 300) id"
        )
        self.direct.execute("ALTER TABLE items ADD PRIMARY KEY (id)")
        for rows in (300, 600):
            report = self.run_stream("items", **stream)
            assert report.exit_code == 0, report.message
            assert self.ask("SELECT count(*), min(at)::text FROM raw.items")[0][0] == rows
            self.direct.execute("INSERT INTO items SELECT id, 'y', now() FROM generate_series(301, 600) id "
                                "ON CONFLICT DO NOTHING")  # fmt: skip
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database "
        assert self.direct.execute(f"{locks} WHERE datname = current_database())") == [(0,)]

    def test_a_policy_archives_and_drops(self, tmp_path: Path) -> None:
        self.direct.execute(FLIGHTS)
        months(self.direct, 9, 10)
        policy = spec(tmp_path, grace="0 days")
        report = carried_out(self.warehouse, policy, datetime(2014, 2, 10, tzinfo=UTC))
        assert report.exit_code == 0, report.message
        assert "2 archived and verified, 2 dropped" in report.message


def test_a_login_that_the_pooler_refuses_is_configuration(sessions: Postgres) -> None:
    with pytest.raises(ConfigurationError, match="keys 'user' and 'password'") as caught:
        opened(replace(sessions, password="wrong"))
    assert caught.value.reason == "LoginRefused"
    with pytest.raises(ConfigurationError, match="'password'"):
        source(config_of(replace(sessions, password="wrong"))).streams()


def test_a_parameter_that_the_pooler_refuses_is_configuration(sessions: Postgres) -> None:
    options = {"options": "-c work_mem=4MB"}
    with pytest.raises(ConfigurationError, match="a pooler takes no such parameter"):
        source(config_of(sessions), options=options).streams()


@pytest.mark.parametrize(("mode", "settings", "seen"), [
    ("transaction", {}, "outlived the connection"),
    ("transaction", {"server_reset_query_always": "1"}, "gone with the transaction"),
    ("transaction", {"server_lifetime": "0"}, "gone with the transaction"),
    ("transaction", {"server_round_robin": "1", "min_pool_size": "3"}, "a lock"),
    ("statement", {}, "a lock outlived"),
    ("session", {"server_reset_query": ""}, "a lock outlived"),
], ids=["transaction", "always reset", "short lives", "round robin", "statement", "never cleared"])  # fmt: skip
def test_a_pool_without_sessions_is_refused(
    mode: str, settings: dict[str, str], seen: str, postgres_database: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooler, "_CLEARED_S", 0.5)
    with pooling(postgres_database, mode, **settings) as pooled:
        with pytest.raises(ConfigurationError, match="pool_mode = session") as caught:
            opened(pooled)
        assert (caught.value.reason, seen in str(caught.value)) == ("TransactionPooling", True), str(caught.value)
        with pytest.raises(ConfigurationError, match="pool_mode = session"):
            source(config_of(pooled)).streams()
    assert postgres_database.execute("SELECT to_regnamespace('_millstream')::text") == [(None,)], "nothing was done"
