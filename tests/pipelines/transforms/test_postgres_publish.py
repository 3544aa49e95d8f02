"""Transforms in PostgreSQL: what readers, grants, indexes and dependents see when a result is published."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from millstream_pipelines.errors import ConfigurationError, DataError
from millstream_pipelines.testing.warehouse_transforms import WarehouseTransforms
from postgres_case import PostgresCase


class TestPublish(PostgresCase):
    """What only PostgreSQL promises."""

    mart = WarehouseTransforms.mart
    made = WarehouseTransforms.made

    def granted(self) -> bool:
        return bool(self.query(f"SELECT has_table_privilege('pg_monitor', '{self.mart}', 'SELECT')")[0][0])

    def test_same_columns_keep_grants_indexes_and_dependents(self) -> None:
        self.made("SELECT 1 AS a, 'x' AS b")
        self.execute(f"GRANT SELECT ON {self.mart} TO pg_monitor")
        self.execute(f"CREATE UNIQUE INDEX ON {self.mart} (a)")
        self.execute(f"CREATE VIEW {self.mart}_view AS SELECT b FROM {self.mart}")
        self.made("SELECT 1 AS a, 'y' AS b")
        assert self.granted()
        assert self.query(f"SELECT * FROM {self.mart}_view") == [("y",)]
        with pytest.raises(DataError, match="totals_a_idx"):
            self.made("SELECT 1 AS a, 'y' AS b UNION ALL SELECT 1, 'z'")

    def test_other_columns_keep_what_does_not_depend_on_them(self) -> None:
        self.made("SELECT 1 AS a, 'x' AS b")
        self.execute(f"GRANT SELECT ON {self.mart} TO pg_monitor")
        self.execute(f"CREATE VIEW {self.mart}_view AS SELECT b FROM {self.mart}")
        self.made("SELECT 1.5 AS a, 'y' AS b, true AS c")
        assert self.granted()
        assert self.query(f"SELECT * FROM {self.mart}_view") == [("y",)]
        assert [str(value) for value in self.query(f"SELECT a, b, c FROM {self.mart}")[0]] == ["1.5", "y", "True"]

    def test_a_dependent_of_a_column_that_goes_is_named(self) -> None:
        self.made("SELECT 1 AS a, 'x' AS b")
        self.execute(f"CREATE VIEW {self.mart}_view AS SELECT b FROM {self.mart}")
        with pytest.raises(ConfigurationError, match=r"totals_view depends on column b"):
            self.made("SELECT 1 AS a")
        assert self.query(f"SELECT a, b FROM {self.mart}") == [(1, "x")]

    def test_a_dependent_of_a_view_whose_columns_go_is_named(self) -> None:
        self.made("SELECT 1 AS a, 'x' AS b", "view")
        self.execute(f"CREATE VIEW {self.mart}_view AS SELECT b FROM {self.mart}")
        with pytest.raises(ConfigurationError, match=r"totals_view depends on view"):
            self.made("SELECT 1 AS a", "view")
        assert self.query(f"SELECT a, b FROM {self.mart}") == [(1, "x")]

    def test_a_view_made_anew_keeps_its_grants(self) -> None:
        self.made("SELECT 1 AS a, 'x' AS b", "view")
        self.execute(f"GRANT SELECT ON {self.mart} TO pg_monitor WITH GRANT OPTION")
        self.made("SELECT 1 AS a", "view")
        assert self.granted()
        assert self.query(f"SELECT has_table_privilege('pg_monitor', '{self.mart}', 'SELECT WITH GRANT OPTION')") == [
            (True,)
        ]

    @pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
    def test_readers_never_see_an_empty_table(self, level: str) -> None:
        """A reader asks without a pause while the table is made anew, with the same columns and with others."""
        self.made("SELECT n AS a FROM generate_series(1, 100) n")
        reader = self.session()
        reader.set_session(isolation_level=level)
        stop, seen = threading.Event(), []

        def read() -> None:
            with reader.cursor() as cursor:
                while not stop.is_set():
                    cursor.execute(f"SELECT count(*) FROM {self.mart}")
                    seen.append(cursor.fetchone()[0])
                    reader.rollback()

        thread = threading.Thread(target=read)
        thread.start()
        for turn in range(20):
            extra = ", 'x' AS b" if turn % 2 else ""
            self.made(f"SELECT n AS a{extra} FROM generate_series(1, 100) n")
        stop.set()
        thread.join()
        reader.close()
        assert set(seen) == {100}

    def test_a_snapshot_keeps_its_rows_when_columns_change(self) -> None:
        self.made("SELECT 1 AS a, 2 AS b")
        reader = self.session()
        reader.set_session(isolation_level="REPEATABLE READ")
        with reader.cursor() as cursor:
            cursor.execute("SELECT 1")
            self.made("SELECT 1 AS a, 'x' AS b, 3 AS c")
            cursor.execute(f"SELECT a FROM {self.mart}")
            assert cursor.fetchall() == [(1,)]
        reader.close()

    def test_incremental_leaves_equal_rows_alone(self) -> None:
        sql = "SELECT 1 AS k, '{\"a\": 1}'::json AS j, point(1, 2) AS p, NULL::text AS n"
        self.made(sql, "incremental", primary_key=["k"])
        before = self.query(f"SELECT ctid FROM {self.mart}")
        self.made(sql, "incremental", primary_key=["k"])
        assert self.query(f"SELECT ctid FROM {self.mart}") == before
        self.made(sql.replace("1, 2", "1, 3"), "incremental", primary_key=["k"])
        assert self.query(f"SELECT ctid FROM {self.mart}") != before

    def test_a_users_own_table_is_filled_and_its_types_obeyed(self) -> None:
        self.execute(f"CREATE SCHEMA {self.mart.split('.')[0]}")
        self.execute(f"CREATE TABLE {self.mart} (b numeric, no int GENERATED ALWAYS AS IDENTITY, a text PRIMARY KEY)")
        self.made("SELECT 'x'::text AS a, 1.5::numeric(4, 2) AS b, 7 AS no")
        rows: list[Any] = self.query(f"SELECT a, b::text, no FROM {self.mart}")
        assert rows == [("x", "1.50", 7)]
        assert self.query(f"SELECT count(*) FROM pg_constraint WHERE conrelid = '{self.mart}'::regclass") == [(1,)]
