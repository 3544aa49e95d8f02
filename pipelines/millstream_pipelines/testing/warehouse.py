"""WarehouseSuite: what every warehouse must do. Subclass it, name your warehouse, say how to look into it, run pytest.

    class TestDuckDB(WarehouseSuite):
        warehouse = DuckDBWarehouse

        @pytest.fixture
        def config(self, tmp_path: Path) -> dict[str, Any]:
            return {"path": str(tmp_path / "dw.duckdb")}

        def query(self, sql: str) -> list[tuple[Any, ...]]:
            ...  # through a connection of your own: what it sees is what others see

Each test uses a table and a pipeline of its own, so the warehouse may be an old one.
"""

# ruff: noqa: S101 (assertions are what a suite is made of)

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from millstream_api import ExitCode, RunReport
from millstream_api.pipeline import TransformSpec
from millstream_api.run_report import CheckResult
from millstream_pipelines.batch import Reject
from millstream_pipelines.errors import ConfigurationError, DataError
from millstream_pipelines.registry import configured
from millstream_pipelines.testing.warehouse_case import OWNER, PEOPLE, WarehouseCase, batch, totals, write
from millstream_pipelines.testing.warehouse_leases import WarehouseLeases, WarehouseLiveness
from millstream_pipelines.testing.warehouse_merges import WarehouseMerges
from millstream_pipelines.testing.warehouse_own_tables import WarehouseOwnTables
from millstream_pipelines.testing.warehouse_quarantine import WarehouseQuarantine
from millstream_pipelines.testing.warehouse_shapes import WarehouseShapes
from millstream_pipelines.testing.warehouse_transforms import WarehouseTransforms
from millstream_pipelines.warehouses.base import Counts, StreamLoad, Warehouse

PROVABLE = frozenset({"merge", "replay", "transforms"})
"""Features that have a class in this suite."""

SOME_TRANSFORM = TransformSpec(name="t", target="suite.t", sql="SELECT 1 AS a")


