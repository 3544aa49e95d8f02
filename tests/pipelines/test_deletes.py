"""Deleted rows through whole runs: marks, keys that are gone, what is refused, and what is not mistaken for gone."""

from __future__ import annotations

from datetime import date
from typing import Any

import pyarrow as pa
import pytest

from millstream_api import ExitCode, RunOptions
from millstream_api.stream import StreamSpec
from millstream_pipelines.column_plan import plan_columns
from millstream_pipelines.deletes import marked, origin_of_mark, read_columns
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.reconciling import require_complete
from millstream_pipelines.registry import component, configured
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.sources.base import ReadRequest
from pipeline_runs import Runs
from servers.plugin import postgres_database, postgres_server

__all__ = ["postgres_database", "postgres_server"]

MERGE = {"primaryKey": ["id"], "writeDisposition": "merge", "mode": "incremental", "cursor": {"field": "rev"}}
ITEMS = "CREATE TABLE items (id bigint PRIMARY KEY, name text, rev bigint NOT NULL, gone boolean)"
SEEN = "SELECT id, name FROM raw.items ORDER BY 1"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([True, False, None]), [True, False, False]),
        (pa.array([1, 0, None]), [True, False, False]),
        (pa.array([0.0, 0.5, None]), [False, True, False]),
        (pa.array(["yes", "No ", "", "0", "F", "deleted", None]), [True, False, False, False, False, True, False]),
        (pa.array([date(2024, 1, 1), None]), [True, False]),
        (pa.array([], pa.string()), []),
    ],
)
def test_marks(values: pa.Array, expected: list[bool]) -> None:
    assert marked(values).to_pylist() == expected


@pytest.mark.parametrize(
    ("fields", "asked", "origin"),
    [
        ({}, (), ("output", "gone")),
        ({"select": ["id"]}, ("id", "gone"), ("source", "gone")),
        ({"select": ["id", "gone"]}, ("id", "gone"), ("output", "gone")),
        ({"columns": [{"name": "gone", "drop": True}]}, (), ("source", "gone")),
        ({"columns": [{"name": "left", "source": "gone"}]}, (), ("source", "gone")),
        ({"select": ["id"], "columns": [{"name": "gone", "expression": "id < 0"}]}, ("id",), ("output", "gone")),
    ],
)
def test_where_the_mark_comes_from(fields: dict[str, Any], asked: tuple[str, ...], origin: tuple[str, str]) -> None:
    source = Schema((Column("id", "bigint"), Column("gone", "boolean")))
    stream = StreamSpec.model_validate({"name": "s", "target": "s", **MERGE, "deletes": {"column": "gone"}, **fields})
    assert read_columns(stream) == asked
    outputs = plan_columns(stream, source, "s").outputs
    assert origin_of_mark("gone", outputs, source, "s") == origin
    with pytest.raises(ConfigurationError, match=r"deletes\.column: unknown column 'went'"):
        origin_of_mark("went", outputs, source, "s")


class TestMarks(Runs):
    """deletes.column"""

    @pytest.mark.parametrize("loaded", [True, False])
    def test_a_soft_delete_leaves_the_target(self, loaded: bool) -> None:
        self.source.execute(ITEMS)
        self.source.execute("INSERT INTO items VALUES (1, 'a', 1, false), (2, 'b', 1, NULL), (3, 'c', 1, true)")
        stream = MERGE | {"deletes": {"column": "gone"}} | ({} if loaded else {"select": ["id", "name", "rev"]})
        totals = self.run_stream("items", **stream).totals
        assert (totals.read, totals.loaded, totals.deleted) == (3, 3, 0)
        assert self.ask(SEEN) == [(1, "a"), (2, "b")]
        self.source.execute("UPDATE items SET gone = true, name = NULL, rev = 2 WHERE id = 1")
        report = self.run_stream("items", checks=[{"type": "not_null", "columns": ["name"]}], **stream)
        assert (report.totals.read, report.totals.loaded, report.totals.deleted) == (1, 1, 1)
        assert "1 deleted" in report.message
        assert self.ask(SEEN) == [(2, "b")]
        columns = {name for (name,) in self.ask("SELECT column_name FROM information_schema.columns "
                                                "WHERE table_schema = 'raw' AND table_name = 'items'")}  # fmt: skip
        assert ("gone" in columns) == loaded

    def test_history_ends_at_the_effective_time(self) -> None:
        self.source.execute("CREATE TABLE items (id bigint PRIMARY KEY, name text, at timestamptz, deleted_at date)")
        self.source.execute("INSERT INTO items VALUES (1, 'a', '2024-01-01', NULL), (2, 'b', '2024-01-01', NULL)")
        stream = {"primaryKey": ["id"], "writeDisposition": "scd2", "mode": "incremental", "cursor": {"field": "at"},
                  "scd2": {"effectiveAt": "at"}, "deletes": {"column": "deleted_at"},
                  "columns": [{"name": "deleted_at", "drop": True}]}  # fmt: skip
        self.run_stream("items", **stream)
        self.source.execute("UPDATE items SET at = '2024-02-01', deleted_at = '2024-02-01' WHERE id = 1")
        assert self.run_stream("items", **stream).totals.deleted == 1
        assert self.ask("SELECT id, valid_to::date::text FROM raw.items ORDER BY 1") == [(1, "2024-02-01"), (2, None)]


