"""The part of WarehouseSuite about rows found by their key: merges, and one row of each key in a replace."""

# ruff: noqa: S101 (assertions are what a suite is made of)

from __future__ import annotations

from typing import ClassVar

import pytest

from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.testing.warehouse_case import PEOPLE, WarehouseCase, totals, write
from millstream_pipelines.testing.warehouse_leases import overtaken_inside
from millstream_pipelines.testing.warehouse_shapes import MORE, more_in_mid_replace


class WarehouseMerges(WarehouseCase):
    """Feature `merge`."""

    proves: ClassVar[frozenset[str]] = frozenset({"merge"})

    def test_replace_with_a_key_keeps_one_row_per_key(self) -> None:
        load = self.open().load(self.spec(mode="full", disposition="replace", primary_key=("id",)))
        assert totals(self.loaded(load, (1, "a", 1), (1, "b", 1), (2, "c", 1))) == (3, 2, 0, 1, 0)
        assert self.seen() == [(1, "b"), (2, "c")]

    def test_merge_updates_by_key_and_counts_duplicates(self) -> None:
        load = self.open().load(self.merging())
        assert totals(self.loaded(load, (1, "a", 1), (2, "b", 1))) == (2, 2, 0, 0, 0)
        assert totals(self.loaded(load, (2, "c", 1), (2, "d", 1), (3, "e", 1))) == (3, 2, 0, 1, 0)
        assert self.seen() == [(1, "a"), (2, "d"), (3, "e")]

    def test_merge_takes_the_largest_cursor_then_the_last_read(self) -> None:
        load = self.open().load(self.merging(cursor_field="rev"))
        target = load.shape(PEOPLE)
        write(load, (1, "late", 9), (2, "first", 5), (3, "null", None), schema=target)
        write(load, (1, "early", 1), (2, "second", 5), (3, "some", 0), schema=target)
        assert totals(load.settle()) == (6, 3, 0, 3, 0)
        load.commit(None)
        assert self.seen() == [(1, "late"), (2, "second"), (3, "some")]

    def test_merge_when_all_columns_are_the_key(self) -> None:
        load = self.open().load(self.merging(primary_key=("id", "name", "rev")))
        assert totals(self.loaded(load, (1, "a", 1), (1, "a", 1))) == (2, 1, 0, 1, 0)
        assert totals(self.loaded(load, (1, "a", 1))) == (1, 1, 0, 0, 0)
        assert self.seen() == [(1, "a")]

    def test_more_columns_in_mid_run_lose_no_row(self) -> None:
        load = self.open().load(self.merging(cursor_field="rev"))
        write(load, (1, "late", 9), (2, "b", 1), schema=load.shape(PEOPLE))
        write(load, (1, "early", 1, "x"), (3, "c", 1, "y"), schema=load.shape(MORE))
        assert totals(load.settle()) == (4, 3, 0, 1, 0), "one transaction: one row per key"
        load.commit(None)
        assert self.seen("id, name, extra") == [(1, "late", None), (2, "b", None), (3, "c", "y")]

    def test_a_key_that_is_no_column(self) -> None:
        with pytest.raises(ConfigurationError, match="nowhere"):
            self.open().load(self.merging(primary_key=("nowhere",))).shape(PEOPLE)

    def test_full_refresh_forgets_the_position_once_per_run(self) -> None:
        self.loaded(self.open().load(self.merging(run="run-0")), (1, "a", 1), position={"at": 1})
        self._opened[-1].close()
        load = self.open().load(self.merging(full_refresh=True))
        assert load.position is None
        self.loaded(load, (1, "b", 1), position={"at": 5})
        again = self.open().load(self.merging(full_refresh=True, holder="pod-2"))
        assert again.position == {"at": 5}, "a retry goes on where the refresh was"

    def test_more_columns_in_mid_replace_with_a_key(self) -> None:
        more_in_mid_replace(self, ("id",))

    @pytest.mark.parametrize("disposition", ["merge", "replace"])
    def test_a_merge_overtaken_inside_a_transaction_commits_nothing(self, disposition: str) -> None:
        overtaken_inside(self, disposition=disposition, primary_key=("id",))
