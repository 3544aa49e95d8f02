"""The warehouse `postgres` in bad weather: what is retried, what is told, and that nothing is half-committed."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psycopg2
import pytest

from millstream_pipelines.batch import Reject
from millstream_pipelines.errors import ConfigurationError, DataError, MillstreamError, RetriableError, SupersededError
from millstream_pipelines.testing.warehouse_case import PEOPLE, batch, totals, write
from millstream_pipelines.warehouses._postgres import metadata
from millstream_pipelines.warehouses._postgres.connection import PostgresConfig, connect, translated
from millstream_pipelines.warehouses._postgres.load import PostgresLoad
from millstream_pipelines.warehouses.base import Counts
from millstream_pipelines.warehouses.postgres import PostgresWarehouse
from postgres_case import PostgresCase


class TestLostConnections(PostgresCase):
    """A connection that ends in mid-load."""

    def kill(self, warehouse: Any) -> None:
        self.execute(f"SELECT pg_terminate_backend({warehouse.connection.info.backend_pid}, 5000)")

    @pytest.mark.parametrize("disposition", ["append", "merge"])
    def test_nothing_is_half_committed_and_the_next_attempt_repairs(self, disposition: str) -> None:
        warehouse = self.open()
        load = warehouse.load(self.spec(disposition=disposition, primary_key=("id",)))
        self.loaded(load, (1, "a", 1), position={"rev": 1})
        write(load, (2, "lost", 2), rejects=(Reject("rule", "why", {}),))
        self.kill(warehouse)
        with pytest.raises(RetriableError):
            self.loaded(load, (3, "lost", 3))
        load.rollback()
        assert totals(load.run_counts()) == (1, 1, 0, 0, 0), "the ledger is read over a new connection"
        assert self.seen() == [(1, "a")]
        assert self.metadata("rule", "quarantine") == []
        again = self.open().load(self.spec(disposition=disposition, primary_key=("id",), holder="pod-2"))
        assert again.position == {"rev": 1}
        self.loaded(again, (2, "b", 2), position={"rev": 2})
        assert self.seen() == [(1, "a"), (2, "b")]

    @pytest.mark.parametrize("stage", ["settle", "commit"])
    def test_at_the_end_of_a_chunk(self, stage: str) -> None:
        warehouse = self.open()
        load = warehouse.load(self.merging())
        load.shape(PEOPLE)
        write(load, (1, "lost", 1))
        if stage == "commit":
            load.settle()
        self.kill(warehouse)
        with pytest.raises(RetriableError):
            load.commit(None)
        assert self.seen() == []
        assert self.metadata("seq", "state") == [(0,)]

    def test_in_the_middle_of_a_copy(self) -> None:
        warehouse = self.open()
        load = warehouse.load(self.spec())
        target = load.shape(PEOPLE)
        rows = batch(target, *((n, "x" * 1000, n) for n in range(40_000)))
        pid = cast(Any, warehouse).connection.info.backend_pid
        self.execute(
            "CREATE OR REPLACE FUNCTION public.die() RETURNS trigger LANGUAGE plpgsql AS "
            f"'BEGIN IF NEW.id = 30000 THEN PERFORM pg_terminate_backend({pid}); END IF; RETURN NEW; END'"
        )
        self.execute(f"CREATE TRIGGER die BEFORE INSERT ON {self.table} FOR EACH ROW EXECUTE FUNCTION public.die()")
        load.write(rows, [], Counts(read=rows.num_rows))
        with pytest.raises(RetriableError):
            load.settle()
        load.rollback()
        assert self.seen() == []

    def test_the_warehouse_reconnects_for_the_next_stream(self) -> None:
        warehouse = self.open()
        warehouse.load(self.spec())
        self.kill(warehouse)
        with pytest.raises(RetriableError):
            warehouse.load(self.spec(stream="second"))
        self.loaded(warehouse.load(self.spec(stream="second")), (1, "a", 1))
        assert self.seen() == [(1, "a")]


class TestLocks(PostgresCase):
    """Somebody else's lock on the target."""

    def test_a_lock_that_stays_is_retried_later(self) -> None:
        self.loaded(self.open().load(self.spec()), (1, "a", 1))
        self._opened[-1].close()
        self.execute("BEGIN")
        self.execute(f"LOCK TABLE {self.table} IN ACCESS EXCLUSIVE MODE")
        self.config_seen = {**self.config_seen, "lockTimeoutSeconds": 1}
        load = self.open().load(self.spec(run="run-2"))
        with pytest.raises(RetriableError, match="lock timeout"):
            self.loaded(load, (2, "b", 1))
        load.rollback()
        self.execute("ROLLBACK")
        self.loaded(load, (2, "b", 1))
        assert self.seen() == [(1, "a"), (2, "b")]


