"""The part of WarehouseSuite about rows of the quarantine on their way back."""

# ruff: noqa: S101 (assertions are what a suite is made of)

from __future__ import annotations

from typing import ClassVar

from millstream_pipelines.batch import Reject
from millstream_pipelines.selection import Selection
from millstream_pipelines.testing.warehouse_case import PEOPLE, WarehouseCase, batch, totals, write
from millstream_pipelines.warehouses.base import Counts, StreamLoad
from millstream_pipelines.warehouses.set_aside import Verdict


class WarehouseQuarantine(WarehouseCase):
    """Rows, verdicts and ledger commit together, and only then."""

    proves: ClassVar[frozenset[str]] = frozenset({"replay"})

    def set_aside(self, *rejects: Reject) -> Selection:
        """Set rows aside and return how to choose them."""
        load = self.open().load(self.spec())
        load.shape(PEOPLE)
        write(load, rejects=rejects)
        load.commit({"at": 1})
        self._opened[-1].close()
        return Selection(f"suite/{self.suffix}", ("people",))

    def replay(self, run: str, **changes: object) -> StreamLoad:
        """Open the load of a replay."""
        return self.open().load(self.spec(run=run, origin="quarantine", **changes))

    def test_rows_come_back_as_they_were_stored(self) -> None:
        row = {"id": 1, "name": "ü'%s", "rev": None}
        chosen = self.set_aside(
            Reject("a", "why", row, masked=("name",)),
            Reject("b", "why", {"id": 2}, "shaped"),
            Reject("c", "", {}, "raw"),
        )
        first, second = self.replay("r").replaying().take(chosen, 10)
        assert (first.run, first.rule, first.row, first.form, first.masked) == ("run-1", "a", row, "read", ("name",))
        assert (second.row, second.form, second.masked) == ({"id": 2}, "shaped", ())

    def test_a_replay_commits_rows_verdicts_and_ledger_at_once_and_keeps_the_position(self) -> None:
        chosen = self.set_aside(
            Reject("a", "old", {"id": 1}), Reject("a", "old", {"id": 2}), Reject("b", "old", {"id": 3})
        )
        for commits in (False, True):
            load = self.replay("r")
            load.shape(PEOPLE)
            taken = load.replaying().take(chosen, 2)
            assert [item.row["id"] for item in taken] == [1, 2]
            write(load, (1, "a", 1))
            load.write(batch(PEOPLE), [], Counts(read=1, quarantined=1))
            load.settle()
            verdicts = [Verdict(taken[0].id, "replayed"), Verdict(taken[1].id, "open", "new", "still")]
            load.replaying().resolve(verdicts)
            if not commits:
                load.rollback()
                assert self.metadata("status", "quarantine") == [("open",)] * 3
                self._opened[-1].close()
                continue
            load.commit(None)
            rest = load.replaying().take(chosen, 9)
            assert [item.row["id"] for item in rest] == [3], "what this run has tried is not taken again"
            load.rollback()
            assert load.position == {"at": 1}
            assert totals(load.run_counts()) == (2, 1, 1, 0, 0)
        assert self.seen() == [(1, "a")]
        seen = self.metadata("status, rule, message, attempts", "quarantine")
        assert sorted(seen) == [("open", "b", "old", 0), ("open", "new", "still", 1), ("replayed", "a", "old", 1)]
        assert self.metadata("origin, read", "ledger", "run = 'r'") == [("quarantine", 2)]

    def test_which_rows_are_superseded(self) -> None:
        self.loaded(self.open().load(self.merging(cursor_field="rev")), (1, "a", 5), (2, "b", 5), (3, "c", 5))
        self._opened[-1].close()
        rows = ((1, "older", 4), (2, "same", 5), (3, "newer", 6), (4, "first", 7), (4, "second", 6), (5, "x", None))
        for cursor, places in (("rev", [0, 1, 4]), (None, [0, 1, 2, 3])):
            load = self.replay("r", disposition="merge", primary_key=("id",), cursor_field=cursor)
            target = load.shape(PEOPLE)
            assert load.replaying().superseded(batch(target, *rows)) == places
            load.rollback()
            self._opened[-1].close()

    def test_discarded_rows_stay_with_the_reason(self) -> None:
        chosen = self.set_aside(Reject("a", "why", {"id": 1}), Reject("it's 100%", "why", {"id": 2}))
        assert self.open().discard(Selection(chosen.pipeline, rule="it's 100%"), "not 'ours'", "me@here") == 1
        self._opened[-1].close()
        seen = self.metadata("status, reason, closed_by, closed_at IS NOT NULL", "quarantine", "rule <> 'a'")
        assert seen == [("discarded", "not 'ours'", "me@here", True)]
        assert len(self.replay("r").replaying().take(chosen, 9)) == 1
