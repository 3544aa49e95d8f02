"""Tables that are cut by lists: one value per partition, or a list whose partitions are cut by time themselves."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from millstream_api import RunReport
from retention.policies import carried_out, spec
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

NOW = datetime(2014, 2, 10, 12, tzinfo=UTC)


def policy(folder: Path | None = None, by: dict[str, Any] | None = None, **more: Any) -> Any:
    table = {"name": "d"} | ({"partitionBy": {"column": "at", "premake": 1, **by}} if by is not None else {})
    return spec(folder, **{"tables": [table], "grace": "0 days", **more})


def parts(database: Postgres, table: str = "d") -> list[tuple[str, str]]:
    return [
        (row[0], row[1].removeprefix("FOR VALUES "))
        for row in database.execute(
            "SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i "
            f"JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = '{table}'::regclass ORDER BY 1"
        )
    ]


def horizons(report: RunReport) -> list[str | None]:
    assert report.retention is not None, report.message
    return [table.horizon for table in report.retention.tables]


def test_a_list_of_days_goes_and_comes_back(postgres_database: Postgres, tmp_path: Path) -> None:
    database = postgres_database
    database.execute("CREATE TABLE d (at date NOT NULL, id int, PRIMARY KEY (at, id)) PARTITION BY LIST (at)")
    database.execute("CREATE TABLE d_old PARTITION OF d FOR VALUES IN ('2014-01-07', '2014-01-05', '2014-01-06')")
    database.execute("CREATE TABLE d_8 PARTITION OF d FOR VALUES IN ('2014-01-08')")
    database.execute("CREATE TABLE d_none PARTITION OF d FOR VALUES IN ('2014-02-09')")
    database.execute("INSERT INTO d SELECT date '2014-01-05' + n % 4, n FROM generate_series(1, 400) n")
    before = database.execute("SELECT * FROM d ORDER BY 1, 2")
    wanted = policy(tmp_path, {"interval": "1 day"}, keep={"age": "33 days"})
    report = carried_out(database, wanted, NOW)
    assert report.message == "public.d: 2 made, 1 detached, 1 archived and verified, 1 dropped"
    assert parts(database) == [
        ("d_8", "IN ('2014-01-08')"), ("d_none", "IN ('2014-02-09')"),
        ("d_p20140210", "IN ('2014-02-10')"), ("d_p20140211", "IN ('2014-02-11')"),
    ]  # fmt: skip
    again = carried_out(database, wanted, NOW)
    assert (again.message, horizons(again)) == ("nothing was due", ["2014-02-12"])
    assert horizons(carried_out(database, policy(tmp_path), NOW)) == [None]
    back = {"table": "d", "from": "2014-01-06", "to": "2014-01-07"}
    assert "300 rows" in carried_out(database, wanted, NOW, restore=back).message
    assert database.execute("SELECT * FROM d ORDER BY 1, 2") == before
    assert parts(database)[2] == ("d_old", "IN ('2014-01-05', '2014-01-06', '2014-01-07')")
    assert database.execute("SELECT count(*) FROM pg_constraint WHERE conname = 'millstream_range'") == [(0,)]


def test_a_value_stands_for_a_whole_interval(postgres_database: Postgres) -> None:
    database = postgres_database
    database.execute("CREATE TABLE d (at date NOT NULL, id int) PARTITION BY LIST (at)")
    for month in ("2013-11-01", "2013-12-01", "2014-01-01"):
        database.execute(f"CREATE TABLE d_{month[:4]}{month[5:7]} PARTITION OF d FOR VALUES IN ('{month}')")
    monthly = policy(by={"interval": "1 month"}, keep={"age": "2 months"})
    report = carried_out(database, monthly, NOW)
    assert report.message == "public.d: 2 made, 1 detached, 1 dropped"
    assert horizons(report) == ["2014-04-01"]
    held = [{"name": "a", "table": "d", "from": "2013-12-20", "to": "2013-12-21"}]
    younger = policy(by={"interval": "1 month"}, keep={"age": "1 month"}, holds=held)
    assert "1 blocked by hold 'a'" in carried_out(database, younger, NOW).message
    assert [name for name, _ in parts(database)] == ["d_201312", "d_201401", "d_p20140201", "d_p20140301"]


def test_a_list_of_years(postgres_database: Postgres, tmp_path: Path) -> None:
    database = postgres_database
    database.execute("CREATE TABLE d (at int NOT NULL, id int) PARTITION BY LIST (at)")
    for year in (2011, 2012, 2013):
        database.execute(f"CREATE TABLE d_{year} PARTITION OF d FOR VALUES IN ({year})")
        database.execute(f"INSERT INTO d SELECT {year}, n FROM generate_series(1, 50) n")
    wanted = policy(tmp_path, {"interval": "1 year", "timeAs": "yyyy"}, keep={"age": "1 year"})
    report = carried_out(database, wanted, NOW)
    assert report.message == "public.d: 2 made, 2 detached, 2 archived and verified, 2 dropped"
    assert horizons(report) == ["2016"]
    assert parts(database)[1:] == [("d_p20140101", "IN (2014)"), ("d_p20150101", "IN (2015)")]
    back = {"table": "d", "from": "2012-05-05", "to": "2012-05-06"}
    assert "50 rows" in carried_out(database, wanted, NOW, restore=back).message
    assert parts(database)[0] == ("d_2012", "IN (2012)")


REFUSED = [
    (
        "at text, PARTITION BY LIST (at)",
        "IN ('north')",
        "by a list of column 'at' of type text, whose values have no age",
    ),
    ("at uuid, PARTITION BY RANGE (at)", "FROM (MINVALUE) TO (MAXVALUE)", "by ranges of column 'at' of type uuid"),
    ("at date, PARTITION BY LIST (at)", "IN ('2013-01-01', '2013-01-03')", "takes 2013-01-01 and 2013-01-03, between"),
    ("at date, PARTITION BY LIST (at)", "IN ('2013-01-01', NULL)", "NULL and infinity need a partition of their own"),
    ("at date, PARTITION BY HASH (at)", "WITH (modulus 1, remainder 0)", "by hash, so that none of its partitions"),
    ("at date, id int, PARTITION BY RANGE (at, id)", "FROM ('2013-01-01', 1) TO ('2013-01-01', 2)", "of 2 columns"),
    ("at date, PARTITION BY RANGE ((at + 1))", "FROM ('2013-01-01') TO ('2013-01-02')", "of an expression"),
    ("at date, PARTITION BY RANGE (at)", "FROM ('0044-03-15 BC') TO ('2013-01-01')", "has the bound 0044-03-15 BC"),
]


@pytest.mark.parametrize(("made", "bound", "words"), REFUSED)
def test_what_cannot_be_managed_says_what_can(made: str, bound: str, words: str, postgres_database: Postgres) -> None:
    columns, _, how = made.rpartition(", PARTITION ")
    postgres_database.execute(f"CREATE TABLE d ({columns}) PARTITION {how}")
    postgres_database.execute(f"CREATE TABLE d_1 PARTITION OF d FOR VALUES {bound}")
    report = carried_out(postgres_database, policy(), NOW)
    assert report.exit_code == 78
    assert words in report.message
    assert horizons(report) == [None]
    assert "a policy takes" in report.message or "need a partition" in report.message or "BC" in report.message


def test_an_interval_that_does_not_fit_is_told_with_the_horizon(postgres_database: Postgres) -> None:
    postgres_database.execute("CREATE TABLE d (at int NOT NULL) PARTITION BY LIST (at)")
    postgres_database.execute("CREATE TABLE d_1 PARTITION OF d FOR VALUES IN (1)")
    report = carried_out(postgres_database, policy(by={"interval": "1 month"}, keep={}), NOW)
    assert "give a bare number" in report.message
    assert horizons(report) == ["2"]


def test_open_ends_are_left_alone(postgres_database: Postgres) -> None:
    postgres_database.execute("CREATE TABLE d (at timestamptz) PARTITION BY RANGE (at)")
    postgres_database.execute("CREATE TABLE d_1 PARTITION OF d FOR VALUES FROM ('-infinity') TO ('2013-01-01 00:00Z')")
    postgres_database.execute("CREATE TABLE d_2 PARTITION OF d FOR VALUES FROM ('2014-03-01 00:00Z') TO ('infinity')")
    report = carried_out(postgres_database, policy(by={"interval": "1 month"}, keep={}), NOW)
    assert report.message == "public.d: 1 made"  # beyond March there is one
    assert "1 detached" in carried_out(postgres_database, policy(keep={"age": "1 year"}), NOW).message
    assert [name for name, _ in parts(postgres_database)] == ["d_2", "d_p20140201"]


def test_tenants_whose_tables_are_cut_by_time(postgres_database: Postgres, tmp_path: Path) -> None:
    database = postgres_database
    database.execute("CREATE TABLE d (tenant text, at date, id int) PARTITION BY LIST (tenant)")
    for tenant in ("a", "b"):
        database.execute(f"CREATE TABLE d_{tenant} PARTITION OF d FOR VALUES IN ('{tenant}') PARTITION BY RANGE (at)")
        database.execute(
            f"CREATE TABLE d_{tenant}_1 PARTITION OF d_{tenant} FOR VALUES FROM ('2013-10-01') TO ('2013-11-01')"
        )
        database.execute(f"INSERT INTO d SELECT '{tenant}', '2013-10-05', n FROM generate_series(1, 10) n")
    held = [{"name": "a", "table": "d", "from": "2013-10-05", "to": "2013-10-06"}]
    wanted = policy(tmp_path, {"interval": "1 month"})
    report = carried_out(database, policy(tmp_path, {"interval": "1 month"}, holds=held), NOW)
    assert report.message == "public.d_a: 3 made; 1 blocked by hold 'a'; public.d_b: 3 made; 1 blocked by hold 'a'"
    report = carried_out(database, wanted, NOW)
    assert report.message.count("1 detached, 1 archived and verified, 1 dropped") == 2
    assert horizons(report) == ["2014-04-01", "2014-04-01"]
    assert database.execute("SELECT count(*) FROM d") == [(0,)]
    back = {"table": "d_a", "from": "2013-10-05", "to": "2013-10-06"}
    assert "10 rows" in carried_out(database, wanted, NOW, restore=back).message
    assert database.execute("SELECT DISTINCT tenant FROM d") == [("a",)]
    database.execute("CREATE TABLE d_rest PARTITION OF d DEFAULT")
    report = carried_out(database, wanted, NOW)
    assert report.exit_code == 78
    assert "table public.d cannot be managed: it is cut by a list of column 'tenant'" in report.message
    assert report.retention is not None
    assert {table.name: table.outcome for table in report.retention.tables} == {
        "public.d": "failed", "public.d_a": "done", "public.d_b": "done",
    }  # fmt: skip
