"""The warehouse `postgres` and constraints of the user's own: what is refused, set aside, or ends the run."""

from __future__ import annotations

import pytest

from millstream_pipelines.errors import DataError
from millstream_pipelines.testing.warehouse_case import totals
from postgres_case import PostgresCase


class TestConstraints(PostgresCase):
    """Constraints of the user's own."""

    def one_name(self) -> None:
        self.execute(f"CREATE SCHEMA {self.table.split('.')[0]}")
        self.execute(f"CREATE TABLE {self.table} (id bigint, name text CONSTRAINT one_name UNIQUE, rev bigint)")

    def test_a_unique_violation_names_the_constraint(self) -> None:
        self.one_name()
        load = self.open().load(self.spec())
        with pytest.raises(DataError, match="one_name") as caught:
            self.loaded(load, (1, "a", 1), (2, "a", 1))
        assert load.may_search(caught.value)
        load.rollback()
        assert self.seen() == []

    def test_a_careful_load_sets_the_row_aside(self) -> None:
        self.one_name()
        load = self.open().load(self.spec())
        load.careful()
        assert totals(self.loaded(load, (1, "a", 1), (2, "a", 1), (3, "b", 1))) == (3, 2, 1, 0, 0)
        assert self.metadata("rule", "quarantine") == [("constraint(one_name)",)]
        with pytest.raises(DataError, match="one_name"):
            self.loaded(load, (4, "b", 1))

    def test_a_merge_sets_the_row_aside_by_itself(self) -> None:
        self.one_name()
        load = self.open().load(self.merging())
        assert totals(self.loaded(load, (1, "a", 1), (2, "a", 1), (3, "b", 1))) == (3, 2, 1, 0, 0)
        assert self.seen() == [(1, "a"), (3, "b")]

    def test_a_deferred_constraint_fails_at_the_commit_and_nothing_stays(self) -> None:
        self.execute(f"CREATE SCHEMA {self.table.split('.')[0]}")
        self.execute(f"CREATE TABLE {self.table}_parents (id bigint PRIMARY KEY)")
        self.execute(
            f"CREATE TABLE {self.table} (id bigint CONSTRAINT has_parent REFERENCES {self.table}_parents "
            "DEFERRABLE INITIALLY DEFERRED, name text, rev bigint)"
        )
        load = self.open().load(self.spec())
        with pytest.raises(DataError, match="has_parent"):
            self.loaded(load, (1, "a", 1), position={"rev": 1})
        assert self.seen() == []
        assert self.metadata("seq, position", "state") == [(0, None)]
