"""A load makes the partitions that its rows need; rows of retired ranges are set aside, and the others go on."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest

from millstream_api import RunReport
from millstream_api.retentionpolicy import PartitionBy
from millstream_pipelines.retention.ondemand import remember
from millstream_pipelines.runner import execute
from millstream_pipelines.sources.base import Slice
from millstream_pipelines.warehouses._postgres.cells import Away, merged, sorted_out
from postgres_pair import Pair, done, pair
from retained import patient
from servers.plugin import postgres_database, postgres_server

__all__ = ["pair", "postgres_database", "postgres_server"]

ROWS = 3000  # of 26 months
BY = PartitionBy(column="at", interval="1 month")
PATHS: dict[str, dict[str, Any]] = {
    "raw": {},
    "arrow": {"filter": "true"},
    "merge": {"writeDisposition": "merge", "primaryKey": ["id", "at"]},
    "merge, decoded": {"writeDisposition": "merge", "primaryKey": ["id", "at"], "filter": "true"},
    "replace": {"writeDisposition": "replace", "filter": "true"},
}


def partitioned(pair: Pair, kind: str = "timestamptz", made: str = "FROM ('2026-01-01') TO ('2026-02-01')") -> None:
    pair.warehouse.execute("CREATE SCHEMA raw")
    pair.warehouse.execute(
        f"CREATE TABLE raw.t (id int, at {kind} NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)"
    )
    pair.warehouse.execute(f"CREATE TABLE raw.t_first PARTITION OF raw.t FOR VALUES {made}")
    with patient(pair.warehouse) as ddl:
        interval = "1000" if kind == "bigint" else "1 month"
        kinds = {"bigint": "integer"}
        remember(ddl, "raw.t", BY.model_copy(update={"interval": interval}), kinds.get(kind, kind))  # type: ignore[arg-type]


def retired(pair: Pair, bounds: str = "NULL, '2026-01-01 00:00:00+00'") -> None:
    """Note that everything before 2026, or another range, has been retired."""
    pair.warehouse.execute(
        "INSERT INTO _millstream.retired (policy, table_name, partition, oid, column_name, kind, low, high, time_zone, "
        f"state) VALUES ('p', 'raw.t', 'raw.t_p20251201', 0, 'at', 'timestamptz', {bounds}, 'Etc/UTC', 'archived')"
    )


def rows(pair: Pair, at: str = "timestamptz '2025-01-15' + n * interval '6 hours'", count: int = ROWS) -> None:
    pair.source.execute(f"CREATE TABLE t AS SELECT n AS id, {at} AS at FROM generate_series(1, {count}) n")
    pair.source.execute("ALTER TABLE t ADD PRIMARY KEY (id)")


def parts(pair: Pair) -> list[str]:
    return [
        row[0].removeprefix("raw.")
        for row in pair.warehouse.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'raw.t'::regclass ORDER BY 1"
        )
    ]


@pytest.mark.parametrize("path", PATHS)
def test_partitions_are_made_for_whatever_comes(path: str, pair: Pair) -> None:
    partitioned(pair)
    rows(pair)
    pair.stream |= PATHS[path]
    assert done(pair.run()) == (ROWS, ROWS, 0)
    assert pair.seen("count(*), count(DISTINCT id)") == [(ROWS, ROWS)]
    found = parts(pair)
    assert found[:2] == ["t_first", "t_p20250101"]
    assert len(found) == 26
    assert "t_p20260101" not in found  # that one was there
    assert pair.warehouse.execute("SELECT count(*) FROM pg_constraint WHERE conname = 'millstream_range'") == [(0,)]


JANUARY = "FROM ('2026-01-01') TO ('2026-02-01')"


@pytest.mark.parametrize(("path", "kind", "at", "made"), [
    ("arrow", "date", "date '2026-01-05' + n % 700", JANUARY),
    ("merge", "date", "date '2026-01-05' + n % 700", JANUARY),
    ("arrow", "timestamp", "timestamp '2026-01-05' + n * interval '6 hours'", JANUARY),
    ("arrow", "bigint", "n::bigint * 7 - 3000", "FROM (0) TO (1000)"),
    ("merge", "bigint", "n::bigint * 7 - 3000", "FROM (0) TO (1000)"),
])  # fmt: skip
def test_columns_of_every_kind(path: str, kind: str, at: str, made: str, pair: Pair) -> None:
    partitioned(pair, kind, made)
    rows(pair, at, 2000)
    pair.stream |= PATHS[path]
    assert done(pair.run()) == (2000, 2000, 0)
    assert pair.seen("count(*)") == [(2000,)]


TOLD = [
    ("RANGE", "bigint", "seconds", "1 day", "n::bigint * 3600 + 1767225600", 2),
    ("RANGE", "bigint", "milliseconds", "1 day", "n::bigint * 3600000 + 1767225600000", 2),
    ("RANGE", "int", "yyyymmdd", "1 month", "to_char(date '2026-01-01' + n, 'YYYYMMDD')::int", 2),
    ("LIST", "int", "yyyymmdd", "1 day", "to_char(date '2026-01-01' + n, 'YYYYMMDD')::int", 48),
    ("LIST", "int", "yyyy", "1 year", "2026 + n", 48),
    ("LIST", "date", "date", "1 day", "date '2026-01-01' + n", 48),
    ("LIST", "bigint", "integer", "1", "n::bigint", 48),
]  # fmt: skip


@pytest.mark.parametrize(("path", "cut", "column", "kind", "interval", "at", "made"), [
    *(("arrow", *told) for told in TOLD[1:4]), *(("merge", *told) for told in (TOLD[0], *TOLD[2:])),
])  # fmt: skip
def test_lists_and_numbers_that_tell_time(
    path: str, cut: str, column: str, kind: Any, interval: str, at: str, made: int, pair: Pair
) -> None:
    pair.warehouse.execute("CREATE SCHEMA raw")
    pair.warehouse.execute(
        f"CREATE TABLE raw.t (id int, at {column} NOT NULL, PRIMARY KEY (id, at)) PARTITION BY {cut} (at)"
    )
    with patient(pair.warehouse) as ddl:
        remember(ddl, "raw.t", BY.model_copy(update={"interval": interval}), kind)
    rows(pair, at, 48)
    pair.stream |= PATHS[path]
    assert done(pair.run()) == (48, 48, 0)
    assert pair.seen("count(*)") == [(48,)]
    assert len(parts(pair)) in (made, made + 1)


def test_a_value_that_no_list_of_the_policy_has_is_set_aside(pair: Pair) -> None:
    pair.warehouse.execute("CREATE SCHEMA raw")
    pair.warehouse.execute("CREATE TABLE raw.t (id int, at date NOT NULL) PARTITION BY LIST (at)")
    with patient(pair.warehouse) as ddl:
        remember(ddl, "raw.t", BY, "date")
    rows(pair, "date '2026-01-01' + n - 1", 40)
    pair.stream |= PATHS["arrow"]
    assert done(pair.run()) == (40, 2, 38)
    assert parts(pair) == ["t_p20260101", "t_p20260201"]


RETIRED = [
    *((path, "quarantine", (1000, 900, 100)) for path in PATHS),
    ("raw", "discard", (1000, 900, 0)), ("merge", "discard", (1000, 900, 0)), ("arrow", "freeze", None),
    ("merge", "freeze", None),
]  # fmt: skip


@pytest.mark.parametrize(("path", "rule", "counts"), RETIRED)
def test_rows_of_a_retired_range(path: str, rule: str, counts: tuple[int, int, int] | None, pair: Pair) -> None:
    partitioned(pair)
    retired(pair)
    rows(pair, "timestamptz '2026-01-01' + (n - 101) * interval '1 hour'", 1000)
    report = pair.run(contract={"rows": rule}, **PATHS[path])
    if counts is None:
        assert (report.exit_code, report.reason) == (65, "ContractBroken")
        assert "retired" in report.message
        assert pair.seen() == []
        return
    assert done(report) == counts
    assert parts(pair) == ["t_first", "t_p20260201"]
    found = pair.warehouse.execute("SELECT DISTINCT rule, message, status FROM _millstream.quarantine")
    assert len(found) == (rule == "quarantine")
    for name, message, status in found:
        assert (name, status) == ("retired", "open")
        assert "from the beginning to 2026-01-01 00:00:00+00" in message
        assert "restore it" in message


def test_slices_are_published_into_partitions_made_for_them(pair: Pair) -> None:
    partitioned(pair)
    retired(pair)
    rows(pair, "timestamptz '2026-01-01' + (n - 101) * interval '1 hour'", 1000)
    pair.stream |= {"writeDisposition": "replace"}
    request = pair.request()
    reports = [execute(replace(request, shard=Slice(index, 2))) for index in range(2)]
    assert [report.published for report in reports] == [False, True], reports[-1].message
    assert done(reports[1]) == (1000, 900, 100)
    assert parts(pair) == ["t_first", "t_p20260201"]
    assert pair.warehouse.execute("SELECT DISTINCT rule FROM _millstream.quarantine") == [("retired",)]


def test_gaps_around_what_is_there(pair: Pair) -> None:
    """Days in the middle of a month: a partition, and a range that has been retired, which is not made anew."""
    partitioned(pair, made="FROM ('2026-01-10') TO ('2026-01-20')")
    retired(pair, "'2026-01-22 00:00:00+00', '2026-01-23 00:00:00+00'")
    rows(pair, "timestamptz '2026-01-01' + (n - 1) * interval '1 day'", 31)
    assert done(pair.run()) == (31, 30, 1)
    assert parts(pair) == ["t_first", "t_p20260101", "t_p20260120", "t_p20260123"]
    assert pair.warehouse.execute("SELECT rule FROM _millstream.quarantine") == [("retired",)]


def test_days_of_another_zone(pair: Pair) -> None:
    """The policy's timeZone was changed: the rest of the last day is made, under a name that is free."""
    partitioned(pair, made="FROM ('2026-01-01') TO ('2026-01-02')")
    pair.warehouse.execute("ALTER TABLE raw.t_first RENAME TO t_p20260101")
    with patient(pair.warehouse) as ddl:
        by = BY.model_copy(update={"interval": "1 day", "time_zone": "America/New_York"})
        remember(ddl, "raw.t", by, "timestamptz")
    rows(pair, "timestamptz '2026-01-01 00:00+00' + n * interval '1 hour'", 48)
    assert done(pair.run()) == (48, 48, 0)
    assert parts(pair) == ["t_p20260101", "t_p20260101_1900", "t_p20260102"]


