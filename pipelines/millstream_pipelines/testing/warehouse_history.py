"""The part of WarehouseSuite about history (scd2): versions of keys with half-open validity."""

# ruff: noqa: S101 (assertions are what a suite is made of)

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from millstream_api.stream import Scd2
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.testing.warehouse_case import WarehouseCase, totals
from millstream_pipelines.warehouses.base import LoadSpec

PRICES = Schema((Column("id", "bigint"), Column("name", "text"), Column("since", "timestamptz")))
TIMED = Scd2(effective_at="since")


def day(number: int) -> datetime:
    """Return a day of January 2024."""
    return datetime(2024, 1, number, tzinfo=UTC)


class HistoryCase(WarehouseCase):
    """A table of prices that keeps history."""

    def keeping(self, **changes: Any) -> LoadSpec:
        """Return a load that keeps history by `id` and the time in `since`."""
        return self.spec(**{"disposition": "scd2", "primary_key": ("id",), "scd2": TIMED, **changes})

    def put(self, *changes: tuple[int, str | None, int], **spec: Any) -> tuple[int, ...]:
        """Load one chunk of (id, name, day) and return read, loaded, quarantined, duplicate, filtered."""
        rows = [(key, name, day(at)) for key, name, at in changes]
        counts = self.loaded(self.open().load(self.keeping(**spec)), *rows, schema=PRICES)
        self._opened.pop().close()
        return totals(counts)

    def versions(self) -> list[tuple[Any, ...]]:
        """Return (id, name, day of valid_from, day of valid_to) of all versions, in order."""
        number = "CAST(extract(day FROM {}) AS integer)"
        columns = f"id, name, {number.format('valid_from')}, {number.format('valid_to')}, valid_from"
        return sorted((row[:4] for row in self.seen(columns)), key=lambda row: (row[0], row[2], row[1] or ""))


