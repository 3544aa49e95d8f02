"""The log of commits of the warehouse `parquet`: races, lost answers, checkpoints, damage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from millstream_pipelines.errors import ConfigurationError, RetriableError, SupersededError
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.testing.warehouse_case import OWNER, PEOPLE, totals, write
from millstream_pipelines.warehouses._parquet.log import TableLog
from millstream_pipelines.warehouses._parquet.store import LocalFolder
from parquet_case import ParquetCase


class TestLog(ParquetCase):
    """The log of commits: what makes a row true, and what does not."""

    def test_another_run_takes_over_and_the_one_before_ends_as_superseded(self) -> None:
        first = self.open().load(self.spec())
        write(first, (1, "lost", 1), schema=first.shape(PEOPLE))
        second = self.open().load(self.spec(run="run-2", holder="pod-2"))
        with pytest.raises(SupersededError, match="pod-2, run 'run-2'"):
            first.commit({"at": 1})
        self.loaded(second, (2, "kept", 1), position={"at": 2})
        assert self.seen() == [(2, "kept")]

    def test_a_check_of_an_attempt_that_was_overtaken_does_not_judge_its_successors_rows(self) -> None:
        first = self.open()
        load = first.load(self.spec())
        write(load, (1, "a", 1), schema=load.shape(PEOPLE))
        self.loaded(self.open().load(self.spec(holder="pod-2")), (1, "a", 1))
        with pytest.raises(SupersededError):
            first.scalar(f"SELECT count(*) FROM {first.quoted(self.table)}")

    def test_two_streams_fill_one_table_side_by_side(self) -> None:
        one, other = self.open().load(self.spec()), self.open().load(self.spec(stream="others"))
        for load, name in ((one, "a"), (other, "b"), (one, "c")):
            self.loaded(load, (1, name, 1))
        assert sorted(self.seen()) == [(1, "a"), (1, "b"), (1, "c")]
        assert sorted(self.metadata("stream, seq", "state")) == [("others", 1), ("people", 2)]

    def test_a_stream_with_another_target_begins_anew_and_both_ledgers_are_told(self) -> None:
        for name in ("people", "moved"):
            load = self.open().load(self.spec(target=f"suite_{self.suffix}.{name}"))
            assert load.position is None
            self.loaded(load, (1, name, 1), position={"at": 1})
        before = f"people@{self.table}"
        assert sorted(self.metadata("stream, seq", "state")) == [("people", 1), (before, 1)]
        assert sorted(self.metadata("stream, loaded", "accounting")) == [("people", 1), (before, 1)]

    def test_columns_that_two_streams_add_at_once_are_both_there(self) -> None:
        one, other = self.open().load(self.spec()), self.open().load(self.spec(stream="others"))
        for load in (one, other):
            load.shape(PEOPLE)
            write(load, (1, "a", 1))
        for load, name in ((one, "left"), (other, "right")):
            more = Schema((*PEOPLE, Column(name, "text")))
            write(load, (2, "b", 1, name), schema=load.shape(more))
        one.commit(None)
        other.commit(None)
        wanted = [("left", None), (None, "right"), (None, None), (None, None)]
        assert sorted(self.seen('"left", "right"'), key=str) == sorted(wanted, key=str)

    def test_tables_and_columns_that_two_streams_make_at_once_are_both_there(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each has read the same state; the second to commit decides again."""
        one, other = self.open().load(self.spec()), self.open().load(self.spec(stream="others"))
        monkeypatch.setattr(TableLog, "catch_up", _once_behind(TableLog.catch_up))
        one.shape(Schema((*PEOPLE, Column("left", "text"))))
        other.shape(Schema((*PEOPLE, Column("right", "text"))))
        monkeypatch.undo()
        found = self.open().shape_of(self.table, PEOPLE)
        assert found is not None
        assert found.schema.names == [*PEOPLE.names, "left", "right"]

    def test_one_column_of_two_types_at_once_is_retried(self) -> None:
        one, other = self.open().load(self.spec()), self.open().load(self.spec(stream="others"))
        for load, kind, value in ((one, "text", "x"), (other, "date", None)):
            load.shape(PEOPLE)
            write(load, (1, "a", 1))
            more = Schema((*PEOPLE, Column("extra", kind)))
            write(load, (2, "b", 1, value), schema=load.shape(more))
        one.commit(None)
        with pytest.raises(RetriableError, match="'extra' became text"):
            other.commit(None)

    def test_checkpoints_change_nothing_but_how_much_is_read(self) -> None:
        load = self.open().load(self.spec())
        for number in range(120):
            self.loaded(load, (number, "a", 1), position={"at": number})
        assert len(self.stored("_checkpoints")) == 3
        counts = load.run_counts()
        with_checkpoint = TableLog(self.store, f"suite_{self.suffix}", "people", OWNER).read()
        self.store.remove([f"suite_{self.suffix}/people/{key}" for key in self.stored("_checkpoints")])
        without = TableLog(self.store, f"suite_{self.suffix}", "people", OWNER).read()
        assert with_checkpoint == without
        assert totals(counts) == (120, 120, 0, 0, 0)
        assert len(self.seen()) == 120
        assert self.open().load(self.spec()).position == {"at": 119}

    def test_a_commit_of_a_newer_format_is_refused(self) -> None:
        self.loaded(self.open().load(self.spec()), (1, "a", 1))
        last = self.stored("_commits")[-1]
        number = int(Path(last).stem) + 1
        content = json.dumps({"format": 99}).encode()
        assert self.store.create(f"suite_{self.suffix}/people/_commits/{number:020d}.json", content)
        with pytest.raises(ConfigurationError, match="format 99"):
            self.open().load(self.spec())

    def test_a_commit_that_was_removed_is_noticed(self) -> None:
        for number in range(2):
            self.loaded(self.open().load(self.spec()), (number, "a", 1))
        self.store.remove([f"suite_{self.suffix}/people/{self.stored('_commits')[1]}"])
        with pytest.raises(ConfigurationError, match="missing"):
            self.open().load(self.spec())

    def test_an_answer_that_is_lost_is_found_in_the_log(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The request is repeated by the client, and the second is told that the object is there."""
        load = self.open().load(self.spec())
        write(load, (1, "a", 1), schema=load.shape(PEOPLE))
        create = LocalFolder.create
        monkeypatch.setattr(LocalFolder, "create", lambda *given: create(*given) and create(*given))
        load.commit({"at": 1})
        monkeypatch.undo()
        self.loaded(load, (2, "b", 1), position={"at": 2})
        assert self.seen() == [(1, "a"), (2, "b")]
        assert self.metadata("seq, loaded", "ledger") == [(1, 1), (2, 1)]

    def test_a_commit_whose_end_is_not_known_keeps_its_files(self, monkeypatch: pytest.MonkeyPatch) -> None:
        load = self.open().load(self.spec())
        write(load, (1, "a", 1), schema=load.shape(PEOPLE))
        create = LocalFolder.create

        def lost(*given: Any) -> bool:
            create(*given)
            raise RetriableError("the network has gone")

        monkeypatch.setattr(LocalFolder, "create", lost)
        with pytest.raises(RetriableError, match="network"):
            load.commit({"at": 1})
        monkeypatch.undo()
        load.rollback()
        again = self.open().load(self.spec(holder="pod-2"))
        assert again.position == {"at": 1}
        assert self.seen() == [(1, "a")]


def _once_behind(catch_up: Callable[[TableLog], Any]) -> Callable[[TableLog], Any]:
    """Return a `catch_up` that finds nothing new the first time each log asks."""
    asked: set[int] = set()

    def behind(log: TableLog) -> Any:
        if id(log) in asked:
            return catch_up(log)
        asked.add(id(log))
        return []

    return behind