def test_two_loads_that_need_the_same_partitions(pair: Pair) -> None:
    partitioned(pair)
    rows(pair)
    reports: list[RunReport] = []

    def load(number: int) -> None:
        other = Pair(pair.source, pair.warehouse)
        other.stream |= {"filter": f"id % 4 = {number}"}
        request = other.request()
        plan = request.plan.model_copy(update={"name": f"paths-{number}"})
        reports.append(execute(replace(request, plan=plan)))

    threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [report.message for report in reports if report.exit_code] == []
    assert pair.seen("count(*), count(DISTINCT id)") == [(ROWS, ROWS)]
    assert len(parts(pair)) == 26


def test_a_table_that_the_load_alters_itself(pair: Pair) -> None:
    """Its lock keeps other sessions out, so the load makes partitions in its own transaction."""
    partitioned(pair)
    rows(pair)
    pair.source.execute("ALTER TABLE t ADD COLUMN name text DEFAULT 'x'")
    pair.stream |= PATHS["merge, decoded"]
    assert done(pair.run()) == (ROWS, ROWS, 0)
    assert pair.seen("count(*), max(name)") == [(ROWS, "x")]


def test_a_table_that_no_policy_owns_is_left_alone(pair: Pair) -> None:
    partitioned(pair)
    pair.warehouse.execute("DELETE FROM _millstream.partitioned")
    rows(pair, "timestamptz '2026-01-31' + n * interval '1 hour'", 100)
    assert done(pair.run()) == (100, 23, 77)
    assert parts(pair) == ["t_first"]


def test_ranges_that_touch_are_one() -> None:
    assert merged([(3, 4), (1, 2), (2, 3)]) == [(1, 4)]
    assert merged([(5, None), (None, 2), (3, 4)]) == [(None, 2), (3, 4), (5, None)]
    assert merged([]) == []


def test_values_are_told_apart() -> None:
    from zoneinfo import ZoneInfo

    from millstream_pipelines.retention.spans import Grid, Span

    grid = Grid("integer", Span.of("10"), ZoneInfo("Etc/UTC"))
    away = [Away(None, 20, "dropped"), Away(40, 50, "archived")]
    assert sorted_out([35, 3, 41, 31, 60, 55], away, grid) == ([31, 55, 60], [away[0], away[1]])
    assert sorted_out([], away, grid) == ([], [])
