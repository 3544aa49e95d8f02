"""History in PostgreSQL: the suite, random histories against a model, and constraints that forbid overlap."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import psycopg2
import pytest

from millstream_pipelines.errors import ConfigurationError, RetriableError
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.testing.warehouse_case import write
from millstream_pipelines.testing.warehouse_history import PRICES, HistoryCase, WarehouseHistory, day
from postgres_case import PostgresCase
from random_histories import RandomHistories


class TestHistory(PostgresCase, WarehouseHistory):
    """The shared part."""


class TestRandomHistories(PostgresCase, RandomHistories):
    """Against the model."""


class TestConstraints(PostgresCase, HistoryCase):
    """What the target itself refuses, whoever writes."""

    @pytest.mark.parametrize(
        "values",
        [
            "(1, 'x', '2024-01-02', '2024-01-03')",  # inside a version
            "(1, 'x', '2024-01-09', '2024-01-10')",  # inside the current one
            "(1, 'x', '2023-01-01', NULL)",  # a second current one
            "(2, 'x', '2024-01-03', '2024-01-03')",  # of no length
            "(2, 'x', '2024-01-03', '2024-01-02')",  # ends before it begins
            "(2, 'x', NULL, NULL)",
        ],
    )
    def test_overlap_is_refused(self, values: str) -> None:
        self.put((1, "a", 1), (1, "b", 5))
        with pytest.raises(psycopg2.IntegrityError):
            self.execute(f"INSERT INTO {self.table} (id, name, valid_from, valid_to) VALUES {values}")
        self.execute(f"INSERT INTO {self.table} (id, name, valid_from, valid_to) VALUES (2, 'x', '2024-01-03', NULL)")

    def test_an_update_may_not_make_versions_overlap_either(self) -> None:
        self.put((1, "a", 1), (1, "b", 5))
        for change in ("valid_to = NULL WHERE name = 'a'", "valid_from = '2024-01-03' WHERE name = 'b'"):
            with pytest.raises(psycopg2.errors.ExclusionViolation, match="two versions of a key"):
                self.execute(f"UPDATE {self.table} SET {change}")
        self.execute(f"UPDATE {self.table} SET valid_to = '2024-01-04' WHERE name = 'a'")

    def test_two_who_cannot_see_each_other(self) -> None:
        self.put((1, "a", 1))
        insert = f"INSERT INTO {self.table} (id, name, valid_from) VALUES (9, 'x', '2024-01-0{{}}')"
        one, two = self.session(), self.session()
        one.cursor().execute(insert.format(1))
        two.cursor().execute("SET lock_timeout = '100ms'")
        two.commit()
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            two.cursor().execute(insert.format(2))
        two.rollback()
        one.commit()
        with pytest.raises(psycopg2.errors.ExclusionViolation):
            two.cursor().execute(insert.format(2))
        two.rollback()
        two.set_session(isolation_level="REPEATABLE READ")
        with pytest.raises(psycopg2.Error, match="READ COMMITTED or SERIALIZABLE"):
            two.cursor().execute(insert.format(3))
        for session in (one, two):
            session.close()

    @pytest.mark.parametrize(
        ("kind", "values"),
        [
            ("smallint", (-(2**15), 2**15 - 1)), ("integer", (-(2**31), 2**31 - 1)), ("bigint", (-(2**63), 2**63 - 1)),
            ("text", ("", "ü\U0001f600")), ("character varying(4)", ("a", "abcd")), ("character(4)", ("a", "b")),
            ("numeric", ("1.10", "99999999999999999999.5")), ("numeric(12,2)", (Decimal("1.00"), Decimal("-7.25"))),
            ("uuid", ("6f1e3c52-0000-4000-8000-000000000001", "6f1e3c52-0000-4000-8000-000000000002")),
            ("date", (date(2024, 1, 1), date.max)), ("timestamptz", (day(1), day(2))), ("boolean", (True, False)),
            ("interval", ("1 day", "2 days")),
        ],
    )  # fmt: skip
    def test_every_type_of_key(self, kind: str, values: tuple[object, ...]) -> None:
        schema = Schema((Column("id", kind), *PRICES.columns[1:]))
        for at in (1, 3):
            load = self.open().load(self.keeping())
            self.loaded(load, *((key, f"v{at}", day(at)) for key in values), schema=schema)
            self._opened.pop().close()
        assert len(self.versions()) == 4
        with pytest.raises(psycopg2.IntegrityError):
            self.execute(f"INSERT INTO {self.table} SELECT id, 'x', since, '2024-01-02' FROM {self.table} LIMIT 1")

    def test_no_extension_is_asked_for(self) -> None:
        self.put((1, "a", 1))
        assert self.query("SELECT extname FROM pg_extension ORDER BY 1") == [("plpgsql",)]

    def test_a_second_pipeline_waits_and_the_history_stays_whole(self) -> None:
        self.config_seen = {**self.config_seen, "lockTimeoutSeconds": 1}
        self.put((1, "a", 1))
        first = self.open().load(self.keeping(pipeline="suite/first"))
        second = self.open().load(self.keeping(pipeline="suite/second"))
        for load, name, at in ((first, "b", 5), (second, "c", 3)):
            write(load, (1, name, day(at)), schema=load.shape(PRICES))
        first.settle()
        with pytest.raises(RetriableError, match="lock timeout"):
            second.settle()
        second.rollback()
        first.commit(None)
        write(second, (1, "c", day(3)), schema=second.shape(PRICES))
        second.commit(None)
        assert self.versions() == [(1, "a", 1, 3), (1, "c", 3, 5), (1, "b", 5, None)]

    def test_a_partitioned_target_is_refused(self) -> None:
        self.execute(f"CREATE SCHEMA {self.table.split('.')[0]}")
        self.execute(
            f"CREATE TABLE {self.table} (id bigint, name text, since timestamptz, valid_from timestamptz NOT NULL, "
            "valid_to timestamptz) PARTITION BY RANGE (valid_from)"
        )
        with pytest.raises(ConfigurationError, match="partitioned"):
            self.open().load(self.keeping()).shape(PRICES)

    def test_equality_is_the_types_own(self) -> None:
        schema = Schema(
            (Column("id", "bigint"), Column("b", "jsonb"), Column("j", "json"), Column("p", "point"),
             Column("n", "numeric"), Column("since", "timestamptz"))
        )  # fmt: skip
        load = self.open().load(self.keeping())
        self.loaded(load, (1, '{"a": 1, "b": 2}', '{"a": 1}', "(1,2)", "1.50", day(1)), schema=schema)
        again = self.loaded(load, (1, '{"b": 2, "a": 1}', '{"a": 1}', "(1, 2)", "1.5", day(1)), schema=schema)
        assert (again.loaded, again.duplicate) == (0, 1)
        other = self.loaded(load, (1, '{"b": 2, "a": 1}', '{"a": 2}', "(1, 2)", "1.5", day(1)), schema=schema)
        assert (other.loaded, other.duplicate) == (1, 0)
