"""The warehouse `postgres` against a real server: the suite, and what only PostgreSQL promises."""

from __future__ import annotations

import pytest

from millstream_api.stream import Contract
from millstream_pipelines.errors import ConfigurationError, DataError
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.testing.warehouse import WarehouseSuite
from millstream_pipelines.testing.warehouse_backfills import WarehouseBackfills
from millstream_pipelines.testing.warehouse_case import PEOPLE, totals, write
from postgres_case import PostgresCase


class TestSuite(PostgresCase, WarehouseSuite, WarehouseBackfills):
    """The shared suite."""


class TestReplace(PostgresCase):
    """What stays when rows are replaced."""

    def test_snapshots_views_and_grants_survive(self) -> None:
        spec = self.spec(mode="full", disposition="replace")
        self.loaded(self.open().load(spec), (1, "old", 1))
        self._opened[-1].close()
        self.execute(f"CREATE VIEW {self.table}_view AS SELECT name FROM {self.table}")
        self.execute(f"GRANT SELECT ON {self.table} TO pg_monitor")
        reader = self.session()
        reader.set_session(isolation_level="REPEATABLE READ")
        with reader.cursor() as cursor:
            cursor.execute(f"SELECT name FROM {self.table}")
            assert cursor.fetchall() == [("old",)]
            self.loaded(self.open().load(self.spec(mode="full", disposition="replace", run="run-2")), (2, "new", 1))
            cursor.execute(f"SELECT name FROM {self.table}")
            assert cursor.fetchall() == [("old",)], "a snapshot keeps its rows"
        reader.close()
        assert self.query(f"SELECT name FROM {self.table}_view") == [("new",)]
        assert self.query(f"SELECT has_table_privilege('pg_monitor', '{self.table}', 'SELECT')") == [(True,)]


class TestTables(PostgresCase):
    """Tables of the user's own making, as only PostgreSQL has them."""

    def owned(self, columns: str) -> None:
        self.execute(f"CREATE SCHEMA {self.table.split('.')[0]}")
        self.execute(f"CREATE TABLE {self.table} ({columns})")

    @pytest.mark.parametrize("kind", ["ALWAYS", "BY DEFAULT"])
    @pytest.mark.parametrize("disposition", ["append", "merge"])
    def test_identity_columns_take_the_streams_values(self, kind: str, disposition: str) -> None:
        self.owned(
            f"id bigint GENERATED {kind} AS IDENTITY PRIMARY KEY, name text, rev bigint, "
            "no bigint GENERATED ALWAYS AS IDENTITY, twice bigint GENERATED ALWAYS AS (rev * 2) STORED"
        )
        key = ("id",) if disposition == "merge" else ()
        load = self.open().load(self.spec(disposition=disposition, primary_key=key))
        self.loaded(load, (7, "a", 2), (8, "b", 3))
        assert self.seen("id, no, twice") == [(7, 1, 4), (8, 2, 6)]

    def test_a_deferrable_key_is_told_as_configuration(self) -> None:
        self.owned("id bigint UNIQUE DEFERRABLE INITIALLY DEFERRED, name text, rev bigint")
        with pytest.raises(ConfigurationError, match="deferrable"):
            self.loaded(self.open().load(self.merging()), (1, "a", 1))

    def test_a_key_in_another_order_serves(self) -> None:
        self.owned("id bigint, name text, rev bigint, UNIQUE (name, id) INCLUDE (rev)")
        self.loaded(self.open().load(self.merging(primary_key=("id", "name"))), (1, "a", 1))
        assert self.query(f"SELECT count(*) FROM pg_indexes WHERE schemaname = '{self.table.split('.')[0]}'") == [(1,)]

    def test_partitioned_tables(self) -> None:
        self.owned("id bigint PRIMARY KEY, name text, rev bigint) PARTITION BY RANGE (id")
        self.execute(f"CREATE TABLE {self.table}_low PARTITION OF {self.table} FOR VALUES FROM (0) TO (10)")
        load = self.open().load(self.merging())
        self.loaded(load, (1, "a", 1))
        assert totals(self.loaded(load, (1, "b", 1))) == (1, 1, 0, 0, 0)
        assert totals(self.loaded(load, (11, "a", 1), (2, "c", 1))) == (2, 1, 1, 0, 0), "no partition takes it"

    def test_rows_that_a_trigger_drops_are_a_gap_not_a_loss(self) -> None:
        self.owned("id bigint, name text, rev bigint")
        self.execute(
            f"CREATE FUNCTION {self.table}_drop() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN IF NEW.id = 2 THEN RETURN NULL; END IF; RETURN NEW; END'"
        )
        self.execute(
            f"CREATE TRIGGER t BEFORE INSERT ON {self.table} FOR EACH ROW EXECUTE FUNCTION {self.table}_drop()"
        )
        with pytest.raises(DataError, match="not accounted for"):
            self.loaded(self.open().load(self.spec()), (1, "a", 1), (2, "b", 1))
        assert self.seen() == []

    def test_duplicates_that_are_there_already_stop_a_merge(self) -> None:
        self.loaded(self.open().load(self.spec()), (1, "a", 1), (1, "b", 1))
        with pytest.raises(DataError, match="duplicated"):
            self.open().load(self.merging()).shape(PEOPLE)

    def test_a_view_on_a_column_whose_type_would_change(self) -> None:
        self.loaded(self.open().load(self.spec()), (1,), schema=Schema((Column("id", "integer"),)))
        self.execute(f"CREATE VIEW {self.table}_view AS SELECT id FROM {self.table}")
        with pytest.raises(ConfigurationError, match="people_view"):
            self.open().load(self.spec(contract=Contract(types="evolve"))).shape(PEOPLE)

    def test_a_name_too_long(self) -> None:
        schema = Schema((Column("ü" * 32),))
        with pytest.raises(ConfigurationError, match="longer than 63 bytes"):
            self.open().load(self.spec()).shape(schema)

    def test_a_role_without_create_on_the_database_needs_only_the_schemas(self) -> None:
        role = f"loader_{self.suffix}"
        self.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'loader-pw'")
        self.execute("GRANT USAGE ON SCHEMA _millstream TO PUBLIC")
        self.execute("GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA _millstream TO PUBLIC")
        self.execute(f"CREATE SCHEMA suite_{self.suffix} AUTHORIZATION {role}")
        self.config_seen, self.secret_seen = {**self.config_seen, "user": role}, {"password": "loader-pw"}
        load = self.open().load(self.spec())
        self.loaded(load, (1, "a", 1))
        assert self.seen() == [(1, "a")]
        with pytest.raises(ConfigurationError, match="grant the role") as caught:
            self.open().load(self.spec(stream="other", target=f"elsewhere_{self.suffix}.t")).shape(PEOPLE)
        assert caught.value.reason == "PermissionDenied"


