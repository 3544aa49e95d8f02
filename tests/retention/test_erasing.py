"""Rows that must go leave every place: partitions, tables that wait for their drop, what was set aside, archives."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from millstream_api import RunReport
from millstream_api.retention_report import ErasureReceipt
from retention.policies import FLIGHTS, NOW, TABLE, carried_out, months, spec
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

LATER = NOW + timedelta(days=8)
SEVEN = {"table": TABLE, "where": "tail = 'N7'", "reason": "request 1"}


@pytest.fixture
def flights(postgres_database: Postgres) -> Postgres:
    """A table with a partition for each month from August 2013 to January 2014; `tail` N7 is in each."""
    postgres_database.execute(FLIGHTS)
    months(postgres_database, 8, 13)
    return postgres_database


def done(report: RunReport) -> str:
    assert report.exit_code == 0, report.message
    return report.message


def receipt(report: RunReport) -> ErasureReceipt:
    assert report.retention is not None
    (found,) = report.retention.erasures
    return found


def archived(folder: Path, condition: str = "true") -> int:
    """Count rows in every file of the store, whether a manifest names it or not."""
    files = [str(path) for path in folder.rglob("*.parquet")]
    ((count,),) = duckdb.sql(f"SELECT count(*) FROM read_parquet({files}) WHERE {condition}").fetchall()
    return int(count)


def test_rows_leave_every_place(flights: Postgres, tmp_path: Path) -> None:
    done(carried_out(flights, spec(tmp_path), NOW - timedelta(days=60)))
    done(carried_out(flights, spec(tmp_path), NOW - timedelta(days=52)))
    done(carried_out(flights, spec(tmp_path)))
    assert flights.execute("SELECT state, count(*) FROM _millstream.retired GROUP BY 1 ORDER BY 1") == [
        ("archived", 2), ("dropped", 1)]  # fmt: skip
    before = {path.parent.parent.name: path for path in tmp_path.rglob("_manifest.json")}
    assert archived(tmp_path, "tail = 'N7'") == 3
    policy = spec(tmp_path, delete=[SEVEN])
    report = carried_out(flights, policy)
    assert done(report) == "raw.flights: 1 erasures carried out"
    found = receipt(report)
    assert (found.live_rows, found.detached_rows, found.archived_rows, found.archives_judged) == (3, 2, 3, 3)
    assert (found.reason, found.unjudged) == ("request 1", [])
    assert found.done_at is not None
    assert "N7" not in report.model_dump_json()
    assert archived(tmp_path, "tail = 'N7'") == 0
    assert (archived(tmp_path), len(list(tmp_path.rglob("_manifest.json")))) == (297, 3)
    for path in tmp_path.rglob("_manifest.json"):
        document = json.loads(path.read_text())
        assert tmp_path / document["supersedes"] == before[path.parent.parent.name]
        assert [item["rows"] for item in document["erased"]] == [1]
    assert flights.execute("SELECT count(*) FROM raw.flights WHERE tail = 'N7'") == [(0,)]
    assert done(carried_out(flights, policy)) == "nothing was due"
    assert done(carried_out(flights, policy, LATER)) == "raw.flights: 2 dropped"
    assert not flights.execute("SELECT 1 FROM pg_class WHERE relname LIKE 'erasing%'")
    restore = {"table": TABLE, "from": "2013-08-01", "to": "2013-11-01"}
    assert "297 rows, each compared" in done(carried_out(flights, policy, LATER, restore=restore))


def test_an_archive_written_anew_leaves_when_its_range_is_archived_again(flights: Postgres, tmp_path: Path) -> None:
    """It was forgotten, and with it the rows of whatever is erased later."""
    august = {"table": TABLE, "from": "2013-08-01", "to": "2013-09-01"}
    done(carried_out(flights, spec(tmp_path), NOW - timedelta(days=60)))
    done(carried_out(flights, spec(tmp_path, delete=[SEVEN]), NOW - timedelta(days=60)))
    done(carried_out(flights, spec(tmp_path), NOW - timedelta(days=60), restore=august))
    done(carried_out(flights, spec(tmp_path), NOW - timedelta(days=50)))
    assert len(list(tmp_path.rglob("_manifest.json"))) == 1
    eight = {"table": TABLE, "where": "tail = 'N8'", "reason": "request 2"}
    done(carried_out(flights, spec(tmp_path, delete=[eight]), NOW - timedelta(days=50)))
    assert archived(tmp_path, "tail = 'N8'") == 0


def test_rows_that_come_back_leave_again(flights: Postgres, tmp_path: Path) -> None:
    policy = spec(tmp_path, delete=[SEVEN])
    done(carried_out(flights, policy))
    assert done(carried_out(flights, policy)) == "nothing was due"
    flights.execute("INSERT INTO raw.flights VALUES ('2014-01-05', 900, 'N7')")
    report = carried_out(flights, policy)
    assert done(report) == "raw.flights: 1 erasures carried out"
    assert receipt(report).live_rows == 7


def test_a_hold_wins(flights: Postgres, tmp_path: Path) -> None:
    done(carried_out(flights, spec(tmp_path)))
    done(carried_out(flights, spec(tmp_path), LATER))
    hold = {"name": "case-1", "table": TABLE, "from": "2013-10-01", "to": "2013-12-01"}
    policy = spec(tmp_path, delete=[SEVEN], holds=[hold])
    report = carried_out(flights, policy, LATER)
    assert "1 erasures carried out; 1 blocked by hold 'case-1'" in done(report)
    assert (receipt(report).archived_rows, receipt(report).live_rows, receipt(report).done_at) == (2, 2, None)
    assert report.retention is not None
    (step,) = [item for item in report.retention.plan if item.step == "erase"]
    assert (step.rows, step.blocked_by, step.irreversible) == (2, "hold 'case-1'", True)
    assert flights.execute("SELECT time_hour::date::text FROM raw.flights WHERE tail = 'N7'") == [("2013-11-02",)]
    assert archived(tmp_path, "tail = 'N7'") == 1
    assert "blocked by hold" in done(carried_out(flights, policy, LATER))
    free = carried_out(flights, spec(tmp_path, delete=[SEVEN]), LATER)
    assert (receipt(free).archived_rows, receipt(free).live_rows) == (3, 3)
    assert receipt(free).done_at is not None
    assert archived(tmp_path, "tail = 'N7'") == 0


def test_nothing_is_erased_without_approval(flights: Postgres) -> None:
    policy = spec(approval="manual", delete=[SEVEN], keep={})
    report = carried_out(flights, policy)
    assert "1 irreversible steps wait for approval" in done(report)
    assert report.retention is not None
    assert flights.execute("SELECT count(*) FROM raw.flights WHERE tail = 'N7'") == [(6,)]
    other = spec(approval="manual", delete=[SEVEN | {"where": "tail = 'N8'"}], keep={})
    assert "wait for approval" in done(carried_out(flights, other, approved=report.retention.digest))
    assert "1 erasures" in done(carried_out(flights, policy, approved=report.retention.digest))
    assert flights.execute("SELECT count(*) FROM raw.flights WHERE tail = 'N7'") == [(0,)]


REFUSED = [
    ("tial = 'N7'", 'column "tial" does not exist'),
    ("tail = 'N7'); DROP TABLE raw.flights; --", "syntax error"),
    ("tail = 'N7') OR (SELECT true", "syntax error"),
    ("id", "argument of WHERE must be type boolean"),
    ("id IN (SELECT 1)", "cannot use subquery in check constraint; a condition is about the row itself"),
    ("count(*) > 1", "aggregate functions are not allowed in WHERE"),
    ("id = 'x'", "invalid input syntax for type bigint"),
    ("true", "names no column"),
    ("1 = 1 -- all", "names no column"),
    ("tableoid > 0", "system column"),
    ("time_hour < now() - interval '1 year'", "now() means something else tomorrow, and an archive is judged once"),
    ("time_hour < Current_Date", "current_date means something else"),
    ("age(time_hour) > interval '1 year'", "age() means something else"),
    ("id > 1000 * random()", "random() means something else"),
    ("time_hour < 'today'", "'today' means something else"),
    ("time_hour > 'Tomorrow 12:00'::timestamptz", "'Tomorrow 12:00' means something else"),
]


def test_a_condition_is_checked_before_anything_goes(flights: Postgres) -> None:
    for where, words in REFUSED:
        report = carried_out(flights, spec(delete=[SEVEN, SEVEN | {"where": where}], keep={}))
        assert report.exit_code == 78, (where, report.message)
        assert f"delete of raw.flights where '{where}'" in report.message
        assert words in report.message
    assert flights.execute("SELECT count(*) FROM raw.flights") == [(600,)]


def test_a_condition_of_many_signs(flights: Postgres) -> None:
    where = "flights.tail LIKE 'N7%' AND to_jsonb(flights) ->> 'tail' <> '$millstream$' -- who"
    assert "1 erasures" in done(carried_out(flights, spec(delete=[SEVEN | {"where": where}], keep={})))
    assert flights.execute("SELECT count(*) FROM raw.flights") == [(600 - 66,)]


def test_a_text_that_reads_as_a_time_is_a_text(flights: Postgres) -> None:
    flights.execute("UPDATE raw.flights SET tail = 'now' WHERE id = 5; ALTER TABLE raw.flights ADD COLUMN now date")
    where = "tail IN ('now', 'today', 'current_date') AND now IS NULL AND time_hour::date > '2013-01-01'"
    assert "1 erasures" in done(carried_out(flights, spec(delete=[SEVEN | {"where": where}], keep={})))
    assert flights.execute("SELECT count(*) FROM raw.flights") == [(594,)]


def test_every_row_is_no_erasure(flights: Postgres) -> None:
    flights.execute("INSERT INTO raw.flights SELECT '2014-01-05', g, 'N' FROM generate_series(1000, 1500) g")
    report = carried_out(flights, spec(delete=[SEVEN | {"where": "id >= 0"}], keep={}))
    assert (report.exit_code, report.reason) == (78, "InvalidConfiguration"), report.message
    assert "matches every row of the table, 1101 of them" in report.message
    assert flights.execute("SELECT count(*) FROM raw.flights") == [(1101,)]


def test_a_table_that_fits_the_pattern_and_is_not_there_is_not_erased(flights: Postgres) -> None:
    report = carried_out(flights, spec(tables=[{"schema": "raw"}], delete=[SEVEN | {"table": "raw.other"}]))
    assert report.exit_code == 78
    assert "delete names table raw.other, which is none of the policy's" in report.message


def _set_aside(database: Postgres, row: dict[str, Any], **more: Any) -> None:
    given = {"target": TABLE, "status": "open", "masked": None} | more
    database.execute(
        'INSERT INTO _millstream.quarantine (pipeline, stream, target, run, seq, rule, message, "row", status, masked) '
        f"VALUES ('default/p', 's', '{given['target']}', 'r', 1, 'cast(id)', 'no bigint: ''N7''', "
        f"'{json.dumps(row)}', '{given['status']}', '{json.dumps(given['masked'])}')"
    )


def test_rows_that_were_set_aside(flights: Postgres) -> None:
    done(carried_out(flights, spec(keep={})))
    for row in ({"id": "broken", "tail": "N7"}, {"id": 1, "tail": "N8"}, {"_raw": "…N7"}):
        _set_aside(flights, row)
    _set_aside(flights, {"id": 2, "tail": "N7"}, target="raw.other")
    _set_aside(flights, {"id": 3, "tail": "N7"}, status="replayed")
    _set_aside(flights, {"id": 4, "tail": "***"}, masked=["tail"])
    report = carried_out(flights, spec(keep={}, delete=[SEVEN]))
    assert "1 erasures" in done(report)
    assert receipt(report).quarantined_rows == 2
    assert receipt(report).unjudged == ["2 rows of _millstream.quarantine: 3, 6"]
    assert flights.execute(
        "SELECT id, status, message, reason FROM _millstream.quarantine WHERE \"row\" ? '_erased' ORDER BY id"
    ) == [(1, "discarded", "erased", "erased: request 1"), (5, "replayed", "erased", "erased: request 1")]
    assert flights.execute("SELECT count(*) FROM _millstream.quarantine") == [(6,)], "the account still closes"
    assert done(carried_out(flights, spec(keep={}, delete=[SEVEN]))) == "nothing was due"


def test_an_erasure_on_the_day_of_the_drop(flights: Postgres, tmp_path: Path) -> None:
    done(carried_out(flights, spec(tmp_path)))
    report = carried_out(flights, spec(tmp_path, delete=[SEVEN]), LATER)
    assert done(report) == "raw.flights: 1 erasures carried out, 3 dropped"
    assert (receipt(report).archived_rows, archived(tmp_path, "tail = 'N7'"), archived(tmp_path)) == (3, 0, 297)
    back = {"table": TABLE, "from": "2013-08-01", "to": "2013-11-01"}
    assert "297 rows" in done(carried_out(flights, spec(tmp_path), LATER, restore=back))


def test_an_archive_from_before_a_column_is_named(flights: Postgres, tmp_path: Path) -> None:
    done(carried_out(flights, spec(tmp_path)))
    done(carried_out(flights, spec(tmp_path), LATER))
    flights.execute("ALTER TABLE raw.flights RENAME tail TO registration")
    renamed = SEVEN | {"where": "registration = 'N7'"}
    report = carried_out(flights, spec(tmp_path, delete=[renamed]), LATER)
    assert (report.exit_code, report.reason) == (65, "ErasureIncomplete")
    assert "has no column registration" in report.message
    assert receipt(report).done_at is None
    both = "coalesce(to_jsonb(flights) ->> 'tail', to_jsonb(flights) ->> 'registration') = 'N7'"
    report = carried_out(flights, spec(tmp_path, delete=[SEVEN | {"where": both}]), LATER)
    assert done(report)
    assert archived(tmp_path, "tail = 'N7'") == 0


def test_a_hold_over_an_archive_from_before_the_cut_column_was_renamed(flights: Postgres, tmp_path: Path) -> None:
    for now in (NOW, LATER):
        done(carried_out(flights, spec(tmp_path), now))
    flights.execute("ALTER TABLE raw.flights RENAME time_hour TO at")
    table = {"name": TABLE, "partitionBy": {"column": "at", "interval": "1 month", "timeZone": "America/New_York"}}
    hold = {"name": "claim", "table": TABLE, "from": "2013-08-01", "to": "2013-09-01"}
    report = carried_out(flights, spec(tmp_path, tables=[table], delete=[SEVEN], holds=[hold]), LATER)
    assert "1 erasures carried out" in done(report)
    assert (receipt(report).archived_rows, receipt(report).done_at, archived(tmp_path, "tail = 'N7'")) == (2, None, 1)
    for path in tmp_path.rglob("_manifest.json"):  # as if it had been cut by a column of another kind
        path.write_text(path.read_text().replace('"kind": "timestamptz"', '"kind": "date"'))
    other = SEVEN | {"where": "tail = 'N8'", "reason": "request 2"}
    report = carried_out(flights, spec(tmp_path, tables=[table], delete=[other], holds=[hold]), LATER)
    assert (report.exit_code, report.reason, "has no column at" in report.message) == (65, "ErasureIncomplete", True)


def test_rows_that_others_refer_to(flights: Postgres) -> None:
    flights.execute(
        "CREATE TABLE raw.legs (time_hour timestamptz, id bigint, CONSTRAINT of_flight FOREIGN KEY (time_hour, id) "
        "REFERENCES raw.flights); INSERT INTO raw.legs SELECT time_hour, id FROM raw.flights WHERE id = 7"
    )
    report = carried_out(flights, spec(keep={}, delete=[SEVEN]))
    assert (report.exit_code, report.reason) == (65, "ErasureIncomplete")
    assert "constraint of_flight of table raw.legs: erase" in report.message
    assert "erase those rows first" in report.message


def test_archives_of_another_warehouse_in_the_same_store_stay(
    flights: Postgres, postgres_server: Postgres, tmp_path: Path
) -> None:
    with postgres_server.fresh_database() as other:
        other.execute(FLIGHTS)
        months(other, 8, 13)
        for database in (flights, other):
            done(carried_out(database, spec(tmp_path)))
        done(carried_out(other, spec(tmp_path), LATER))
        done(carried_out(flights, spec(tmp_path, delete=[SEVEN])))
        back = {"table": TABLE, "from": "2013-08-01", "to": "2013-11-01"}
        assert "300 rows" in done(carried_out(other, spec(tmp_path), LATER, restore=back))
