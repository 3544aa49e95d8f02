"""The part of WarehouseSuite about rows that are gone at the source: marked as deleted, or absent from all its keys.

For a warehouse with features `deletes` and `backfill`; the history part also needs `scd2`.
"""

# ruff: noqa: S101 (assertions are what a suite is made of)

from __future__ import annotations

from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest

from millstream_pipelines.batch import DELETED
from millstream_pipelines.errors import ConfigurationError, DataError
from millstream_pipelines.schema import Schema
from millstream_pipelines.testing.warehouse_case import PEOPLE, batch, totals, write
from millstream_pipelines.testing.warehouse_history import PRICES, HistoryCase, day
from millstream_pipelines.warehouses.backfilling import BackfillLoad
from millstream_pipelines.warehouses.base import Counts, LoadSpec, StreamLoad, SweepingLoad


class DeletesCase(HistoryCase):
    """A table that follows deletes."""

    def following(self, **changes: Any) -> LoadSpec:
        """Return a load that merges by `id`, with marks, the largest `rev` first."""
        return self.merging(**{"deletes": True, "cursor_field": "rev", **changes})

    def marked(
        self, spec: LoadSpec, *rows: tuple[tuple[Any, ...], bool], schema: Schema = PEOPLE
    ) -> tuple[tuple[int, ...], int]:
        """Load rows, each with its mark; return read, loaded, quarantined, duplicate, filtered, and the deleted."""
        load = self.open().load(spec)
        data = batch(load.shape(schema), *(row for row, _ in rows))
        gone = pa.array([mark for _, mark in rows], pa.bool_())
        load.write(data.append_column(DELETED, gone), [], Counts(read=len(rows)))
        counts = load.settle()
        load.commit(None)
        assert load.run_counts().deleted >= counts.deleted
        self._opened.pop().close()
        return totals(counts), counts.deleted

    def swept(self, spec: LoadSpec, *keys: int) -> int:
        """Sweep what is not among the keys, and commit."""
        load = self.sweeping(spec)
        for key in keys:
            load.present(pa.record_batch({"id": pa.array([key], pa.int64())}))
        deleted = load.sweep()
        load.commit(None)
        self._opened.pop().close()
        return deleted

    def sweeping(self, spec: LoadSpec) -> SweepingLoad:
        """Return a load that has been shaped."""
        load = self.open().load(spec)
        assert isinstance(load, SweepingLoad)
        load.remember()
        load.shape(PRICES if spec.disposition == "scd2" else PEOPLE)
        return load


