"""The suite of warehouses with feature `backfill`: intervals beside the forward load. Add it beside WarehouseSuite."""

# ruff: noqa: S101 (assertions are what a suite is made of)

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from millstream_pipelines.batch import Reject
from millstream_pipelines.errors import RetriableError, SupersededError
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.testing.warehouse_case import PEOPLE, WarehouseCase, totals, write
from millstream_pipelines.warehouses.backfilling import BackfillLoad
from millstream_pipelines.warehouses.base import Warehouse, abilities_of


class WarehouseBackfills(WarehouseCase):
    """Intervals of the cursor `rev`."""

    def backfill(self, warehouse: Warehouse | None = None, **changes: Any) -> BackfillLoad:
        """Take the backfill's lease."""
        given = {"run": "back", "cursor_field": "rev", "window": "w", **changes}
        made = (warehouse or self.open()).load(self.spec(**given))
        assert isinstance(made, BackfillLoad)
        return made

    def filled(self, load: BackfillLoad, start: int, end: int, *rows: tuple[Any, ...]) -> tuple[int, ...]:
        """Load one interval and return its counts."""
        load.shape(PEOPLE)
        load.interval(str(start), str(end))
        write(load, *rows) if rows else None
        counts = load.settle()
        load.commit(None)
        return totals(counts)

    def forward(self, *rows: tuple[Any, ...], **changes: Any) -> None:
        """Load rows as the forward load does, and let its lease go."""
        warehouse = self.open()
        self.loaded(warehouse.load(self.spec(run="forward", **changes)), *rows, position={"at": 9})
        warehouse.close()

    def test_an_interval_of_append_is_replaced(self) -> None:
        assert "backfill" in abilities_of(self.open())
        self.forward((1, "a", 1), (2, "b", 2), (3, "c", 3), (4, "none", None))
        load = self.backfill()
        assert load.forward_position == {"at": 9}
        assert self.filled(load, 2, 3, (2, "B", 2), (5, "new", 2)) == (2, 2, 0, 0, 0)
        assert self.filled(load, 3, 10) == (0, 0, 0, 0, 0)
        assert self.seen() == [(1, "a"), (2, "B"), (4, "none"), (5, "new")]
        assert {place: totals(counts) for place, counts in load.done().items()} == {
            ("2", "3"): (2, 2, 0, 0, 0),
            ("3", "10"): (0, 0, 0, 0, 0),
        }
        assert self.metadata("deleted", "intervals", "range_start = '3'") == [(1,)]

    @pytest.mark.parametrize("more", [False, True], ids=["the columns sent", "a column more"])
    def test_merge_leaves_newer_rows_alone_and_counts_them(self, more: bool) -> None:
        self.forward((1, "newer", 9), (2, "older", 1), (3, "same", 5), (4, "none", None), **self.keys)
        if more:
            self.execute(f"ALTER TABLE {self.table} ADD COLUMN more integer")
        load = self.backfill(**self.keys)
        rows = [(1, "x", 5), (2, "x", 4), (3, "x", 5), (4, "x", 5), (5, "x", 5), (5, "y", 4)]
        assert self.filled(load, 0, 10, *rows) == (6, 4, 0, 2, 0)
        assert self.seen("id, name, rev") == [(1, "newer", 9), (2, "x", 4), (3, "x", 5), (4, "x", 5), (5, "x", 5)]

    keys: ClassVar[dict[str, Any]] = {"disposition": "merge", "primary_key": ("id",)}

    def test_merge_by_a_key_that_is_sent_as_text(self) -> None:
        schema = Schema((Column("id", "inet"), Column("name", "text"), Column("rev", "bigint")))
        row: tuple[Any, ...] = ("10.0.0.1", "newer", 9)
        spec = {**self.keys, "run": "forward"}
        if self.open().dialect != "postgres":
            schema, row = PEOPLE, (1, "newer", 9)
        warehouse = self.open()
        self.loaded(warehouse.load(self.spec(**spec)), row, schema=schema)
        warehouse.close()
        load = self.backfill(**self.keys)
        load.shape(schema)
        load.interval("0", "10")
        write(load, (row[0], "x", 5), schema=schema)
        assert totals(load.settle()) == (1, 0, 0, 1, 0)
        load.commit(None)
        assert self.seen("name") == [("newer",)]

    def test_the_forward_state_stays_and_both_may_live(self) -> None:
        warehouse = self.open()
        forward = warehouse.load(self.merging(run="forward"))
        self.loaded(forward, (1, "a", 1), position={"at": 1})
        load = self.backfill(warehouse, **self.keys)
        self.filled(load, 0, 5, (1, "b", 1))
        self.loaded(forward, (2, "c", 7), position={"at": 7})
        self.filled(load, 5, 9, (2, "d", 7))
        assert self.seen() == [(1, "b"), (2, "d")]
        assert self.metadata("seq, run", "state", "stream = 'people'") == [(2, "forward")]
        assert totals(load.run_counts()) == totals(forward.run_counts()) == (2, 2, 0, 0, 0)

    def test_what_is_not_committed_is_not_done(self) -> None:
        load = self.backfill(**self.keys)
        load.shape(PEOPLE)
        load.interval("0", "5")
        write(load, (1, "lost", 1), rejects=(Reject("r", "m", {"id": 2}),))
        load.settle()
        load.rollback()
        assert not load.done()
        assert not self.metadata("rule", "quarantine")
        self.filled(load, 5, 9, (2, "kept", 6))
        assert self.seen() == [(2, "kept")]
        assert list(load.done()) == [("5", "9")]

    def test_done_is_of_one_run_and_one_window(self) -> None:
        self.filled(self.backfill(**self.keys), 0, 5, (1, "a", 1))
        for warehouse in self._opened:
            warehouse.close()
        assert list(self.backfill(holder="pod-2", **self.keys).done()) == [("0", "5")]
        assert not self.backfill(holder="pod-3", window="other", **self.keys).done()
        for warehouse in self._opened:
            warehouse.close()
        assert not self.backfill(run="anew", **self.keys).done()

    def test_another_backfill_waits_and_a_second_attempt_takes_over(self) -> None:
        warehouse = self.open()
        load = self.backfill(warehouse, **self.keys)
        load.shape(PEOPLE)
        load.interval("0", "5")
        write(load, (1, "lost", 1))
        with pytest.raises(RetriableError, match="'back'") as caught:
            self.backfill(run="anew", **self.keys)
        assert caught.value.reason == "StreamBusy"
        second = self.backfill(holder="pod-2", **self.keys)
        with pytest.raises(SupersededError):
            load.commit(None)
        load.rollback()
        self.filled(second, 0, 5, (1, "kept", 1))
        assert self.seen() == [(1, "kept")]

    def test_other_loaders_of_the_target_are_named(self) -> None:
        self.forward((1, "a", 1))
        self.filled(self.backfill(), 1, 2, (1, "b", 1))
        for warehouse in self._opened:
            warehouse.close()
        assert self.backfill(run="anew").others() is None
        for warehouse in self._opened:
            warehouse.close()
        other = self.backfill(run="anew", stream="elsewhere").others()
        assert other is not None
        assert "people" in other
