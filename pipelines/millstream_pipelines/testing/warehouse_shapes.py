"""The part of WarehouseSuite about tables: contracts, drift, tables of the user's own making, names."""

# ruff: noqa: S101 (assertions are what a suite is made of)

from __future__ import annotations

from typing import Any

import pytest

from millstream_api.stream import Contract
from millstream_pipelines.errors import ConfigurationError, DataError
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.testing.warehouse_case import PEOPLE, WarehouseCase, totals, write

MORE = Schema((*PEOPLE.columns, Column("extra", "text")))
NAMES = [
    "select", "Upper Case", 'quo"te', "ap'os", "ünï", "per%cent %s", "semi;colon", "a.b", "tab\tnew\nline", "{brace}",
    "1st", " ", "\\", "back\\slash", "desc", "💧",
]  # fmt: skip


class WarehouseShapes(WarehouseCase):
    """What `shape` makes of a target."""

    def owned(self, columns: str) -> None:
        """Make the target beforehand, as a user would."""
        schema = self.table.split(".")[0]
        self.execute(f"CREATE SCHEMA {schema}")
        self.execute(f"CREATE TABLE {self.table} ({columns})")

    def test_a_new_table_has_the_types_asked_for(self) -> None:
        load = self.open().load(self.merging())
        assert [(item.name, item.type) for item in load.shape(PEOPLE)] == [(c.name, c.type) for c in PEOPLE]
        assert [(item.name, item.type) for item in load.shape(PEOPLE)] == [(c.name, c.type) for c in PEOPLE]

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

    def test_evolve_adds_a_column(self) -> None:
        self.loaded(self.open().load(self.spec()), (1, "a", 1))
        load = self.open().load(self.spec())
        self.loaded(load, (2, "b", 1, "x"), schema=MORE)
        assert self.seen("id, extra") == [(1, None), (2, "x")]
        self.loaded(load, (3, "c", 1))
        assert self.seen("id, extra") == [(1, None), (2, "x"), (3, None)]

    def test_freeze_refuses_a_column_and_names_it(self) -> None:
        self.loaded(self.open().load(self.spec()), (1, "a", 1))
        load = self.open().load(self.spec(contract=Contract(columns="freeze")))
        with pytest.raises(DataError, match="'extra'") as caught:
            load.shape(MORE)
        assert caught.value.reason == "SchemaDrift"
        load.rollback()
        self.loaded(load, (2, "b", 1))
        assert self.seen() == [(1, "a"), (2, "b")]

    def test_discard_leaves_a_column_out(self) -> None:
        self.loaded(self.open().load(self.spec()), (1, "a", 1))
        load = self.open().load(self.spec(contract=Contract(columns="discard")))
        assert load.shape(MORE).names == PEOPLE.names

    def test_frozen_types_stay(self) -> None:
        narrow = Schema((Column("id", "integer"), Column("name", "character varying(3)")))
        self.loaded(self.open().load(self.spec()), (1, "a"), schema=narrow)
        answer = self.open().load(self.spec()).shape(PEOPLE)
        assert answer.get("id") == Column("id", "integer")

    def test_evolving_types_widen_and_keep_what_is_there(self) -> None:
        narrow = Schema((Column("id", "smallint"), Column("name", "real"), Column("rev", "integer")))
        self.loaded(self.open().load(self.spec()), (1, 0.5, 2), schema=narrow)
        load = self.open().load(self.spec(contract=Contract(types="evolve")))
        wide = Schema((Column("id", "bigint"), Column("name", "double precision"), Column("rev", "smallint")))
        answer = load.shape(wide)
        assert [column.type for column in answer] == ["bigint", "double precision", "integer"]
        write(load, (2**40, 0.1, 3), schema=answer)
        load.commit(None)
        assert self.seen("id, name, rev") == [(1, 0.5, 2), (2**40, 0.1, 3)]

    def test_more_columns_in_mid_run_lose_no_row(self) -> None:
        load = self.open().load(self.merging(cursor_field="rev"))
        write(load, (1, "late", 9), (2, "b", 1), schema=load.shape(PEOPLE))
        write(load, (1, "early", 1, "x"), (3, "c", 1, "y"), schema=load.shape(MORE))
        assert totals(load.settle()) == (4, 3, 0, 1, 0), "one transaction: one row per key"
        load.commit(None)
        assert self.seen("id, name, extra") == [(1, "late", None), (2, "b", None), (3, "c", "y")]

    @pytest.mark.parametrize("key", [(), ("id",)])
    def test_more_columns_in_mid_replace(self, key: tuple[str, ...]) -> None:
        load = self.open().load(self.spec(mode="full", disposition="replace", primary_key=key))
        write(load, (1, "a", 1), schema=load.shape(PEOPLE))
        write(load, (2, "b", 1, "x"), schema=load.shape(MORE))
        load.settle()
        load.commit(None)
        assert self.seen("id, extra") == [(1, None), (2, "x")]

    def test_a_rolled_back_shape_is_asked_for_again(self) -> None:
        load = self.open().load(self.spec())
        write(load, (1, "a", 1), schema=load.shape(PEOPLE))
        load.shape(MORE)
        load.rollback()
        self.loaded(load, (1, "a", 1, "x"), schema=MORE)
        assert self.seen("id, extra") == [(1, "x")]

    def test_a_key_that_is_no_column(self) -> None:
        with pytest.raises(ConfigurationError, match="nowhere"):
            self.open().load(self.merging(primary_key=("nowhere",))).shape(PEOPLE)

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

    def test_names_that_need_quoting(self) -> None:
        schema = Schema((Column("Key 'of'", "bigint"), *(Column(name, "text") for name in NAMES)))
        table = f"suite_{self.suffix}.Select$It"
        load = self.open().load(self.spec(target=table, disposition="merge", primary_key=("Key 'of'",)))
        rows: list[tuple[Any, ...]] = [(n, *(f"{n} {name}" for name in NAMES)) for n in (1, 2)]
        self.loaded(load, *rows, rows[0], schema=schema)
        self.loaded(load, rows[1], schema=schema)
        warehouse = self.open()
        columns = ", ".join(warehouse.identifier(name) for name in schema.names)
        assert self.seen(columns, table) == rows