class TestReconciliation(Runs):
    """deletes.reconcileEvery"""

    EVERY = MERGE | {"deletes": {"reconcileEvery": "0s"}}

    def seed(self, *ids: int) -> None:
        self.source.execute(ITEMS)
        self.source.execute(
            f"INSERT INTO items SELECT id, 'n' || id, id, false FROM unnest(ARRAY{list(ids)}::bigint[]) id"
        )

    def test_a_hard_delete_leaves_the_target(self) -> None:
        self.seed(1, 2, 3)
        assert self.run_stream("items", **self.EVERY).totals.deleted == 0
        self.source.execute("DELETE FROM items WHERE id = 2")
        self.source.execute("INSERT INTO items VALUES (4, 'n4', 4, false)")
        totals = self.run_stream("items", **self.EVERY).totals
        assert (totals.read, totals.loaded, totals.deleted) == (1, 1, 1)
        assert self.ask("SELECT id FROM raw.items ORDER BY 1") == [(1,), (3,), (4,)]
        ledger = self.ask("SELECT read, loaded, deleted FROM _millstream.ledger ORDER BY seq")
        assert ledger == [(3, 3, 0), (0, 0, 0), (1, 1, 0), (0, 0, 1)]
        assert self.ask("SELECT position->>'cursor' FROM _millstream.state") == [("4",)], "the position stays"

    def test_only_when_it_is_time(self) -> None:
        self.seed(1, 2)
        stream = MERGE | {"deletes": {"reconcileEvery": "24h"}}
        self.run_stream("items", **stream)
        self.source.execute("DELETE FROM items WHERE id = 2")
        assert self.run_stream("items", **stream).totals.deleted == 0
        self.warehouse.execute("UPDATE _millstream.state SET reconciled_at = now() - interval '25 hours'")
        assert self.run_stream("items", **stream).totals.deleted == 1

    def test_keys_are_compared_as_the_target_has_them(self) -> None:
        self.seed(1, 2, 3)
        key = [{"name": "key", "expression": "name || '-' || id"}, {"name": "id", "mask": "hash"}]
        stream = self.EVERY | {"columns": key, "primaryKey": ["id", "key"], "select": ["id", "name", "rev"]}
        self.run_stream("items", **stream)
        self.source.execute("DELETE FROM items WHERE id = 2")
        assert self.run_stream("items", **stream).totals.deleted == 1
        assert self.ask("SELECT key, length(id) FROM raw.items ORDER BY 1") == [("n1-1", 64), ("n3-3", 64)]

    def test_rows_outside_the_filter_are_gone_and_refused_rows_are_not(self) -> None:
        self.seed(1, 2, 3)
        self.source.execute("UPDATE items SET name = NULL WHERE id = 3")
        stream = self.EVERY | {"filter": "gone IS NOT TRUE", "checks": [{"type": "not_null", "columns": ["name"]}]}
        self.run_stream("items", **stream)
        self.warehouse.execute("INSERT INTO raw.items VALUES (3, 'good before', 0, false)")
        self.source.execute("UPDATE items SET gone = true WHERE id = 2")
        assert self.run_stream("items", **stream).totals.deleted == 1
        assert self.ask(SEEN) == [(1, "n1"), (3, "good before")]

    def test_an_empty_source_takes_out_nothing(self) -> None:
        self.seed(1, 2)
        self.run_stream("items", **self.EVERY)
        self.source.execute("DELETE FROM items")
        report = self.run_stream("items", **self.EVERY)
        assert (report.exit_code, report.reason) == (ExitCode.CHECKS_FAILED, "EverythingGone")
        assert "0 keys, and none of them is in raw.items" in report.message
        assert self.ask(SEEN) == [(1, "n1"), (2, "n2")]
        report = self.run_stream("items", options=RunOptions(full_refresh=True), **self.EVERY)
        assert (report.exit_code, report.totals.deleted) == (ExitCode.DONE, 2)
        assert self.ask(SEEN) == []

    def test_history_ends_now(self) -> None:
        self.seed(1, 2)
        stream = self.EVERY | {"writeDisposition": "scd2"}
        self.run_stream("items", **stream)
        self.source.execute("DELETE FROM items WHERE id = 2")
        assert self.run_stream("items", **stream).totals.deleted == 1
        assert self.ask("SELECT id, valid_to IS NULL, valid_to > valid_from FROM raw.items ORDER BY 1") == [
            (1, True, None),
            (2, False, True),
        ]