class TestSleepers(PostgresCase):
    """A pod that sleeps with its transaction open."""

    @pytest.mark.parametrize("disposition", ["append", "merge"])
    def test_one_in_the_middle_of_its_commit_keeps_no_successor_out(self, disposition: str) -> None:
        changes = {"disposition": disposition, "primary_key": ("id",)}
        sleeper = cast(PostgresLoad, self.open().load(self.spec(**changes)))
        sleeper.shape(PEOPLE)
        write(sleeper, (1, "lost", 1))
        sleeper.settle()
        sleeper._lease.advance(None)  # from here to the commit it holds the row that every attempt must take
        self.config_seen = {**self.config_seen, "lockTimeoutSeconds": 1}
        successor = self.open().load(self.spec(**changes, holder="pod-2"))
        with pytest.raises(SupersededError):
            sleeper.commit(None)
        self.loaded(successor, (2, "b", 1))
        assert self.seen() == [(2, "b")]


class TestFirstUse(PostgresCase):
    """`_millstream` is made by several pods at the same moment."""

    def test_one_that_has_not_said_its_name_yet_is_another_run(self) -> None:
        warehouse = self.open()
        name = f"millstream/suite/{self.suffix}/people"
        self.execute(f"SELECT pg_advisory_lock(hashtextextended('{name}', 0))")
        with pytest.raises(RetriableError, match="stream 'people': another run is loading it now") as caught:
            warehouse.load(self.spec())
        assert caught.value.reason == "StreamBusy"

    def test_who_waited_for_another_takes_what_that_one_made(self) -> None:
        self.execute("DROP SCHEMA IF EXISTS _millstream CASCADE")
        first = self.session()
        with first.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", (metadata._LOCK,))
        second = self.open()
        found: list[Any] = []
        waiting = threading.Thread(target=lambda: found.append(second.probe().metadata_version))
        waiting.start()
        while not self.query("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
            assert waiting.is_alive()
        assert metadata.migrate(first, "first") == metadata.VERSION
        first.close()
        waiting.join(30)
        assert found == [metadata.VERSION]
        numbers = self.query("SELECT version FROM _millstream.version ORDER BY 1")
        assert numbers == [(number + 1,) for number in range(metadata.VERSION)]


class TestLogin(PostgresCase):
    """Connections that cannot be made."""

    def opened(self, **changes: Any) -> PostgresWarehouse:
        given = {**self.database_seen, **changes}
        return PostgresWarehouse(PostgresConfig.model_validate(given), "Warehouse 'dw' (Secret 'dw-login')")

    def test_a_wrong_password_names_the_secrets_keys_and_never_the_value(self) -> None:
        role = f"locked_{self.suffix}"
        self.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'right'")
        with pytest.raises(ConfigurationError) as caught:
            self.opened(user=role, password="wrong-value-91").probe()
        assert caught.value.reason == "LoginRefused"
        for word in ("'user'", "'password'", "Secret 'dw-login'", role):
            assert word in str(caught.value)
        assert "wrong-value-91" not in str(caught.value)

    def test_an_unknown_database(self) -> None:
        with pytest.raises(ConfigurationError, match="no such database"):
            self.opened(database="nowhere").probe()

    @pytest.mark.parametrize("value", ["nul\x00", "lone\udc80"])
    def test_a_password_that_cannot_be_sent(self, value: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            self.opened(password=value).probe()
        assert value not in str(caught.value)

    def test_sessions_do_not_depend_on_the_roles_defaults(self) -> None:
        role = f"odd_{self.suffix}"
        self.execute(f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'pw'")
        for setting in (
            "default_transaction_isolation = 'serializable'",
            "timezone = 'Asia/Tokyo'",
            "datestyle = 'SQL, DMY'",
            "bytea_output = 'escape'",
        ):
            self.execute(f"ALTER ROLE {role} SET {setting}")
        config = PostgresConfig.model_validate({**self.database_seen, "user": role, "password": "pw"})
        connection = connect(config, "Warehouse 'dw'")
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT current_setting('transaction_isolation'), current_setting('timezone'), "
                "'09/08/2013'::date::text, '\\x00'::bytea::text"
            )
            assert cursor.fetchone() == ("read committed", "UTC", "2013-09-08", "\\x00")
        connection.close()


def test_a_server_that_is_away_is_retried() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        config = PostgresConfig(host="127.0.0.1", port=taken.getsockname()[1], connect_timeout_seconds=2)
        with pytest.raises(RetriableError, match="cannot connect"):
            PostgresWarehouse(config, "Warehouse 'dw'").probe()


def test_a_socket_that_is_not_there_is_retried(tmp_path: Path) -> None:
    with pytest.raises(RetriableError, match="cannot connect"):
        PostgresWarehouse(PostgresConfig(host=os.fspath(tmp_path)), "Warehouse 'dw'").probe()


# SQLSTATE → what the run ends with, and the reason where it is not the default.
STATES: list[tuple[str, type[MillstreamError], str]] = [
    ("08006", RetriableError, "Unreachable"),
    ("22003", DataError, "RefusedByWarehouse"),
    ("22P02", DataError, "RefusedByWarehouse"),
    ("23505", DataError, "RefusedByWarehouse"),
    ("23514", DataError, "RefusedByWarehouse"),
    ("25006", RetriableError, "ReadOnly"),
    ("2BP01", ConfigurationError, "InvalidConfiguration"),
    ("3F000", ConfigurationError, "InvalidConfiguration"),
    ("40001", RetriableError, "Unreachable"),
    ("40P01", RetriableError, "Unreachable"),
    ("42501", ConfigurationError, "PermissionDenied"),
    ("42601", ConfigurationError, "InvalidConfiguration"),
    ("42P01", ConfigurationError, "InvalidConfiguration"),
    ("53100", RetriableError, "WarehouseFull"),
    ("53200", RetriableError, "WarehouseFull"),
    ("53300", RetriableError, "WarehouseFull"),
    ("54000", DataError, "RefusedByWarehouse"),
    ("55000", ConfigurationError, "InvalidConfiguration"),
    ("55006", RetriableError, "Unreachable"),
    ("55P03", RetriableError, "Unreachable"),
    ("57014", RetriableError, "Unreachable"),
    ("57P01", RetriableError, "Unreachable"),
    ("58030", RetriableError, "Unreachable"),
    ("XX000", RetriableError, "Unreachable"),
    ("", RetriableError, "Unreachable"),
]


@pytest.mark.parametrize(("state", "kind", "reason"), STATES)
def test_every_class_of_sqlstate_has_its_recovery(state: str, kind: type[MillstreamError], reason: str) -> None:
    error = translated(_error(state), "Warehouse 'dw'", "loading raw.t")
    assert (type(error), error.reason) == (kind, reason)
    assert "Warehouse 'dw': loading raw.t: it failed" in str(error)


def test_two_sessions_that_make_one_schema_are_retried() -> None:
    assert isinstance(translated(_error("23505", "pg_namespace"), "w", "d"), RetriableError)


def _error(state: str, table: str | None = None) -> psycopg2.Error:
    diag = SimpleNamespace(message_primary="it\n failed", message_detail="x" * 9000, table_name=table)
    return cast(psycopg2.Error, SimpleNamespace(pgcode=state, diag=diag))