class WarehouseLoads(WarehouseCase):
    """Loading: dispositions, transactions, accounting, quarantine, the lease."""

    def test_the_class_follows_the_protocol(self) -> None:
        warehouse = self.open()
        assert isinstance(warehouse, Warehouse)
        assert isinstance(warehouse.load(self.spec()), StreamLoad)
        fields = self.warehouse.Config.model_fields
        assert not [name for name, item in fields.items() if not item.description], "every field says what it means"

    def test_unknown_field_is_named(self, config: Mapping[str, Any], secret: Mapping[str, str]) -> None:
        with pytest.raises(ConfigurationError, match="noSuchField"):
            configured(self.warehouse.Config, {**config, "noSuchField": 1}, secret, OWNER)

    def test_probe_twice_says_the_same(self) -> None:
        first, second = self.open().probe(), self.open().probe()
        assert first == second
        assert first.server_version
        assert first.metadata_version >= 1

    # -- dispositions -------------------------------------------------------------------------------------------

    def test_append_adds(self) -> None:
        load = self.open().load(self.spec())
        assert load.position is None
        assert totals(self.loaded(load, (1, "a", 1), (2, None, 1), position={"at": 1})) == (2, 2, 0, 0, 0)
        assert totals(self.loaded(load, (1, "a", 1), position={"at": 2})) == (1, 1, 0, 0, 0)
        assert self.seen() == [(1, "a"), (1, "a"), (2, None)]

    def test_the_position_comes_back_as_it_was(self) -> None:
        position = {"at": 2**53 + 1, "text": 'a"ü', "deep": [None, True, {"x": 0.5}]}
        self.loaded(self.open().load(self.spec()), (1, "a", 1), position=position)
        self._opened[-1].close()
        assert self.open().load(self.spec(run="run-2")).position == position

    def test_a_commit_without_position_keeps_the_last(self) -> None:
        load = self.open().load(self.spec())
        self.loaded(load, (1, "a", 1), position={"at": 1})
        self.loaded(load, (2, "b", 1))
        assert self.metadata("seq", "state") == [(2,)]
        assert self.open().load(self.spec()).position == {"at": 1}

    def test_replace_shows_the_old_rows_until_the_commit(self) -> None:
        spec = self.spec(mode="full", disposition="replace")
        self.loaded(self.open().load(spec), (1, "old", 1))
        self._opened[-1].close()
        load = self.open().load(self.spec(mode="full", disposition="replace", run="run-2"))
        write(load, (2, "new", 1), schema=load.shape(PEOPLE))
        write(load, (3, "new", 1))
        assert self.seen() == [(1, "old")]
        load.settle()
        assert self.seen() == [(1, "old")]
        load.commit(None)
        assert self.seen() == [(2, "new"), (3, "new")]

    def test_an_empty_replace_empties(self) -> None:
        self.loaded(self.open().load(self.spec(mode="full", disposition="replace")), (1, "old", 1))
        self._opened[-1].close()
        self.loaded(self.open().load(self.spec(mode="full", disposition="replace", run="run-2")))
        assert self.seen() == []

    # -- transactions -------------------------------------------------------------------------------------------

    def test_nothing_is_seen_before_the_commit_and_all_after_it(self) -> None:
        load = self.open().load(self.either())
        load.shape(PEOPLE)
        reject = Reject("rule", "why", {"id": "x"})
        write(load, (1, "a", 1), rejects=(reject,))
        assert totals(load.settle()) == (2, 1, 1, 0, 0)
        assert self.seen() == []
        assert self.metadata("seq", "state") == [(0,)]
        assert self.metadata("rule", "quarantine") == self.metadata("seq", "ledger") == []
        load.commit({"at": 1})
        assert self.seen() == [(1, "a")]
        assert self.metadata("seq", "state") == [(1,)]
        assert self.metadata("rule, message, status, seq", "quarantine") == [("rule", "why", "open", 1)]
        assert self.metadata("seq, read, loaded, quarantined, duplicate, filtered, bytes", "ledger") == [
            (1, 2, 1, 1, 0, 0, 1)
        ]

    def test_rollback_leaves_nothing_and_loading_goes_on(self) -> None:
        load = self.open().load(self.either())
        load.shape(PEOPLE)
        write(load, (1, "a", 1), rejects=(Reject("rule", "why", {}),))
        load.rollback()
        assert self.seen() == self.metadata("rule", "quarantine") == self.metadata("seq", "ledger") == []
        write(load, (2, "b", 1))
        load.commit(None)
        assert self.seen() == [(2, "b")]

    def test_writing_after_settling_counts(self) -> None:
        load = self.open().load(self.either())
        load.shape(PEOPLE)
        write(load, (1, "a", 1))
        load.settle()
        write(load, (2, "b", 1))
        load.commit(None)
        assert self.seen() == [(1, "a"), (2, "b")]
        assert totals(load.run_counts()) == (2, 2, 0, 0, 0)

    def test_an_attempt_finds_its_own_chunks_in_the_ledger(self) -> None:
        self.loaded(self.open().load(self.spec(holder="pod-1")), (1, "a", 1))
        load = self.open().load(self.spec(holder="pod-2"))
        assert load.chunks() == []
        for rows in ([(2, "b", 1)], [(3, "c", 1), (4, "d", 1)]):
            self.loaded(load, *rows)
        assert [(chunk.seq, totals(chunk.counts)) for chunk in load.chunks()] == [
            (2, (1, 1, 0, 0, 0)),
            (3, (2, 2, 0, 0, 0)),
        ]
        assert totals(load.run_counts()) == (4, 4, 0, 0, 0)

    def test_a_gap_in_the_accounting_is_refused(self) -> None:
        load = self.open().load(self.spec())
        load.write(batch(load.shape(PEOPLE), (1, "a", 1)), [], Counts(read=2))
        load.settle()
        with pytest.raises(DataError, match="1 are not accounted for") as caught:
            load.commit({"at": 1})
        assert caught.value.reason == "AccountingGap"
        assert self.seen() == self.metadata("seq", "ledger") == []

    def test_quarantine_takes_any_row(self) -> None:
        rows: list[dict[str, Any]] = [
            {"_raw": "a\x00b"}, {"bad\x00name": "\ud800"}, {"x": "back\\u0000slash"}, {"x": float("nan")},
            {"x": [float("inf"), 10**5000]}, {"x": b"\xff\x00"}, {"ü": "\U0001f600", "": None}, {"x": "y" * 100_000},
        ]  # fmt: skip
        load = self.open().load(self.spec())
        load.shape(PEOPLE)
        write(load, rejects=tuple(Reject("r", "m\x00\ud800" + "!" * 9000, row) for row in rows))
        load.commit(None)
        kept = [json.loads(text) for (text,) in self.metadata('CAST("row" AS text)', "quarantine", "rule = 'r'")]
        assert len(kept) == len(rows)
        assert {"_raw": "a\\0b"} in kept
        assert {"x": "back\\u0000slash"} in kept
        assert {"ü": "\U0001f600", "": None} in kept

    def test_refused_rows_are_kept_for_triage_only(self) -> None:
        load = self.open().load(self.spec())
        load.shape(PEOPLE)
        write(load, (1, "a", 1))
        load.rollback()
        load.record_refused([Reject("rule", "why", {"id": 1})])
        assert self.metadata("rule, status", "quarantine") == [("rule", "refused")]
        assert self.seen() == self.metadata("seq", "ledger") == []

    # -- the rest of the protocol -------------------------------------------------------------------------------

    def test_scalar_sees_the_open_transaction_and_survives_a_name_that_is_not_there(self) -> None:
        warehouse = self.open()
        load = warehouse.load(self.spec())
        load.shape(PEOPLE)
        write(load, (1, "a", 1))
        with pytest.raises(ConfigurationError):
            warehouse.scalar("SELECT no_such_column FROM nowhere")
        assert warehouse.scalar(f"SELECT count(*) FROM {warehouse.quoted(self.table)}") == 1
        assert warehouse.scalar("SELECT NULL") is None
        load.commit(None)
        assert warehouse.scalar(f"SELECT max({warehouse.identifier('id')}) FROM {warehouse.quoted(self.table)}") == 1

    def test_a_query_that_fails_while_it_runs_loses_no_row_in_silence(self) -> None:
        warehouse = self.open()
        load = warehouse.load(self.spec())
        load.shape(PEOPLE)
        write(load, (1, "a", 1))
        with pytest.raises(DataError):
            warehouse.scalar(f"SELECT max(CAST(name AS integer)) FROM {warehouse.quoted(self.table)}")
        if self.failed_query_ends_transaction:
            with pytest.raises(ConfigurationError):
                load.commit(None)
            load.rollback()
            write(load, (1, "a", 1))
        load.commit(None)
        assert self.seen() == [(1, "a")]

    def test_record_run_numbers_the_attempts(self) -> None:
        warehouse, run = self.open(), f"run-{self.suffix}"
        check = CheckResult(name="c", target="t", severity="warn", outcome="failed", failed_rows=2, message="m")
        report = RunReport(exit_code=ExitCode.RETRIABLE, reason="Unreachable", message="m", run=run, checks=[check])
        warehouse.record_run(f"suite/{self.suffix}", run, report)
        warehouse.record_run(f"suite/{self.suffix}", run, report)
        assert sorted(self.metadata("attempt, outcome, exit_code", "runs")) == [
            (1, "Unreachable", 75),
            (2, "Unreachable", 75),
        ]
        assert self.metadata("name, failed_rows", "checks") == [("c", 2)]

    def test_explain_changes_nothing(self) -> None:
        statements = self.open().explain_load(self.either(cursor_field="rev"), PEOPLE)
        assert any("CREATE TABLE" in statement for statement in statements)
        with pytest.raises(Exception):  # noqa: B017, PT011 (whatever the driver calls a table that is not there)
            self.seen()
        self.loaded(self.open().load(self.either()), (1, "a", 1))
        assert not any("CREATE TABLE" in item for item in self.open().explain_load(self.either(), PEOPLE)[:1])

    def test_close_twice_and_in_mid_load(self) -> None:
        warehouse = self.open()
        load = warehouse.load(self.spec())
        load.shape(PEOPLE)
        write(load, (1, "lost", 1))
        warehouse.close()
        warehouse.close()
        assert self.seen() == []


class WarehouseCore(WarehouseLoads, WarehouseLeases, WarehouseShapes):
    """What a warehouse must do that only adds and replaces rows. Add the class of each feature that yours declares."""

    def test_what_is_declared_is_proved_and_the_rest_is_refused(self) -> None:
        proved = {name for part in type(self).__mro__ for name in vars(part).get("proves", ())}
        assert self.features & PROVABLE == proved, "a feature needs its class of the suite, and the other way round"
        asked: dict[str, Callable[[], object]] = {
            "merge": lambda: self.open().load(self.merging()),
            "replay": lambda: self.open().load(self.spec(origin="quarantine")),
            "transforms": lambda: self.open().materialize(SOME_TRANSFORM, bool),
        }
        for name in PROVABLE - self.features:
            with pytest.raises(ConfigurationError):
                asked[name]()


class WarehouseSuite(
    WarehouseCore, WarehouseMerges, WarehouseQuarantine, WarehouseOwnTables, WarehouseLiveness, WarehouseTransforms
):
    """The conformance suite of warehouses that have all of this. See `WarehouseCase` for what is yours to set."""
