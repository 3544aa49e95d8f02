"""The part of WarehouseSuite about the lease: two attempts, two runs, a run that is done already."""

# ruff: noqa: S101 (assertions are what a suite is made of)

from __future__ import annotations

from typing import Any

import pytest

from millstream_pipelines.errors import ConfigurationError, RetriableError, SupersededError
from millstream_pipelines.testing.warehouse_case import PEOPLE, WarehouseCase, totals, write


def overtaken_inside(case: WarehouseCase, **changes: Any) -> None:
    """Let an attempt be overtaken between its rows and its commit."""
    changes["mode"] = "full" if changes["disposition"] == "replace" else "incremental"
    case.loaded(case.open().load(case.spec(**{**changes, "run": "run-0"})), (0, "old", 0))
    case._opened[-1].close()
    first = case.open().load(case.spec(**changes))
    first.shape(PEOPLE)
    write(first, (0, "lost", 1))
    first.settle()
    second = case.open().load(case.spec(**changes, holder="pod-2"))
    with pytest.raises(SupersededError):
        first.commit({"at": 9})
    case.loaded(second, (2, "kept", 1), position={"at": 2})
    assert case.seen() == [(2, "kept")] if changes["disposition"] == "replace" else [(0, "old"), (2, "kept")]


class WarehouseLeases(WarehouseCase):
    """Who may commit."""

    def test_a_second_attempt_takes_over_and_the_first_commits_nothing(self) -> None:
        first = self.open().load(self.spec())
        self.loaded(first, (1, "a", 1), position={"at": 1})
        second = self.open().load(self.spec(holder="pod-2"))
        assert second.position == {"at": 1}
        with pytest.raises(SupersededError, match="pod-1"):
            self.loaded(first, (2, "lost", 1), position={"at": 2})
        first.rollback()
        self.loaded(second, (2, "kept", 1), position={"at": 2})
        assert self.seen() == [(1, "a"), (2, "kept")]
        assert self.metadata("seq", "ledger", "run = 'run-1'") in ([(1,), (2,)], [(2,), (1,)])
        assert totals(second.run_counts()) == totals(first.run_counts()) == (2, 2, 0, 0, 0)

    @pytest.mark.parametrize("disposition", ["append", "replace"])
    def test_an_attempt_overtaken_inside_a_transaction_commits_nothing(self, disposition: str) -> None:
        overtaken_inside(self, disposition=disposition)

    def test_mode_full_is_done_once_per_run(self) -> None:
        spec = self.spec(mode="full")
        load = self.open().load(spec)
        assert load.already_done is None
        self.loaded(load, (1, "a", 1))
        again = self.open().load(self.spec(mode="full", holder="pod-2"))
        assert again.already_done is not None
        assert totals(again.already_done) == (1, 1, 0, 0, 0)
        for warehouse in self._opened:
            warehouse.close()
        assert self.open().load(self.spec(mode="full", run="run-2")).already_done is None

    def test_from_mode_full_to_incremental_starts_at_the_beginning(self) -> None:
        self.loaded(self.open().load(self.spec(mode="full")), (1, "a", 1), position={"at": 1})
        assert self.open().load(self.spec()).position is None

    def test_full_refresh_of_an_append_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="merge"):
            self.open().load(self.spec(full_refresh=True))


class WarehouseLiveness(WarehouseCase):
    """A warehouse that can tell whether a loader lives."""

    def test_another_run_waits_while_a_loader_lives_and_not_longer(self) -> None:
        living = self.open()
        load = living.load(self.spec())
        load.shape(PEOPLE)
        write(load, (1, "lost", 1))
        with pytest.raises(RetriableError, match="run-1") as caught:
            self.open().load(self.spec(run="run-2", holder="pod-2"))
        assert caught.value.reason == "StreamBusy"
        self.open().load(self.spec(run="run-2", stream="others"))
        living.close()
        self.loaded(self.open().load(self.spec(run="run-2")), (2, "kept", 1))
        assert self.seen() == [(2, "kept")]
