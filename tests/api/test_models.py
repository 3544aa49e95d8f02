"""What the models refuse, and in which words."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from pydantic import ValidationError

from api.manifests import pipeline_spec, stream
from millstream_api import PlannedStep, RetentionReport, TableReport
from millstream_api.pipeline import PipelineSpec
from millstream_api.retention_options import Restore
from millstream_api.retention_report import most_telling
from millstream_api.retentionpolicy import RetentionPolicySpec
from millstream_api.run_options import Window
from millstream_api.run_report import Drift, RunReport, StreamReport


def schedule(**more: Any) -> dict[str, Any]:
    return pipeline_spec(schedule={"cron": "0 * * * *", **more})


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (schedule(cron="61 * * * *"), "'61 * * * *' is no cron expression"),
        (schedule(cron="* * * * * bad"), "should match pattern"),
        (schedule(timeZone="Mars/Phobos"), "'Mars/Phobos' is no IANA time zone; write one such as 'Europe/Berlin'"),
        (pipeline_spec(streams=[stream(writeDisposition="merge")]), "needs `primaryKey`"),
        (pipeline_spec(streams=[stream(), stream()]), "stream named twice: flights"),
        (pipeline_spec(streams=[stream(columns=[{"name": "a"}, {"name": "a"}])]), "columns named twice: a"),
    ],
)
def test_refused(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        PipelineSpec.model_validate(spec)
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    "stream",
    [
        {"writeDisposition": "scd2"},
        {"writeDisposition": "merge", "mode": "incremental", "deletes": {"reconcileEvery": "1d"}},
    ],
)
def test_a_shard_cannot_tell_what_is_gone(stream: dict[str, Any]) -> None:
    spec = {"sourceRef": {"name": "s"}, "warehouseRef": {"name": "w"}, "extract": {"shards": 2}}
    streams = [{"name": "s", "target": "raw.s", "primaryKey": ["id"]} | stream]
    with pytest.raises(ValidationError, match="a shard sees only its own"):
        PipelineSpec.model_validate(spec | {"streams": streams})
    assert PipelineSpec.model_validate(spec | {"streams": streams, "extract": {}}).extract.shards == 1


@pytest.mark.parametrize("cron", ["*/15 * * * *", "@daily", "0 3 * * 1-5", "30 2 1 * *"])
def test_cron_accepted(cron: str) -> None:
    assert PipelineSpec.model_validate(schedule(cron=cron)).schedule is not None


@pytest.mark.parametrize(
    ("window", "words"),
    [
        ({"from": "2026-02-01", "to": "2026-01-01"}, "`from` must be before `to`, got '2026-02-01' and '2026-01-01'"),
        ({"from": "2026-01-01T02:00:00+02:00", "to": "2026-01-01"}, "`from` must be before `to`"),
        ({"from": "10", "to": "9"}, "`from` must be before `to`"),
        ({"from": "a", "to": "a"}, "`from` must be before `to`"),
        ({"from": "1", "to": "9", "interval": "1d", "step": 5}, "not both"),
        ({"from": "2026-01-01", "to": "2026-02-01", "interval": "0h"}, "'0h' has no length"),
    ],
)
def test_window_refused(window: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        Window.model_validate(window)
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("first", "last"), [("9", "10"), ("2026-01-01", "2026-01-01T00:00:01Z"), ("2026", "2026-06-01"), ("b", "a")]
)
def test_window_accepted(first: str, last: str) -> None:
    assert Window.model_validate({"from": first, "to": last}).to == last


def test_long_drift_fits_a_termination_message_and_is_still_counted() -> None:
    drift = [Drift(stream="flights", column=f"column_{n}", change="added", after="text") for n in range(200)]
    totals = StreamReport(name="total", read=7, loaded=7)
    raw = RunReport(exit_code=0, reason="Succeeded", drift=drift, totals=totals, shards=3, published=True).fitted()
    told = RunReport.model_validate_json(raw)
    assert len(raw) <= 4096
    assert (told.drift[0], told.drift_count, told.totals, told.published) == (drift[0], 200, totals, True)


def test_a_policy_of_many_tables_fits_and_keeps_its_sums_and_its_failures() -> None:
    tables = [
        TableReport(name=f"raw.t{n}", outcome="done", live=10, dropped_bytes=3, message=noise(n)) for n in range(50)
    ]
    tables[49] = TableReport(name="raw.bad", outcome="failed", message="2 rows differ", live=10)
    made = [PlannedStep(table=f"raw.t{n}", step="create") for n in range(50)]
    plan = [*most_telling([*made, PlannedStep(table="raw.t7", step="drop")], 50)]
    raw = RunReport(exit_code=65, reason="X", retention=RetentionReport(digest="d", tables=tables, plan=plan)).fitted()
    told = RunReport.model_validate_json(raw).retention
    assert len(raw) <= 4096
    assert told is not None
    assert (told.digest, told.tables_count, told.plan_count) == ("d", 50, 50)
    assert (plan[-1].step, plan[-2].table) == ("drop", "raw.t48")
    assert told.tables[0].name == "raw.bad"
    assert 10 < len(told.tables) < 50
    assert (told.summed().live, told.summed().dropped_bytes, told.summed().outcome) == (500, 147, "failed")


def test_fifty_tables_and_what_comes_next_are_told() -> None:
    tables = [
        TableReport(name=f"raw.flights_{n}", outcome="done", message="1 made, 1 dropped", live=16, archived=120 + n,
                    dropped=119, horizon="2026-07-01 04:00:00+00", oldest="2025-02-01 05:00:00+00",
                    archived_bytes=123456789012 + n * 7919191, verified_at=f"2026-03-01T02:{n:02}:11Z")
        for n in range(50)
    ]  # fmt: skip
    plan = [PlannedStep(table=table.name, step="drop", partition=f"{table.name}_p20250101") for table in tables]
    raw = RunReport(exit_code=0, reason="X", retention=RetentionReport(tables=tables, plan=plan)).fitted()
    assert len(raw) <= 4096
    assert RunReport.model_validate_json(raw).retention == RetentionReport(tables=tables, plan=plan)


@pytest.mark.parametrize("packed", ["", "x", "AAAA", "eJw=", "eJwrSS0uAQAEXQHB", 7])
def test_a_packed_report_that_is_damaged_is_refused(packed: object) -> None:
    with pytest.raises(ValidationError):
        RunReport.model_validate({"exitCode": 0, "reason": "X", "retentionPacked": packed})


def noise(seed: int) -> str:
    return hashlib.sha512(str(seed).encode()).hexdigest()  # nothing packs it to less than half


OWN = [{"name": "raw.flights"}, {"schema": "logs", "pattern": "events_*"}, {"name": "bare"}]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"holds": [{"name": "a", "table": "raw.flights", "from": "2013-04-01", "to": "2013-03-01"}]}, "before `to`"),
        ({"holds": [{"name": "a", "table": "raw.flights", "from": "10", "to": "9"}]}, "before `to`, got '10' and '9'"),
        (
            {"holds": [{"name": "a", "table": "raw.flihgts"}]},
            "`holds[0].table` 'raw.flihgts' is none of the policy's tables (raw.flights, logs.events_*, bare)",
        ),
        ({"delete": [{"table": "logs.event", "where": "id = 7", "reason": "r"}]}, "`delete[0].table` 'logs.event'"),
        ({"dependents": [{"table": "b", "name": "c", "column": "d"}]}, "`dependents[0].table` 'b' is none"),
    ],
)
def test_a_hold_that_would_hold_nothing_is_refused(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        RetentionPolicySpec.model_validate({"warehouseRef": {"name": "dw"}, "tables": OWN, **more})
    assert words in str(refusal.value)


@pytest.mark.parametrize("table", ["raw.flights", "logs.events_2", "bare", "public.bare"])
def test_a_hold_of_an_own_table_is_accepted(table: str) -> None:
    hold = {"name": "a", "table": table, "from": "2013-03-01", "to": "2013-04-01"}
    spec = RetentionPolicySpec.model_validate({"warehouseRef": {"name": "dw"}, "tables": OWN, "holds": [hold]})
    assert spec.holds[0].table == table


SHORT = [
    ("3 months", {"age": "13 months"}, None, "'3 months' is not longer than `keep.age` '13 months'"),
    ("364 days", {"age": "1 year"}, None, "'364 days' is not longer than `keep.age` '1 year'"),
    ("4 quarters", {"age": "1 year"}, None, "longer than `keep.age` '1 year', so archives would expire as they are"),
    ("1 month", {"rows": 9}, {"age": "5 weeks"}, "'1 month' is not longer than `tables[0].keep.age` '5 weeks'"),
]


@pytest.mark.parametrize(("archived", "keep", "own", "words"), SHORT)
def test_archives_that_would_expire_as_they_are_made_are_refused(
    archived: str, keep: dict[str, Any], own: dict[str, Any] | None, words: str
) -> None:
    archive = {"url": "s3://cold/dw", "keep": {"age": archived}}
    given = {"warehouseRef": {"name": "dw"}, "tables": [{"name": "raw.a", "keep": own}, {"name": "raw.b"}]}
    with pytest.raises(ValidationError) as refusal:
        RetentionPolicySpec.model_validate(given | {"keep": keep, "archive": archive})
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("archived", "keep", "own"),
    [
        ("14 months", {"age": "13 months"}, None),
        ("1 day", {}, {"rows": 9}),
        ("2 days", {"age": "1 year"}, {"age": "47 hours"}),
    ],
)
def test_archives_that_outlive_the_rows_are_accepted(
    archived: str, keep: dict[str, Any], own: dict[str, Any] | None
) -> None:
    """A limit that no table is held to does not count."""
    archive = {"url": "s3://cold/dw", "keep": {"age": archived}}
    given = {"warehouseRef": {"name": "dw"}, "tables": [{"name": "raw.a", "keep": own}]}
    spec = RetentionPolicySpec.model_validate(given | {"keep": keep, "archive": archive})
    assert spec.archive is not None
    assert spec.archive.keep is not None


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3://cold/dw", "'s3://cold/dw' names none for it: give one such as file:///archive"),
        ("./cold", "'./cold' names none for it"),
        ("file:////", "names none for it"),
        ("file:///archive/../etc", "names none for it"),
        ("file:///usr/archive", "mounted at '/usr/archive', and a run's pod needs its own '/usr'"),
        ("file:///tmp/", "mounted at '/tmp', and a run's pod needs its own '/tmp'"),
    ],
)
def test_a_volume_is_mounted_at_a_folder_of_its_own(url: str, words: str) -> None:
    archive = {"url": url, "volumeClaim": "cold"}
    with pytest.raises(ValidationError) as refusal:
        RetentionPolicySpec.model_validate({"warehouseRef": {"name": "dw"}, "tables": OWN, "archive": archive})
    assert words in str(refusal.value)


def test_a_restore_stretches_forward() -> None:
    with pytest.raises(ValidationError, match="`from` must be before `to`"):
        Restore.model_validate({"table": "raw.flights", "from": "2013-04-01", "to": "2013-03-01"})