class WarehouseHistory(HistoryCase):
    """What writeDisposition scd2 keeps."""

    def test_a_change_ends_the_version_before_it(self) -> None:
        assert self.put((1, "a", 1), (2, "x", 1)) == (2, 2, 0, 0, 0)
        assert self.put((1, "b", 3)) == (1, 1, 0, 0, 0)
        assert self.versions() == [(1, "a", 1, 3), (1, "b", 3, None), (2, "x", 1, None)]

    def test_several_changes_of_a_key_in_one_chunk(self) -> None:
        assert self.put((1, "c", 5), (1, "a", 1), (1, "b", 3)) == (3, 3, 0, 0, 0)
        assert self.versions() == [(1, "a", 1, 3), (1, "b", 3, 5), (1, "c", 5, None)]

    def test_the_same_change_again_is_a_duplicate(self) -> None:
        self.put((1, "a", 1), (1, "b", 3))
        assert self.put((1, "b", 3), (1, "a", 1), (1, "a", 1)) == (3, 0, 0, 3, 0)
        assert self.versions() == [(1, "a", 1, 3), (1, "b", 3, None)]

    def test_a_late_change_takes_its_place(self) -> None:
        self.put((1, "a", 2), (1, "c", 8))
        assert self.put((1, "b", 5), (1, "before", 1)) == (2, 2, 0, 0, 0)
        assert self.versions() == [(1, "before", 1, 2), (1, "a", 2, 5), (1, "b", 5, 8), (1, "c", 8, None)]

    def test_of_two_changes_at_one_moment_the_last_read_stands(self) -> None:
        assert self.put((1, "a", 1), (1, "b", 1)) == (2, 1, 0, 1, 0)
        assert self.put((1, "c", 1), (1, "z", 4)) == (2, 2, 0, 0, 0)
        assert self.put((1, "d", 1)) == (1, 1, 0, 0, 0)
        assert self.versions() == [(1, "d", 1, 4), (1, "z", 4, None)]

    def test_null_is_a_value_like_others(self) -> None:
        self.put((1, None, 1))
        assert self.put((1, None, 1)) == (1, 0, 0, 1, 0)
        assert self.put((1, "a", 2), (1, None, 3)) == (2, 2, 0, 0, 0)
        assert self.versions() == [(1, None, 1, 2), (1, "a", 2, 3), (1, None, 3, None)]

    def test_without_an_effective_time_a_change_holds_from_the_run(self) -> None:
        schema, now = Schema(PRICES.columns[:2]), {"scd2": Scd2()}
        warehouse = self.open()
        load = warehouse.load(self.keeping(**now))
        before = datetime.now(UTC)
        assert totals(self.loaded(load, (1, "a"), (2, "x"), schema=schema)) == (2, 2, 0, 0, 0)
        assert totals(self.loaded(load, (1, "a"), (2, "x"), schema=schema)) == (2, 0, 0, 2, 0)
        assert totals(self.loaded(load, (1, "b"), (1, "c"), schema=schema)) == (2, 1, 0, 1, 0)
        assert totals(self.loaded(load, (1, "a"), schema=schema)) == (1, 1, 0, 0, 0)
        found = sorted(self.seen("id, valid_from, valid_to, name"), key=lambda row: row[:2])
        assert [(row[0], row[3]) for row in found] == [(1, "a"), (1, "c"), (1, "a"), (2, "x")]
        assert [row[2] for row in found] == [found[1][1], found[2][1], None, None]
        assert abs((found[0][1] - before).total_seconds()) < 60
        assert found[0][1] < found[1][1] < found[2][1]

    def test_names_of_validity_are_the_users(self) -> None:
        names = Scd2(effective_at="since", valid_from="from", valid_to="To that")
        self.put((1, "a", 1), scd2=names)
        self.put((1, "b", 2), scd2=names)
        quoted = self.open().identifier("To that")
        assert sorted(name for name, end in self.seen(f"name, {quoted}") if end is None) == ["b"]

    def test_a_key_of_several_columns_and_the_plain_timestamp(self) -> None:
        schema = Schema((*PRICES.columns[:2], Column("place", "text"), Column("since", "timestamp")))
        spec = self.keeping(primary_key=("id", "place"))
        moment = [datetime(2024, 1, number) for number in (1, 2)]
        load = self.open().load(spec)
        self.loaded(load, (1, "a", "north", moment[0]), (1, "b", "south", moment[0]), schema=schema)
        self.loaded(load, (1, "c", "north", moment[1]), schema=schema)
        assert self.versions() == [(1, "a", 1, 2), (1, "b", 1, None), (1, "c", 2, None)]

    def test_more_columns_come_later(self) -> None:
        self.put((1, "a", 1))
        more = Schema((*PRICES.columns, Column("extra", "text")))
        load = self.open().load(self.keeping())
        self.loaded(load, (1, "b", day(2), "x"), (1, "a", day(1), None), schema=more)
        assert self.versions() == [(1, "a", 1, 2), (1, "b", 2, None)]

    @pytest.mark.parametrize(
        ("scd2", "match"),
        [
            (Scd2(effective_at="nowhere"), "nowhere"),
            (Scd2(effective_at="name"), "'name' is text"),
            (Scd2(valid_from="name"), "'name' holds the validity"),
            (Scd2(valid_from="same", valid_to="same"), "'same' holds the validity"),
        ],
    )
    def test_what_cannot_be_is_configuration(self, scd2: Scd2, match: str) -> None:
        with pytest.raises(ConfigurationError, match=match):
            self.open().load(self.keeping(scd2=scd2)).shape(PRICES)

    def test_a_table_without_validity_is_no_history(self) -> None:
        self.loaded(self.open().load(self.merging()), (1, "a", day(1)), schema=PRICES)
        self._opened.pop().close()
        with pytest.raises(ConfigurationError, match="'valid_from'"):
            self.open().load(self.keeping()).shape(PRICES)
        assert self.seen() == [(1, "a")]
