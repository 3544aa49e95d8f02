"""What a policy asks for at a moment, told from literals: what leaves, what is made, and what stands in the way."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from millstream_api.retentionpolicy import Costs, Keep, PartitionBy, RetentionPolicySpec
from millstream_pipelines.retention.approval import digest
from millstream_pipelines.retention.facts import Partition, TableFacts
from millstream_pipelines.retention.planning import TableState, plan_table
from millstream_pipelines.retention.records import Retired
from millstream_pipelines.retention.saving import Saving
from millstream_pipelines.retention.spans import Kind, Value, following, parsed

NOW = datetime(2013, 8, 31, 12, tzinfo=UTC)
TABLE = "raw.t"


def policy(**more: Any) -> RetentionPolicySpec:
    given = {"warehouseRef": {"name": "dw"}, "tables": [{"name": TABLE}, {"name": "raw.other"}]}
    return RetentionPolicySpec.model_validate(given | more)


def cut(kind: Kind, *bounds: str, **more: Any) -> TableFacts:
    """Return a table with a partition of 100 bytes and 10 rows between each bound and the next."""
    values: list[Value] = [parsed(text, kind) for text in bounds]
    pairs = itertools.pairwise(values)
    parts = tuple(Partition(f"raw.t_{n}", low, high, 100, 10) for n, (low, high) in enumerate(pairs))
    return TableFacts(TABLE, "ranges", "at", kind, parts, **more)


MONTHS = ("2013-05-01", "2013-06-01", "2013-07-01", "2013-08-01", "2013-09-01", "2013-10-01")

LEAVING: list[tuple[Kind, tuple[str, ...], dict[str, Any], dict[str, Any], list[tuple[str, str]]]] = [
    ("date", MONTHS, {"age": "2 months"}, {}, [("raw.t_0", "older than 2 months")]),
    ("date", MONTHS, {"age": "1 month"}, {}, [("raw.t_0", "older than 1 month"), ("raw.t_1", "older than 1 month")]),
    ("timestamp", MONTHS, {"age": "2 months"}, {}, [("raw.t_0", "older than 2 months")]),
    ("date", MONTHS, {"rows": 35}, {}, [("raw.t_0", "the table has about 50 rows, more than 35"),
                                        ("raw.t_1", "the table has about 40 rows, more than 35")]),
    ("date", MONTHS, {"size": "450"}, {}, [("raw.t_0", "the table takes 500 bytes, more than 450")]),
    ("date", MONTHS, {"rows": 1}, {}, [(f"raw.t_{n}", f"the table has about {50 - 10 * n} rows, more than 1")
                                       for n in range(3)]),
    ("date", MONTHS, {"diskPressure": "80%", "diskSize": "1k"}, {"over_bytes": 150},
     [("raw.t_0", "the database takes more than 80% of 1k"), ("raw.t_1", "the database takes more than 80% of 1k")]),
    ("integer", ("0", "10", "20", "30"), {"rows": 5}, {"newest": 15},
     [("raw.t_0", "the table has about 30 rows, more than 5")]),
    ("integer", ("0", "10", "20"), {"rows": 5}, {"newest": None}, []),
    ("date", MONTHS, {}, {}, []),
    ("date", MONTHS, {"age": "1 day"}, {}, [(f"raw.t_{n}", "older than 1 day") for n in range(3)]),  # < interval
    ("timestamptz", MONTHS, {"age": "1 hour"}, {}, [(f"raw.t_{n}", "older than 1 hour") for n in range(3)]),
    ("seconds", ("1367366400", "1370044800", "1376000000"), {"age": "3 months"}, {}, []),
    ("seconds", ("1367366400", "1370044800", "1376000000"), {"age": "2 months"}, {},
     [("raw.t_0", "older than 2 months")]),
    ("yyyymm", ("201305", "201306", "201308"), {"age": "2 months"}, {}, [("raw.t_0", "older than 2 months")]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "bounds", "keep", "more", "expected"), LEAVING)
def test_what_leaves(
    kind: Kind, bounds: tuple[str, ...], keep: dict[str, Any], more: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    state = TableState(cut(kind, *bounds), keep=Keep.model_validate(keep), **more)
    assert [(step.partition, step.why) for step in plan_table(state, policy(), NOW)] == expected


OPEN = TableFacts(TABLE, "ranges", "at", "date", (
    Partition("raw.first", None, datetime(2013, 6, 1), 100, 10),
    Partition("raw.gap", datetime(2013, 6, 15), datetime(2013, 7, 1), 100, 10),
    Partition("raw.last", datetime(2013, 7, 15), None, 100, 10),
))  # fmt: skip


def test_open_ends_and_gaps() -> None:
    by = PartitionBy.model_validate({"column": "at", "interval": "1 month", "premake": 2})
    steps = plan_table(TableState(OPEN, by=by, keep=Keep(age="2 months")), policy(), NOW)
    assert [(step.step, step.partition, step.low, step.high) for step in steps] == [
        ("detach", "raw.first", None, "2013-06-01"),
        ("detach", "raw.gap", "2013-06-15", "2013-07-01"),
    ][:1], "the last takes all that comes; nothing is made beside it"
    everything = plan_table(TableState(OPEN, keep=Keep(rows=1)), policy(), NOW)
    assert [step.partition for step in everything] == ["raw.first", "raw.gap"], "what takes rows now never leaves"


LISTED: list[tuple[Kind, str, str, str | None, list[str]]] = [
    ("date", "2013-07-01", "1 month", "1 day", ["raw.v"]),  # July ended a month ago
    ("date", "2013-08-01", "1 month", "1 day", []),
    ("date", "2013-07-30", "1 day", "1 month", ["raw.v"]),
    ("date", "2013-07-31", "1 day", "1 month", []),
    ("date", "2013-07-01", "", "1 month", ["raw.v"]),  # without an interval a value stands for itself
    ("yyyy", "2012", "1 year", "8 months", []),
    ("yyyy", "2012", "1 year", "7 months", ["raw.v"]),
]


@pytest.mark.parametrize(("kind", "value", "interval", "age", "expected"), LISTED)
def test_a_value_of_a_list_is_as_old_as_its_interval(
    kind: Kind, value: str, interval: str, age: str, expected: list[str]
) -> None:
    low = parsed(value, kind)
    part = Partition("raw.v", low, following(low, kind), 100, 10)
    facts = TableFacts(TABLE, "ranges", "at", kind, (part,), listed=True)
    by = PartitionBy.model_validate({"column": "at", "interval": interval}) if interval else None
    steps = plan_table(TableState(facts, by=by, keep=Keep(age=age)), policy(), NOW)
    assert [step.partition for step in steps if step.step == "detach"] == expected


def test_a_default_partition_blocks_every_detach() -> None:
    steps = plan_table(TableState(cut("date", *MONTHS, has_default=True), keep=Keep(age="1 month")), policy(), NOW)
    assert all(step.blocked_by.startswith("the DEFAULT partition") for step in steps)
    assert len(steps) == 2


BLOCKED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {}, ""),
    ({"holds": [{"name": "a", "table": TABLE, "from": "2013-05-31", "to": "2013-06-02"}]}, {}, "hold 'a'"),
    ({"holds": [{"name": "a", "table": TABLE, "from": "2013-06-01"}]}, {}, ""),
    ({"holds": [{"name": "a", "table": TABLE, "to": "2013-05-01"}]}, {}, ""),
    ({"holds": [{"name": "a", "table": TABLE}, {"name": "b", "table": TABLE, "to": "2013-05-02"}]}, {},
     "hold 'a'; hold 'b'"),
    ({"holds": [{"name": "a", "table": "raw.other"}]}, {}, ""),
    ({}, {"watermarks": {"raw.daily": datetime(2013, 5, 31)}}, "raw.daily, which has come to 2013-05-31 only"),
    ({}, {"watermarks": {"raw.daily": datetime(2013, 6, 1)}}, ""),
    ({}, {"watermarks": {"raw.daily": None}}, "raw.daily, which has come to nothing only"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "more", "by"), BLOCKED)
def test_what_stands_in_the_way(given: dict[str, Any], more: dict[str, Any], by: str) -> None:
    state = TableState(cut("date", *MONTHS), keep=Keep(age="2 months"), **more)
    (step,) = plan_table(state, policy(**given), NOW)
    assert (step.step, step.blocked_by) == ("detach", by)


@pytest.mark.parametrize(
    ("keep", "more", "instead"),
    [
        ({"rows": 35}, {}, []),  # a hold takes out nothing that would have stayed
        ({"size": "350"}, {}, []),
        ({"diskPressure": "80%", "diskSize": "1k"}, {"over_bytes": 150}, [("raw.t_2", "")]),  # never the current one
    ],
)
def test_what_is_held_frees_no_disk(keep: dict[str, Any], more: dict[str, Any], instead: list[tuple[str, str]]) -> None:
    state = TableState(cut("date", *MONTHS), keep=Keep.model_validate(keep), **more)
    held = policy(holds=[{"name": "a", "table": TABLE, "to": "2013-05-02"}])
    steps = [(step.partition, step.blocked_by) for step in plan_table(state, held, NOW)]
    assert steps == [("raw.t_0", "hold 'a'"), ("raw.t_1", ""), *instead]
    held = policy(holds=[{"name": "a", "table": TABLE}])
    steps = [(step.partition, step.blocked_by) for step in plan_table(state, held, NOW)]
    assert steps == [("raw.t_0", "hold 'a'"), ("raw.t_1", "hold 'a'")], "as many as were asked for"


MADE: list[tuple[Kind, tuple[str, ...], dict[str, Any], dict[str, Any], list[tuple[str | None, str | None]]]] = [
    ("date", MONTHS, {"interval": "1 month", "premake": 2}, {}, [("2013-10-01", "2013-11-01")]),
    ("date", (), {"interval": "1 month", "premake": 1}, {},
     [("2013-08-01", "2013-09-01"), ("2013-09-01", "2013-10-01")]),
    ("date", ("2013-06-01", "2013-07-01"), {"interval": "1 month", "premake": 1}, {},
     [("2013-07-01", "2013-08-01"), ("2013-08-01", "2013-09-01"), ("2013-09-01", "2013-10-01")]),
    ("date", ("2013-07-15", "2013-08-15"), {"interval": "1 month", "premake": 1}, {},
     [("2013-08-15", "2013-09-01"), ("2013-09-01", "2013-10-01")]),
    ("integer", ("0", "10"), {"interval": "10", "premake": 1}, {"newest": 9}, [("10", "20")]),
    ("integer", (), {"interval": "10", "premake": 1}, {"newest": None}, [("0", "10"), ("10", "20")]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "bounds", "by", "more", "expected"), MADE)
def test_what_is_made_ahead(
    kind: Kind,
    bounds: tuple[str, ...],
    by: dict[str, Any],
    more: dict[str, Any],
    expected: list[tuple[str | None, str | None]],
) -> None:
    cut_by = PartitionBy.model_validate({"column": "at"} | by)
    state = TableState(cut(kind, *bounds), by=cut_by, **more)
    assert [(step.low, step.high) for step in plan_table(state, policy(), NOW)] == expected


def test_nothing_is_made_where_a_range_has_left() -> None:
    """Days were retired, and the policy cuts by months now; each gap around what is there is filled, none twice."""
    by = PartitionBy.model_validate({"column": "at", "interval": "1 month", "premake": 1})
    parts = tuple(Partition(f"raw.t_{day}", datetime(2013, 8, day), datetime(2013, 8, day + 1)) for day in (10, 15))
    facts = TableFacts(TABLE, "ranges", "at", "date", parts)
    away = Retired(TABLE, "raw.t_9", 1, "at", "date", "2013-08-09", "2013-08-10", "Etc/UTC", 1, "dropped")
    steps = plan_table(TableState(facts, [away], by=by), policy(), NOW)
    assert [(step.partition, step.low, step.high) for step in steps] == [
        ("raw.t_p20130801", "2013-08-01", "2013-08-09"),
        ("raw.t_p20130811", "2013-08-11", "2013-08-15"),
        ("raw.t_p20130816", "2013-08-16", "2013-09-01"),
        ("raw.t_p20130901", "2013-09-01", "2013-10-01"),
    ]


@pytest.mark.parametrize("state", ["retiring", "detached", "archived", "dropped", "expired"])
def test_what_has_left_is_not_made_anew(state: Any) -> None:
    """The first days of August were a partition of their own, after bounds that had moved, and have left."""
    facts = cut("date", "2013-08-05", "2013-09-01", "2013-10-01")
    record = Retired(TABLE, "raw.t_9", 1, "at", "date", "2013-08-01", "2013-08-05", "Etc/UTC", 1, state)
    by = PartitionBy.model_validate({"column": "at", "interval": "1 month", "premake": 1})
    for records, made in (((), ["2013-08-01"]), ((record,), [])):
        steps = plan_table(TableState(facts, records, by), policy(), NOW)
        assert [step.low for step in steps if step.step == "create"] == made


def test_a_digest_names_what_cannot_be_undone() -> None:
    facts = cut("date", *MONTHS)
    away = Retired(TABLE, "raw.t_a", 1, "at", "date", "2013-01-01", "2013-02-01", "Etc/UTC", 1, "detached",
                   detached_at=datetime(2013, 8, 1, tzinfo=UTC))  # fmt: skip
    plan = plan_table(TableState(facts, [away]), policy(), NOW)
    assert [(step.step, step.told().irreversible) for step in plan] == [("drop", True)]
    assert len(digest(plan)) == 12
    assert digest(plan) == digest([*plan, *plan_table(TableState(facts), policy(), NOW)])
    again = plan_table(TableState(facts, [replace(away, id=2)]), policy(), NOW)
    assert digest(again) != digest(plan), "it came back, and leaves once more"
    by_hand = replace(away, detached_at=datetime(2013, 8, 2, tzinfo=UTC))
    assert digest(plan_table(TableState(facts, [by_hand]), policy(), NOW)) != digest(plan)
    assert digest([replace(plan[0], subject=None)]) != digest([replace(plan[0], subject=None, occurrence="2")])
    held = policy(holds=[{"name": "a", "table": TABLE}])
    assert digest(plan_table(TableState(facts, [away]), held, NOW)) == ""


@pytest.mark.parametrize(
    ("size_bytes", "prices", "told"),
    [
        (10**9, {"warehouse": 0.115, "archive": 0.023, "currency": "EUR"}, "0.09 EUR"),
        (12 * 10**12, {"warehouse": 0.115}, "1380.00 USD"),
        (4096, {"warehouse": 0.115}, "less than 0.01 USD"),
        (0, {"warehouse": 0.115}, "0.00 USD"),
        (10**9, None, ""),
    ],
)
def test_what_a_plan_saves(size_bytes: int, prices: dict[str, Any] | None, told: str) -> None:
    costs = None if prices is None else Costs.model_validate(prices)
    assert Saving(costs).spoken(size_bytes) == told
