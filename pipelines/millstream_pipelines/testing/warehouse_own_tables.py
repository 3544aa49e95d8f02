"""The part of WarehouseSuite about tables of the user's own making: order, defaults, keys, constraints, views."""

# ruff: noqa: S101 (assertions are what a suite is made of)

from __future__ import annotations

import pytest

from millstream_pipelines.errors import ConfigurationError, DataError
from millstream_pipelines.schema import Column
from millstream_pipelines.testing.warehouse_case import PEOPLE, WarehouseCase, totals


class WarehouseOwnTables(WarehouseCase):
    """A warehouse where others make tables too."""

    def owned(self, columns: str) -> None:
        """Make the target beforehand, as a user would."""
        schema = self.table.split(".")[0]
        self.execute(f"CREATE SCHEMA {schema}")
        self.execute(f"CREATE TABLE {self.table} ({columns})")

    def test_the_shape_of_a_table_is_told_and_leaves_no_transaction(self) -> None:
        warehouse = self.open()
        assert warehouse.shape_of(self.table, PEOPLE) is None
        self.owned("id bigint NOT NULL, name text, note text DEFAULT 'none', tenant text NOT NULL")
        found = warehouse.shape_of(self.table, PEOPLE)
        assert found is not None
        assert [(item.name, item.type) for item in found.schema][:2] == [("id", "bigint"), ("name", "text")]
        assert (sorted(found.required), sorted(found.filled)) == (["id", "tenant"], ["note"])
        self.execute(f"DROP TABLE {self.table}")
        assert warehouse.shape_of(self.table, PEOPLE) is None

    def test_a_table_of_the_users_with_other_order_and_defaults(self) -> None:
        self.owned(
            "note text DEFAULT 'none', name text, rev bigint, id bigint NOT NULL, "
            "made date DEFAULT DATE '2024-01-01' NOT NULL"
        )
        for spec in (self.spec(), self.merging()):
            load = self.open().load(spec)
            assert load.shape(PEOPLE).names == ["id", "name", "rev"]
            self.loaded(load, (1, "a", 1))
        self.loaded(load, (2, "b", 1))
        assert self.seen("id, name, note, CAST(made AS text)")[-1] == (2, "b", "none", "2024-01-01")

    def test_merge_into_a_table_of_the_users_with_a_key(self) -> None:
        self.owned("id bigint PRIMARY KEY, name text, rev bigint")
        load = self.open().load(self.merging())
        self.loaded(load, (1, "a", 1), (2, "b", 1))
        assert totals(self.loaded(load, (1, "c", 1))) == (1, 1, 0, 0, 0)
        assert self.seen() == [(1, "c"), (2, "b")]

    def test_replace_in_a_table_of_the_users_with_a_key(self) -> None:
        self.owned("id bigint PRIMARY KEY, name text, rev bigint")
        for run in ("run-1", "run-2"):
            self.loaded(self.open().load(self.spec(mode="full", disposition="replace", run=run)), (1, run, 1))
            self._opened[-1].close()
        assert self.seen() == [(1, "run-2")]

    def test_a_required_column_that_the_stream_lacks(self) -> None:
        self.owned("id bigint, name text, rev bigint, tenant text NOT NULL")
        with pytest.raises(DataError, match="'tenant'"):
            self.open().load(self.spec()).shape(PEOPLE)

    def test_a_users_required_column_is_told_to_the_caller(self) -> None:
        self.owned("id bigint, name text NOT NULL, rev bigint")
        answer = self.open().load(self.spec()).shape(PEOPLE)
        assert answer.get("name") == Column("name", "text", nullable=False)

    def test_a_breach_of_the_users_constraint_is_a_data_error(self) -> None:
        self.owned("id bigint, name text, rev bigint, CONSTRAINT rev_is_small CHECK (rev < 10)")
        load = self.open().load(self.spec())
        with pytest.raises(DataError, match=r"rev_is_small|rev < 10"):
            self.loaded(load, (1, "a", 11))
        load.rollback()
        assert self.seen() == []

    def test_a_view_is_no_target(self) -> None:
        self.owned("id bigint")
        self.execute(f"CREATE VIEW {self.table}_view AS SELECT * FROM {self.table}")
        with pytest.raises(ConfigurationError, match="not a table"):
            self.open().load(self.spec(target=f"{self.table}_view")).shape(PEOPLE)
