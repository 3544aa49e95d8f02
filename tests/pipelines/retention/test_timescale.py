"""Which chunks of a hypertable leave, and what forbids it. With the extension: tests/timescaledb."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from millstream_api.retentionpolicy import PartitionBy, RetentionPolicySpec
from millstream_pipelines.retention.approval import facts as facts_of
from millstream_pipelines.retention.facts import Partition, TableFacts
from millstream_pipelines.retention.hypertables import BEGINNING, Rollup
from millstream_pipelines.retention.records import Retired
from millstream_pipelines.retention.timescale import dropping, planned, refused

NOW = datetime(2026, 11, 23, tzinfo=UTC)
ARCHIVE = {"archive": {"url": "s3://a/b"}}


def policy(**more: Any) -> RetentionPolicySpec:
    return RetentionPolicySpec.model_validate({"warehouseRef": {"name": "w"}, "tables": [{"name": "s.t"}], **more})


def chunk(month: int) -> Partition:
    return Partition(f"c{month}", datetime(2026, month, 1, tzinfo=UTC), datetime(2026, month + 1, 1, tzinfo=UTC), month)


def facts(*months: int) -> TableFacts:
    return TableFacts("s.t", "hypertable", "at", "timestamptz", tuple(chunk(month) for month in months))


def record(month: int, state: Any, at: datetime = NOW) -> Retired:
    low, high = (f"2026-{number:02}-01 00:00:00+00" for number in (month, month + 1))
    return Retired(
        "s.t", f"c{month}", 1, "at", "timestamptz", low, high, "Etc/UTC", month, state, manifest="m", archived_at=at
    )


def test_chunks_that_are_too_old_leave() -> None:
    hold = {"name": "case-1", "table": "s.t", "from": "2026-07-10", "to": "2026-07-11"}
    found = planned(facts(6, 7, 8, 9), "3 months", policy(holds=[hold]), NOW)
    assert [(step.step, step.partition, step.low, step.blocked_by) for step in found] == [
        ("drop", "c6", "2026-06-01 00:00:00+00", ""),
        ("drop", "c7", "2026-07-01 00:00:00+00", "hold 'case-1'"),
    ]
    assert planned(facts(1), None, policy(), NOW) == []


def test_who_approves_a_chunk_sees_what_goes_with_it() -> None:
    """drop_chunks takes a range: where a table is cut in space, a chunk made since would go unapproved."""
    two = (chunk(6), replace(chunk(6), name="c6b"))
    of_two, of_three = (
        planned(replace(facts(), partitions=parts), "3 months", policy(), NOW)
        for parts in (two, (*two, replace(chunk(6), name="c6c")))
    )
    assert [step.why for step in of_two] == ["older than 3 months; with it c6b", "older than 3 months; with it c6"]
    assert not facts_of(of_two) & facts_of(of_three)


@pytest.mark.parametrize(("known", "steps"), [
    ([], [("archive", "c6")]),
    ([record(6, "retiring")], [("archive", "c6")]),
    ([record(6, "detached")], [("archive", "c6")]),
    ([record(6, "archived", NOW - timedelta(days=6))], []),
    ([record(6, "archived", NOW - timedelta(days=7))], [("drop", "c6")]),
    ([record(6, "dropped")], [("archive", "c6")]),  # late rows made it anew
    ([record(5, "archived"), record(6, "archived")], [("drop", "c5")]),  # somebody dropped it by hand
    ([record(6, "restored")], [("archive", "c6")]),
])  # fmt: skip
def test_nothing_is_dropped_before_it_is_archived_and_its_grace_has_ended(
    known: list[Retired], steps: list[tuple[str, str]]
) -> None:
    found = planned(facts(6, 9), "3 months", policy(**ARCHIVE), NOW, known)
    assert [(step.step, step.partition) for step in found] == steps


def test_an_archive_expires() -> None:
    keep = {"archive": {"url": "s3://a/b", "keep": {"age": "4 months"}}}
    found = planned(facts(9), "3 months", policy(**keep), NOW, [record(5, "dropped"), record(8, "dropped")])
    assert [(step.step, step.partition) for step in found] == [("expire", "c5")]


def micros(day: int) -> int:
    return int(datetime(2026, 6, day, tzinfo=UTC).timestamp()) * 1_000_000


@pytest.mark.parametrize(("rollup", "why"), [
    (Rollup("s.r"), ""),
    (Rollup("s.r", ((BEGINNING, micros(1) - 1),)), ""),
    (Rollup("s.r", ((BEGINNING, micros(1)),)), "has not taken in all"),
    (Rollup("s.r", ((micros(30) + 86_400_000_000, 2**63 - 1),)), ""),
    (Rollup("s.r", ((micros(30), 2**63 - 1),)), "has not taken in all"),
    (Rollup("s.r", (), BEGINNING), "start_offset shorter than keep.age"),
    (Rollup("s.r", (), micros(30)), "start_offset shorter than keep.age"),
    (Rollup("s.r", (), micros(30) + 86_400_000_000), ""),
])  # fmt: skip
def test_a_rollup_that_needs_the_rows_or_would_be_emptied_blocks_the_drop(rollup: Rollup, why: str) -> None:
    (step,) = planned(facts(6), "3 months", policy(), NOW, (), [rollup])
    assert why in step.blocked_by
    assert bool(step.blocked_by) == bool(why)


def test_one_chunk_is_dropped_by_its_range() -> None:
    query, values = dropping("s.t", "timestamp", "2026-06-01 00:00:00", "2026-07-01 00:00:00")
    assert "drop_chunks(%s::regclass, older_than => %s::timestamp, newer_than => %s::timestamp)" in query
    assert values == ('"s"."t"', "2026-07-01 00:00:00", "2026-06-01 00:00:00")


@pytest.mark.parametrize(("by", "more", "limits", "why"), [
    (None, {}, ["age"], ""),
    (None, ARCHIVE, ["age"], ""),
    (PartitionBy(column="at", interval="1 day"), {}, [], "leave partitionBy out"),
    (None, {}, ["age", "size"], "only keep.age can be kept, not size"),
    (None, {"dependents": [{"name": "m", "table": "s.t", "column": "at"}]}, ["age"], "`dependents`"),
])  # fmt: skip
def test_what_a_hypertable_cannot_do_is_refused(
    by: PartitionBy | None, more: dict[str, Any], limits: list[str], why: str
) -> None:
    found = refused(facts(6, 7), by, policy(**more), limits)
    assert why in found
    assert bool(found) == bool(why)


def test_chunks_of_the_same_time_are_not_archived() -> None:
    both = facts(6, 6)
    assert "as it is cut in space, too" in refused(both, None, policy(**ARCHIVE), ["age"])
    assert refused(both, None, policy(), ["age"]) == ""