class TestServersParser(PostgresCase):
    """Values that only the server can judge."""

    SCHEMA = Schema((Column("id", "bigint"), Column("mood", "text"), Column("span", "int4range")))

    def owned(self) -> None:
        self.execute(f"CREATE SCHEMA {self.table.split('.')[0]}")
        self.execute(f"CREATE TYPE suite_{self.suffix}.mood AS ENUM ('sad', 'happy')")
        self.execute(f"CREATE TABLE {self.table} (id bigint, mood suite_{self.suffix}.mood, span int4range)")

    @pytest.mark.parametrize("disposition", ["append", "merge"])
    def test_bad_values_are_set_aside_and_good_rows_arrive(self, disposition: str) -> None:
        self.owned()
        load = self.open().load(self.spec(disposition=disposition, primary_key=("id",)))
        target = load.shape(self.SCHEMA)
        write(load, (1, "sad", "[1,5)"), (2, "angry", None), (3, None, "[5,1)"), (4, "happy", None), schema=target)
        assert totals(load.settle()) == (4, 2, 2, 0, 0)
        load.commit(None)
        assert self.seen("id, mood") == [(1, "sad"), (4, "happy")]
        found = self.query(
            "SELECT rule, \"row\"->>'id', status, message FROM _millstream.quarantine "
            f"WHERE pipeline = 'suite/{self.suffix}' ORDER BY id"
        )
        assert [row[:3] for row in found] == [("cast(mood)", "2", "open"), ("cast(span)", "3", "open")]
        assert "angry" in found[0][3]

    def test_under_freeze_nothing_is_loaded(self) -> None:
        self.owned()
        load = self.open().load(self.spec(contract=Contract(rows="freeze")))
        write(load, (1, "sad", None), (2, "angry", None), schema=load.shape(self.SCHEMA))
        with pytest.raises(DataError, match="angry"):
            load.settle()
        load.rollback()
        assert self.seen("id") == []
