"""Bad input through a whole run into a real PostgreSQL: set aside and counted, and a later run repairs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from millstream_api import Endpoint, RunPlan, RunReport
from millstream_api.pipeline import PipelineSpec
from millstream_pipelines.runner import RunRequest, execute
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

KEYED = {"primaryKey": ["id"], "writeDisposition": "merge"}
DEEP = "[" * 50 + "1" + "]" * 50


class Lake:
    """A folder of files, and a pipeline from it."""

    def __init__(self, folder: Path, database: Postgres) -> None:
        self.folder, self.database, self.runs = folder, database, 0

    def put(self, name: str, content: bytes) -> None:
        (self.folder / name).write_bytes(content)

    def run(self, stream: dict[str, Any], **spec: Any) -> RunReport:
        """Run once; whatever comes of it, every row is accounted for."""
        self.runs += 1
        base = {"name": "s", "target": "raw.s", "mode": "incremental", "columns": [{"name": "id", "type": "bigint"}]}
        pipeline = {"sourceRef": {"name": "f"}, "warehouseRef": {"name": "w"}, "streams": [base | stream], **spec}
        files = {"url": str(self.folder), "streams": [{"name": "s", "glob": "*"}]}
        plan = RunPlan(
            action="run",
            namespace="test",
            name="bad",
            source=Endpoint(name="f", type="files", config=files),
            warehouse=Endpoint(name="w", type="postgres", config=dict(self.database.config)),
            pipeline=PipelineSpec.model_validate(pipeline),
        )
        report = execute(RunRequest(plan, {}, f"run-{self.runs}", "test"))
        assert [item.balance() for item in report.streams] == [0] * len(report.streams)
        assert len(report.fitted()) <= 4096
        return report

    def ids(self) -> list[Any]:
        return [row[0] for row in self.database.execute("SELECT id FROM raw.s ORDER BY id")]

    def rules(self) -> list[Any]:
        return [row[0] for row in self.database.execute("SELECT rule FROM _millstream.quarantine ORDER BY id")]


@pytest.fixture
def lake(tmp_path: Path, postgres_database: Postgres) -> Lake:
    folder = tmp_path / "lake"
    folder.mkdir()
    return Lake(folder, postgres_database)


def totals(report: RunReport) -> tuple[int, int, int, int]:
    assert report.totals is not None
    return report.totals.read, report.totals.loaded, report.totals.quarantined, report.totals.duplicate


SET_ASIDE = {
    "too few and too many fields": ("a.csv", b"id,v\n1,a\n2\n3,c,d\n4,e\n", [1, 4], ["malformed_row"] * 2),
    "bytes that are no text": ("a.csv", b"id,v\n1,a\n2,\xff\xfe\n3,c\n", [1, 3], ["encoding"]),
    "a NUL byte": ("a.csv", b"id,v\n1,a\n2,b\x00b\n3,c\n", [1, 3], ["nul_byte"]),
    "no number where one is declared": ("a.csv", b"id,v\n1,a\nx,b\n3,c\n", [1, 3], ["cast(id)"]),
    "a number beyond its type": ("a.csv", b"id,v\n1,a\n99999999999999999999,b\n", [1], ["cast(id)"]),
    "a line that is no JSON": ("a.ndjson", b'{"id": 1}\n{"id": 2\n{"id": 3}\n', [1, 3], ["malformed_row"]),
    "no key": ("a.csv", b"id,v\n1,a\n,b\n", [1], ["primary_key"]),
}


@pytest.mark.parametrize(("name", "content", "loaded", "rules"), SET_ASIDE.values(), ids=SET_ASIDE.keys())
def test_set_aside_and_the_good_rows_go_on(
    lake: Lake, name: str, content: bytes, loaded: list[int], rules: list[str]
) -> None:
    lake.put(name, content)
    report = lake.run(KEYED)
    assert (report.exit_code, report.message) == (0, report.message)
    assert lake.ids() == loaded
    assert lake.rules() == rules
    lake.put("b" + Path(name).suffix, b"id,v\n7,g\n" if name.endswith("csv") else b'{"id": 7}\n')
    assert totals(lake.run(KEYED)) == (1, 1, 0, 0)


def test_empty_files_are_nothing(lake: Lake) -> None:
    lake.put("a.csv", b"id,v\n1,a\n")
    lake.put("b.csv", b"")
    lake.put("c.csv", b"id,v\n")
    assert totals(lake.run(KEYED)) == (1, 1, 0, 0)


def test_one_key_several_times_in_one_batch(lake: Lake) -> None:
    lake.put("a.csv", b"id,v\n1,a\n1,b\n2,c\n1,d\n")
    assert totals(lake.run(KEYED)) == (4, 2, 0, 2)
    assert lake.database.execute("SELECT v FROM raw.s WHERE id = 1") == [("d",)]


def test_very_long_values_and_deep_nesting_arrive(lake: Lake) -> None:
    long = "ä" * 100_000
    lake.put("a.ndjson", json.dumps({"id": 1, "v": long, "deep": json.loads(DEEP)}, ensure_ascii=False).encode())
    assert totals(lake.run(KEYED)) == (1, 1, 0, 0)
    assert lake.database.execute("SELECT v = repeat('ä', 100000), deep::text FROM raw.s") == [(True, DEEP)]


def test_a_column_that_vanishes_is_null_and_a_new_one_is_added(lake: Lake) -> None:
    lake.put("a.csv", b"id,v\n1,a\n")
    lake.run(KEYED)
    lake.put("b.csv", b"id,w\n2,b\n")
    assert totals(lake.run(KEYED)) == (1, 1, 0, 0)
    assert lake.database.execute("SELECT id, v, w FROM raw.s ORDER BY id") == [(1, "a", None), (2, None, "b")]


def test_a_type_that_changes_is_set_aside_where_the_target_cannot_hold_it(lake: Lake) -> None:
    lake.put("a.csv", b"id,n\n1,10\n2,20\n")
    lake.run(KEYED)
    lake.put("b.csv", b"id,n\n3,thirty\n4,40\n")
    assert totals(lake.run(KEYED)) == (2, 1, 1, 0)
    assert lake.rules() == ["cast(n)"]
    lake.put("b.csv", b"id,n\n3,30\n4,40\n")
    lake.run(KEYED)
    assert lake.ids() == [1, 2, 3, 4]


def test_a_new_column_under_freeze_stops_the_run_and_a_later_one_repairs_it(lake: Lake) -> None:
    lake.put("a.csv", b"id,v\n1,a\n")
    lake.run(KEYED)
    lake.put("b.csv", b"id,v,w\n2,b,c\n")
    report = lake.run(KEYED | {"contract": {"columns": "freeze"}})
    assert (report.exit_code, report.reason) == (65, "SchemaDrift")
    assert "'w'" in report.message
    assert lake.ids() == [1]
    assert totals(lake.run(KEYED)) == (1, 1, 0, 0)


def test_a_spent_error_budget_stops_the_run_keeps_the_rows_for_triage_and_is_repairable(lake: Lake) -> None:
    lake.put("a.csv", b"id,v\n1,a\nx,b\ny,c\n")
    report = lake.run(KEYED, errorBudget={"maxQuarantinedRatio": 0.5})
    assert (report.exit_code, report.reason) == (65, "ErrorBudgetSpent")
    assert lake.ids() == []
    assert lake.database.execute("SELECT DISTINCT status FROM _millstream.quarantine") == [("refused",)]
    lake.put("a.csv", b"id,v\n1,a\n2,b\n3,c\n")
    assert totals(lake.run(KEYED, errorBudget={"maxQuarantinedRatio": 0.5})) == (3, 3, 0, 0)


def test_a_failing_set_check_publishes_nothing_and_is_repairable(lake: Lake) -> None:
    lake.put("a.csv", b"id,v\n1,a\n2,a\n")
    checked = {"checks": [{"type": "unique", "columns": ["v"]}]}
    report = lake.run(KEYED | checked)
    assert report.exit_code == 65
    assert lake.ids() == []
    lake.put("a.csv", b"id,v\n1,a\n2,b\n")
    assert totals(lake.run(KEYED | checked)) == (2, 2, 0, 0)
