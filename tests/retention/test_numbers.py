"""Tables that are cut by whole numbers, those that tell time among them: partitions, limits, the way out and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from millstream_api.retentionpolicy import Hold
from millstream_pipelines.retention.spans import Kind, following, parsed, parsed_in, spelled
from millstream_pipelines.retention.whole_times import moment
from retention.policies import carried_out, spec
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

NOW = datetime(2014, 2, 10, 12, tzinfo=UTC)
TIMES: list[tuple[Kind, str, str, str]] = [
    ("seconds", "1356998400", "2013-01-01T00:00:00+00:00", "1356998401"),
    ("seconds", "-1", "1969-12-31T23:59:59+00:00", "0"),
    ("milliseconds", "1356998400001", "2013-01-01T00:00:00.001000+00:00", "1356998400002"),
    ("microseconds", "1356998400000001", "2013-01-01T00:00:00.000001+00:00", "1356998400000002"),
    ("yyyymmdd", "20130131", "2013-01-31T00:00:00", "20130201"),
    ("yyyymmdd", "99991231", "9999-12-31T00:00:00", ""),
    ("yyyymm", "201312", "2013-12-01T00:00:00", "201401"),
    ("yyyy", "2013", "2013-01-01T00:00:00", "2014"),
]


@pytest.mark.parametrize(("kind", "number", "time", "after"), TIMES)
def test_a_number_tells_a_time(kind: Kind, number: str, time: str, after: str) -> None:
    value = parsed(number, kind)
    assert isinstance(value, datetime)
    assert (value.isoformat(), spelled(value, kind)) == (time, number)
    if after:
        assert spelled(following(value, kind), kind) == after


@pytest.mark.parametrize(("kind", "number", "same"), [
    ("yyyymmdd", 20130132, "20130201"), ("yyyymmdd", 20130230, "20130301"), ("yyyymmdd", 20130100, "20130101"),
    ("yyyymm", 201313, "201401"), ("yyyymm", 201300, "201301"),
])  # fmt: skip
def test_a_bound_that_is_no_date_is_the_next_one(kind: Any, number: int, same: str) -> None:
    assert spelled(moment(number, kind), kind) == same


@pytest.mark.parametrize(("kind", "number"), [("seconds", 10**12), ("yyyymmdd", 0), ("yyyy", -1), ("yyyymm", 10**7)])
def test_a_number_that_tells_no_time(kind: Any, number: int) -> None:
    with pytest.raises(ValueError, match=f"{number} is no time in {kind}"):
        moment(number, kind)


def test_what_a_person_writes_of_it() -> None:
    new_york = ZoneInfo("America/New_York")
    assert spelled(parsed_in("2013-07-01", "seconds", new_york), "seconds") == "1372651200"
    assert spelled(parsed_in("1372651200", "seconds", new_york), "seconds") == "1372651200"
    assert spelled(parsed_in("2013-07-01", "yyyymmdd", new_york), "yyyymmdd") == "20130701"
    assert spelled(parsed_in("20130701", "yyyymmdd", new_york), "yyyymmdd") == "20130701"


def policy(interval: str, folder: Path | None = None, keep: dict[str, Any] | None = None, **by: Any) -> Any:
    table = {"name": "n", "partitionBy": {"column": "id", "interval": interval, "premake": 1, **by}}
    return spec(folder, tables=[table], keep=keep or {}, grace="0 days")


def parts(database: Postgres) -> list[str]:
    rows = database.execute(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'n'::regclass ORDER BY 1"
    )
    return [row[0] for row in rows]


@pytest.mark.parametrize("kind", ["smallint", "integer", "bigint"])
def test_numbers_of_every_width_go_and_come_back(kind: str, postgres_database: Postgres, tmp_path: Path) -> None:
    database = postgres_database
    database.execute(f"CREATE TABLE n (id {kind} PRIMARY KEY, name text) PARTITION BY RANGE (id)")
    database.execute("CREATE TABLE n_pm10 PARTITION OF n FOR VALUES FROM (-10) TO (0)")
    database.execute("CREATE TABLE n_p0 PARTITION OF n FOR VALUES FROM (0) TO (10)")
    database.execute("CREATE TABLE n_p10 PARTITION OF n FOR VALUES FROM (10) TO (20)")
    database.execute("INSERT INTO n SELECT g, 'row ' || g FROM generate_series(-10, 12) g")
    before = database.execute("SELECT * FROM n ORDER BY 1")
    wanted = policy("10", tmp_path, {"rows": 10})
    report = carried_out(database, wanted)
    assert report.message == "public.n: 1 made, 2 detached, 2 archived and verified, 2 dropped"
    assert parts(database) == ["n_p10", "n_p20"]
    restore = {"table": "n", "from": "-10", "to": "10"}
    assert carried_out(database, wanted, restore=restore).exit_code == 0
    assert database.execute("SELECT * FROM n ORDER BY 1") == before
    assert parts(database) == ["n_p0", "n_p10", "n_p20", "n_pm10"]


def test_an_age_of_numbers_that_tell_no_time_is_refused(postgres_database: Postgres) -> None:
    postgres_database.execute("CREATE TABLE n (id bigint) PARTITION BY RANGE (id)")
    report = carried_out(postgres_database, policy("10", keep={"age": "1 month"}))
    assert (report.exit_code, "keep.age counts time, and column 'id' has numbers" in report.message) == (78, True)
    wrong = policy("1 month", keep={"age": "1 month"})
    assert "give a bare number such as '100000', or say with timeAs" in carried_out(postgres_database, wrong).message
    postgres_database.execute("CREATE TABLE d (id date) PARTITION BY RANGE (id)")
    table = {"name": "d", "partitionBy": {"column": "id", "interval": "1 day", "timeAs": "yyyymmdd"}}
    assert "timeAs is for whole numbers" in carried_out(postgres_database, spec(tables=[table])).message


EACH: list[tuple[str, str, str, str, list[str]]] = [
    ("seconds", "bigint", "extract(epoch FROM t)::bigint", "1 month",
     ["1383278400", "1385874000", "1388552400", "1391230800", "1393650000", "1396324800"]),
    ("milliseconds", "bigint", "(extract(epoch FROM t) * 1000)::bigint", "1 month",
     ["1383278400000", "1385874000000", "1388552400000", "1391230800000", "1393650000000", "1396324800000"]),
    ("yyyymmdd", "integer", "to_char(t, 'YYYYMMDD')::int", "1 month",
     ["20131101", "20131201", "20140101", "20140201", "20140301", "20140401"]),
    ("yyyymm", "integer", "to_char(t, 'YYYYMM')::int", "1 month",
     ["201311", "201312", "201401", "201402", "201403", "201404"]),
]  # fmt: skip


@pytest.mark.parametrize(("told", "kind", "value", "interval", "bounds"), EACH)
def test_numbers_that_tell_time(
    told: str, kind: str, value: str, interval: str, bounds: list[str], postgres_database: Postgres, tmp_path: Path
) -> None:
    database = postgres_database
    database.execute(f"CREATE TABLE n (id {kind} NOT NULL, name text) PARTITION BY RANGE (id)")
    for low, high in pairwise(bounds[:4]):
        database.execute(f"CREATE TABLE n_{low} PARTITION OF n FOR VALUES FROM ({low}) TO ({high})")
    database.execute(
        f"INSERT INTO n SELECT {value}, t::text FROM generate_series('2013-11-01 12:00-04'::timestamptz, "
        "'2014-01-30', '1 day') t"
    )
    before = database.execute("SELECT * FROM n ORDER BY 1, 2")
    wanted = policy(interval, tmp_path, {"age": "2 months"}, timeAs=told, timeZone="America/New_York")
    report = carried_out(database, wanted, NOW)
    assert report.message == "public.n: 2 made, 1 detached, 1 archived and verified, 1 dropped"
    assert report.retention is not None
    assert (report.retention.tables[0].oldest, report.retention.tables[0].horizon) == (bounds[1], bounds[5])
    assert parts(database)[-2:] == ["n_p20140201", "n_p20140301"]
    held = policy(interval, tmp_path, {"age": "1 month"}, timeAs=told, timeZone="America/New_York").model_copy(
        update={"holds": [Hold.model_validate({"name": "a", "table": "n", "from": "2013-12-05", "to": "2013-12-06"})]}
    )
    assert "blocked by hold 'a'" in carried_out(database, held, NOW).message
    back = {"table": "n", "from": "2013-11-05", "to": "2013-11-06"}
    assert carried_out(database, wanted, NOW + timedelta(hours=1), restore=back).exit_code == 0
    assert database.execute("SELECT * FROM n ORDER BY 1, 2") == before


MONTHS = ["20121101", "20121201", "20130101"]
CONVERTED: list[tuple[str, str, str, str, list[str]]] = [
    ("seconds", "bigint", "extract(epoch FROM t)::bigint", "1 month", MONTHS),
    ("seconds", "integer", "extract(epoch FROM t)::int", "1 week", ["20121029", "20121105", "20121112"]),
    ("microseconds", "bigint", "(extract(epoch FROM t) * 1000000)::bigint", "1 month", MONTHS),
    ("yyyymmdd", "integer", "to_char(t, 'YYYYMMDD')::int", "1 month", MONTHS),
    ("yyyymm", "integer", "to_char(t, 'YYYYMM')::int", "1 month", MONTHS),
    ("yyyy", "smallint", "to_char(t, 'YYYY')::smallint", "1 year", ["20120101", "20130101", "20140101"]),
]


@pytest.mark.parametrize(("told", "kind", "value", "interval", "first"), CONVERTED)
def test_a_plain_table_is_turned_by_numbers_that_tell_time(
    told: str, kind: str, value: str, interval: str, first: list[str], postgres_database: Postgres, tmp_path: Path
) -> None:
    database = postgres_database
    database.execute(f"CREATE TABLE n (id {kind} NOT NULL, at timestamptz, PRIMARY KEY (id, at))")
    database.execute(
        f"INSERT INTO n SELECT {value}, t FROM generate_series('2012-11-01 00:00-04'::timestamptz, '2014-01-30', "
        "'6 hours') t"
    )
    before = database.execute("SELECT * FROM n ORDER BY 1, 2")
    by = {"timeAs": told, "timeZone": "America/New_York", "convert": True}
    planned = carried_out(database, policy(interval, tmp_path, **by), NOW, dry_run=True).retention
    assert planned is not None
    assert [(step.step, step.blocked_by) for step in planned.plan] == [("convert", "")]
    turned = carried_out(database, policy(interval, tmp_path, **by), NOW)
    assert "is partitioned now" in turned.message, turned.message
    split = carried_out(database, policy(interval, tmp_path, **by), NOW)
    assert (split.exit_code, "is split into" in split.message) == (0, True), split.message
    assert database.execute("SELECT * FROM n ORDER BY 1, 2") == before
    assert parts(database)[:3] == [f"n_p{name}" for name in first]
    assert database.execute(f"SELECT count(*) > 0 FROM n_p{first[0]}") == [(True,)]
    left = carried_out(database, policy(interval, tmp_path, {"age": "1 year"}, **by), NOW)
    assert " detached" in left.message, left.message
    assert parts(database)[0] > f"n_p{first[0]}"


def test_a_value_that_tells_no_time_keeps_a_table_plain(postgres_database: Postgres) -> None:
    postgres_database.execute("CREATE TABLE n (id bigint PRIMARY KEY)")
    postgres_database.execute("INSERT INTO n VALUES (0), (20130101), (99999999999)")
    wanted = policy("1 month", timeAs="yyyymmdd", convert=True)
    report = carried_out(postgres_database, wanted, NOW)
    assert (report.exit_code, "the largest value of 'id' is 99999999999" in report.message) == (78, True)
    postgres_database.execute("DELETE FROM n WHERE id > 20130101")
    assert carried_out(postgres_database, wanted, NOW).exit_code == 0
    assert carried_out(postgres_database, wanted, NOW).exit_code == 0
    assert postgres_database.execute("SELECT tableoid::regclass::text, id FROM n ORDER BY 2") == [
        ("n_p20130101", 0), ("n_p20130101", 20130101)]  # fmt: skip


def test_a_hold_counts_for_a_table_named_without_schema(postgres_database: Postgres) -> None:
    postgres_database.execute("CREATE TABLE n (id date) PARTITION BY RANGE (id)")
    postgres_database.execute("CREATE TABLE n_1 PARTITION OF n FOR VALUES FROM ('2013-01-01') TO ('2013-02-01')")
    table = {"name": "n"}
    held = spec(tables=[table], holds=[{"name": "case-1", "table": "n"}])
    assert "1 blocked by hold 'case-1'" in carried_out(postgres_database, held, NOW).message
    chosen = {"schema": "raw", "pattern": "n*"}  # only the warehouse knows that this chooses nothing
    nobodys = spec(tables=[table, chosen], holds=[{"name": "case-1", "table": "raw.n"}])
    report = carried_out(postgres_database, nobodys, NOW)
    assert (report.exit_code, parts(postgres_database)) == (78, ["n_1"])
    assert "hold 'case-1' names table raw.n, which is none of the policy's" in report.message