class TestFullHistory(Runs):
    """Mode full with scd2: each read is a picture of all that is there."""

    def picture(self, *rows: dict[str, Any], **more: Any) -> Any:
        config = {"streams": {"items": {"columns": {"id": "bigint", "name": "text"}, "rows": list(rows)}}}
        stream = {"primaryKey": ["id"], "writeDisposition": "scd2", "mode": "full"} | more
        return self.run_stream("items", source=("memory", config), **stream)

    def current(self) -> Any:
        return self.ask("SELECT id, name FROM raw.items WHERE valid_to IS NULL ORDER BY 1")

    def test_absent_keys_end_and_come_back(self) -> None:
        a, b = {"id": 1, "name": "a"}, {"id": 2, "name": "b"}
        assert self.picture(a, b).totals.loaded == 2
        totals = self.picture(a | {"name": "A"}).totals
        assert (totals.loaded, totals.duplicate, totals.deleted) == (1, 0, 1)
        assert self.current() == [(1, "A")]
        totals = self.picture(a | {"name": "A"}, b).totals
        assert (totals.loaded, totals.duplicate, totals.deleted) == (1, 1, 0)
        assert self.current() == [(1, "A"), (2, "b")]
        assert self.ask("SELECT count(*) FROM raw.items") == [(4,)]

    def test_nothing_read_ends_nothing(self) -> None:
        self.picture({"id": 1, "name": "a"})
        report = self.picture()
        assert report.reason == "EverythingGone"
        assert self.current() == [(1, "a")]

    def test_a_row_that_was_set_aside_is_not_gone(self) -> None:
        checks = {"checks": [{"type": "not_null", "columns": ["name"]}]}
        self.picture({"id": 1, "name": "a"}, {"id": 2, "name": "b"}, {"id": 3, "name": "c"})
        report = self.picture({"id": 1, "name": "a"}, {"id": 2, "name": None}, **checks)
        assert (report.totals.quarantined, report.totals.deleted) == (1, 1)
        assert self.current() == [(1, "a"), (2, "b")]

    def test_after_a_row_without_a_known_key_nothing_is_ended(self) -> None:
        self.picture({"id": 1, "name": "a"}, {"id": 2, "name": "b"})
        report = self.picture({"id": 1, "name": "a"}, {"_raw": "2;b"})
        assert (report.exit_code, report.totals.deleted) == (ExitCode.DONE, 0)
        (said,) = [check for check in report.checks if check.name == "absent_rows"]
        assert (said.outcome, said.severity, said.failed_rows) == ("skipped", "warn", 1)
        assert self.current() == [(1, "a"), (2, "b")]


@pytest.mark.parametrize(
    ("kind", "config", "fields", "match"),
    [
        (
            "files",
            {"url": "/nowhere", "streams": [{"name": "items", "glob": "*.csv"}]},
            MERGE | {"deletes": {"reconcileEvery": "1d"}},
            "a file is a delivery",
        ),
        (
            "rest",
            {"baseUrl": "http://x", "streams": [{"name": "items", "path": "/", "pagination": {"type": "page"}}]},
            {"primaryKey": ["id"], "writeDisposition": "scd2", "mode": "full"},
            "gives no snapshot.*complete: true.*or use mode incremental",
        ),
    ],
)
def test_sources_that_cannot_tell_are_refused(
    kind: str, config: dict[str, Any], fields: dict[str, Any], match: str
) -> None:
    plugin = component("sources", kind, "s")
    source = plugin(configured(plugin.Config, config, {}, "s"), "s")
    stream = StreamSpec.model_validate({"name": "items", "target": "raw.items", **fields})
    request = ReadRequest("items", mode=stream.mode)
    with pytest.raises(ConfigurationError, match=match):
        require_complete(stream, RunOptions(), source, request)
    source.close()


def test_a_source_that_says_nothing_is_refused() -> None:
    stream = StreamSpec.model_validate({"name": "items", "target": "t", **MERGE, "deletes": {"reconcileEvery": "1d"}})
    with pytest.raises(ConfigurationError, match="does not say that a full read is complete"):
        require_complete(stream, RunOptions(), object(), ReadRequest("items"))  # type: ignore[arg-type]