class WarehouseDeletes(DeletesCase):
    """What leaves the target."""

    def test_a_marked_row_leaves_and_is_counted_as_loaded(self) -> None:
        spec = self.following()
        assert self.marked(spec, ((1, "a", 1), False), ((2, "b", 1), False)) == ((2, 2, 0, 0, 0), 0)
        assert self.marked(spec, ((1, None, 2), True), ((3, "c", 2), False)) == ((2, 2, 0, 0, 0), 1)
        assert self.seen() == [(2, "b"), (3, "c")]
        assert self.metadata("loaded, deleted", "ledger", "deleted > 0") == [(2, 1)]

    def test_a_mark_for_a_key_that_was_never_there(self) -> None:
        assert self.marked(self.following(), ((7, "x", 1), True)) == ((1, 1, 0, 0, 0), 0)
        assert self.seen() == []

    @pytest.mark.parametrize(
        ("rows", "left"),
        [
            ([((1, "a", 1), False), ((1, "a", 2), True)], []),
            ([((1, "a", 2), True), ((1, "b", 1), False)], []),
            ([((1, "a", 1), True), ((1, "b", 2), False)], [(1, "b")]),
            ([((1, "b", 2), False), ((1, "a", 1), True)], [(1, "b")]),
            ([((1, "a", 1), False), ((1, "a", 1), True), ((1, "c", 1), False)], [(1, "c")]),
        ],
    )
    def test_in_one_chunk_the_last_state_counts(self, rows: list[Any], left: list[Any]) -> None:
        counts, _ = self.marked(self.following(), *rows)
        assert counts == (len(rows), 1, 0, len(rows) - 1, 0)
        assert self.seen() == left

    def test_a_key_comes_back(self) -> None:
        for mark in (False, True, False):
            self.marked(self.following(), ((1, "a", 1), mark))
        assert self.seen() == [(1, "a")]

    def test_a_mark_ends_validity(self) -> None:
        spec = self.keeping(deletes=True)

        def at(number: int, mark: bool = False) -> tuple[tuple[int, str, datetime], bool]:
            return (1, "a", day(number)), mark

        self.marked(spec, at(1), schema=PRICES)
        assert self.marked(spec, at(5, True), schema=PRICES) == ((1, 1, 0, 0, 0), 1)
        assert self.versions() == [(1, "a", 1, 5)]
        assert self.marked(spec, at(5, True), at(8, True), schema=PRICES) == ((2, 0, 0, 2, 0), 0)
        assert self.marked(spec, at(9), at(3, True), schema=PRICES) == ((2, 2, 0, 0, 0), 1)
        assert self.versions() == [(1, "a", 1, 3), (1, "a", 9, None)]
        assert self.marked(spec, at(9, True), schema=PRICES) == ((1, 1, 0, 0, 0), 1)
        assert self.versions() == [(1, "a", 1, 3)]

    def test_a_sweep_takes_out_what_the_source_lacks(self) -> None:
        self.loaded(self.open().load(self.merging()), (1, "a", 1), (2, "b", 1), (3, "c", 1))
        self._opened.pop().close()
        assert self.swept(self.merging(), 1, 3, 9) == 1
        assert self.seen() == [(1, "a"), (3, "c")]
        assert self.metadata("read, loaded, deleted", "ledger", "read = 0") == [(0, 0, 1)]
        assert self.swept(self.merging(), 1, 3) == 0

    def test_what_comes_after_the_keys_were_asked_for_stays(self) -> None:
        self.loaded(self.open().load(self.merging()), (1, "a", 1), (2, "b", 1), (3, "c", 1))
        self._opened.pop().close()
        load = self.sweeping(self.merging())
        load.present(pa.record_batch({"id": pa.array([1], pa.int64())}))
        other = self.open().load(self.merging(window="w", cursor_field="rev"))
        assert isinstance(other, BackfillLoad)
        other.interval("1", "2")
        self.loaded(other, (2, "B", 1), (4, "d", 1))
        self._opened.pop().close()
        assert load.sweep() == 1
        load.commit(None)
        assert self.seen() == [(1, "a"), (2, "B"), (4, "d")]

    def test_a_sweep_ends_validity(self) -> None:
        self.put((1, "a", 1), (1, "b", 2), (2, "x", 1))
        assert self.swept(self.keeping(), 2) == 1
        ended = [row for row in self.seen("id, name, valid_to") if row[2] is not None]
        assert sorted(row[:2] for row in ended) == [(1, "a"), (1, "b")]
        assert self.swept(self.keeping(), 2) == 0, "what has ended ends once"

    def test_when_a_sweep_was_is_known(self) -> None:
        self.loaded(self.open().load(self.merging()), (1, "a", 1))
        self._opened.pop().close()
        assert self.sweeping(self.merging()).since_reconciled is None
        self._opened.pop().close()
        self.swept(self.merging(), 1)
        age = self.sweeping(self.merging()).since_reconciled
        assert age is not None
        assert 0 <= age.total_seconds() < 60

    @pytest.mark.parametrize("keys", [(), (8, 9)])
    @pytest.mark.parametrize("disposition", ["merge", "scd2"])
    def test_a_sweep_of_everything_is_refused(self, disposition: str, keys: tuple[int, ...]) -> None:
        self.put((1, "a", 1), (2, "b", 1))
        spec = self.keeping(disposition=disposition)
        if disposition == "merge":
            self.execute(f"DROP TABLE {self.open().quoted(self.table)}")
            spec = self.merging()
            self.loaded(self.open().load(spec), (1, "a", 1), (2, "b", 1))
            self._opened.pop().close()
        load = self.sweeping(spec)
        for key in keys:
            load.present(pa.record_batch({"id": pa.array([key], pa.int64())}))
        with pytest.raises(DataError, match=f"{len(keys)} keys, and none of them") as caught:
            load.sweep()
        assert caught.value.reason == "EverythingGone"
        load.rollback()
        self._opened.pop().close()
        assert self.seen() == [(1, "a"), (2, "b")]
        consent = self.keeping(full_refresh=True) if disposition == "scd2" else self.merging(full_refresh=True)
        assert self.swept(consent, *keys) == 2

    def test_nothing_there_and_nothing_gone(self) -> None:
        assert self.swept(self.merging()) == 0

    def test_a_table_that_others_load_too_is_not_swept(self) -> None:
        for pipeline in (f"suite/{self.suffix}", f"other/{self.suffix}"):
            self.loaded(self.open().load(self.merging(pipeline=pipeline)), (1 + len(pipeline), "a", 1))
            self._opened.pop().close()
        load = self.sweeping(self.merging())
        load.present(pa.record_batch({"id": pa.array([1], pa.int64())}))
        with pytest.raises(ConfigurationError, match=f"other/{self.suffix} stream 'people'"):
            load.sweep()
        load.rollback()

    def test_a_full_read_tells_what_is_gone(self) -> None:
        def whole(run: str, *rows: tuple[Any, ...], spared: tuple[int, ...] = ()) -> tuple[tuple[int, ...], int]:
            load: StreamLoad = self.open().load(self.keeping(mode="full", sweeps=True, run=run))
            assert isinstance(load, SweepingLoad)
            load.remember()
            write(load, *rows, schema=load.shape(PRICES))
            counts = load.settle()
            for key in spared:
                load.present(pa.record_batch({"id": pa.array([key], pa.int64())}))
            deleted = load.sweep()
            load.commit(None)
            self._opened.pop().close()
            return totals(counts), deleted

        assert whole("1", (1, "a", day(1)), (2, "x", day(1)), (3, "y", day(1))) == ((3, 3, 0, 0, 0), 0)
        assert whole("2", (1, "b", day(2)), spared=(3,)) == ((1, 1, 0, 0, 0), 1)
        current = f"{self.open().identifier('valid_to')} IS NULL"
        rows = self.seen(f"id, name, {current}")
        assert sorted(row[:2] for row in rows if row[2]) == [(1, "b"), (3, "y")]
        assert whole("3", (1, "b", day(2)), (2, "x", day(1)), spared=(3,)) == ((2, 1, 0, 1, 0), 0), "it is back"
        rows = self.seen(f"id, name, {current}")
        assert sorted(row[:2] for row in rows if row[2]) == [(1, "b"), (2, "x"), (3, "y")]
        assert sorted(row[:2] for row in rows if not row[2]) == [(1, "a"), (2, "x")]
