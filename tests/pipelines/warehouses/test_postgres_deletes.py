"""Deletes in PostgreSQL: the suite, and keys of types that only the server can read."""

from __future__ import annotations

import pyarrow as pa

from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.testing.warehouse_deletes import DeletesCase, WarehouseDeletes
from millstream_pipelines.warehouses.base import SweepingLoad
from postgres_case import PostgresCase


class TestDeletes(PostgresCase, WarehouseDeletes):
    """The shared part."""


class TestKeys(PostgresCase, DeletesCase):
    """Keys that travel as text."""

    def test_texts_that_are_no_value_are_no_key(self) -> None:
        schema = Schema((Column("id", "numeric(60,2)"), Column("name", "text")))
        load = self.open().load(self.merging())
        self.loaded(load, ("1.0", "a"), ("2.50", "b"), ("1", "c"), schema=schema)
        assert isinstance(load, SweepingLoad)
        load.remember()
        load.present(pa.record_batch({"id": pa.array(["2.5", "nonsense"])}))
        assert load.sweep() == 1
        load.commit(None)
        assert [name for _, name in self.seen()] == ["b"]

    def test_a_numeric_cursor_compares_as_a_number(self) -> None:
        schema = Schema((Column("id", "bigint"), Column("name", "text"), Column("rev", "numeric")))
        load = self.open().load(self.merging(cursor_field="rev"))
        self.loaded(load, (1, "late", "10"), (1, "early", "9"), schema=schema)
        assert self.seen() == [(1, "late")]
