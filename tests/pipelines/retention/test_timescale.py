"""Which chunks of a hypertable leave, and what a policy may not ask of one. The extension itself is not run here."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from millstream_api.retentionpolicy import PartitionBy, RetentionPolicySpec
from millstream_pipelines.retention.facts import Partition
from millstream_pipelines.retention.timescale import dropping, planned, refused

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def policy(**more: Any) -> RetentionPolicySpec:
    return RetentionPolicySpec.model_validate({"warehouseRef": {"name": "w"}, "tables": [{"name": "s.t"}], **more})


def chunk(month: int) -> Partition:
    return Partition(f"c{month}", datetime(2026, month, 1, tzinfo=UTC), datetime(2026, month + 1, 1, tzinfo=UTC), month)


def test_chunks_that_are_too_old_leave() -> None:
    hold = {"name": "case-1", "table": "s.t", "from": "2026-07-10", "to": "2026-07-11"}
    found = planned("s.t", [chunk(n) for n in (6, 7, 8, 9)], "3 months", policy(holds=[hold]), NOW)
    assert [(step.step, step.partition, step.low, step.blocked_by) for step in found] == [
        ("drop", "c6", "2026-06-01 00:00:00+00", ""),
        ("drop", "c7", "2026-07-01 00:00:00+00", "hold 'case-1'"),
    ]
    assert planned("s.t", [chunk(1)], None, policy(), NOW) == []


def test_one_chunk_is_dropped_by_its_range() -> None:
    query, values = dropping("s.t", datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC))
    assert "drop_chunks(%s::regclass, older_than => %s::timestamptz, newer_than => %s::timestamptz)" in query
    assert values == ('"s"."t"', "2026-07-01 00:00:00+00", "2026-06-01 00:00:00+00")


@pytest.mark.parametrize(("by", "more", "limits", "why"), [
    (None, {}, ["age"], ""),
    (PartitionBy(column="at", interval="1 day"), {}, [], "leave partitionBy out"),
    (None, {"archive": {"url": "s3://a/b"}}, ["age"], "cannot be detached"),
    (None, {}, ["age", "size"], "only keep.age can be kept, not size"),
    (None, {"dependents": [{"name": "m", "table": "s.t", "column": "at"}]}, ["age"], "`dependents`"),
])  # fmt: skip
def test_what_a_hypertable_cannot_do_is_refused(
    by: PartitionBy | None, more: dict[str, Any], limits: list[str], why: str
) -> None:
    found = refused("s.t", by, policy(**more), limits)
    assert why in found
    assert bool(found) == bool(why)
