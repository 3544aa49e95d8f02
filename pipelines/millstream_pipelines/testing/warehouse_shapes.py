"""The part of WarehouseSuite about tables: contracts, drift, tables of the user's own making, names."""

# ruff: noqa: S101 (assertions are what a suite is made of)

from __future__ import annotations

from typing import Any

import pytest

from millstream_api.stream import Contract
from millstream_pipelines.errors import DataError
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.testing.warehouse_case import PEOPLE, WarehouseCase, write

MORE = Schema((*PEOPLE.columns, Column("extra", "text")))
NAMES = [
    "select", "Upper Case", 'quo"te', "ap'os", "ünï", "per%cent %s", "semi;colon", "a.b", "tab\tnew\nline", "{brace}",
    "1st", " ", "\\", "back\\slash", "desc", "💧",
]  # fmt: skip


def more_in_mid_replace(case: WarehouseCase, key: tuple[str, ...] = ()) -> None:
    """Let a column come between two batches of one replace."""
    load = case.open().load(case.spec(mode="full", disposition="replace", primary_key=key))
    write(load, (1, "a", 1), schema=load.shape(PEOPLE))
    write(load, (2, "b", 1, "x"), schema=load.shape(MORE))
    load.settle()
    load.commit(None)
    assert case.seen("id, extra") == [(1, None), (2, "x")]


class WarehouseShapes(WarehouseCase):
    """What `shape` makes of a target."""

    def test_a_new_table_has_the_types_asked_for(self) -> None:
        load = self.open().load(self.either())
        assert [(item.name, item.type) for item in load.shape(PEOPLE)] == [(c.name, c.type) for c in PEOPLE]
        assert [(item.name, item.type) for item in load.shape(PEOPLE)] == [(c.name, c.type) for c in PEOPLE]

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

    def test_more_columns_in_mid_replace(self) -> None:
        more_in_mid_replace(self)

    def test_a_rolled_back_shape_is_asked_for_again(self) -> None:
        load = self.open().load(self.spec())
        write(load, (1, "a", 1), schema=load.shape(PEOPLE))
        load.shape(MORE)
        load.rollback()
        self.loaded(load, (1, "a", 1, "x"), schema=MORE)
        assert self.seen("id, extra") == [(1, "x")]

    def test_names_that_need_quoting(self) -> None:
        schema = Schema((Column("Key 'of'", "bigint"), *(Column(name, "text") for name in NAMES)))
        table = f"suite_{self.suffix}.Select$It"
        load = self.open().load(self.spec(target=table, **self.keyed("Key 'of'")))
        rows: list[tuple[Any, ...]] = [(n, *(f"{n} {name}" for name in NAMES)) for n in (1, 2)]
        self.loaded(load, *rows, schema=schema)
        if "merge" in self.features:
            self.loaded(load, rows[1], schema=schema)
        warehouse = self.open()
        columns = ", ".join(warehouse.identifier(name) for name in schema.names)
        assert self.seen(columns, table) == rows
