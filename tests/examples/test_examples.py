"""Every example, run as it stands by the command, each on an embedded PostgreSQL of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import psycopg2
import pytest

from millstream_pipelines import embedded

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TESTED = {
    "01-files-to-postgres",
    "02-postgres-incremental",
    "03-rest-to-postgres",
    "04-checks-and-quarantine",
    "05-transforms",
    "06-schedule",
    "12-sql-database",
    "13-nested",
    "14-history",
    "15-parquet",
    "16-retention",
    "demo-nycflights",
}

ON_A_CLUSTER = {"07-on-a-cluster"}  # needs servers in pods: tests/cluster runs it


class Place:
    """A home of one example: runs it, and asks its databases."""

    def __init__(self, millstream: Callable[..., Any], home: Path, server: embedded.Server) -> None:
        self._call, self._home, self._server = millstream, home, server

    def run(
        self, *words: object, code: int = 0, command: str = "run", options: tuple[str, ...] = (), **environment: str
    ) -> Any:
        """Run an example's folder and return the JSON document."""
        folders = [part for word in words for part in ("-f", EXAMPLES / str(word))]
        result = self._call(
            *command.split(),
            *folders,
            *options,
            "--json",
            env={"MILLSTREAM_HOME": str(self._home.parent), **environment},
        )
        assert result.code == code, result.err + result.out
        return result.json()

    def totals(self, *words: object, **options: Any) -> list[tuple[int, int, int]]:
        """Run, and return (read, loaded, quarantined) of each pipeline."""
        runs = self.run(*words, **options)["runs"]
        keys = ("read", "loaded", "quarantined")
        return [tuple(run["report"]["totals"][key] for key in keys) for run in runs]  # type: ignore[misc]

    def ask(self, sql: str, database: str = "dw") -> Any:
        """Run SQL in a database and return its rows, if it has any."""
        server = self._server
        with closing(psycopg2.connect(host=server.host, user=server.user, dbname=database)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall() if cursor.description else None


@pytest.fixture
def place(millstream: Callable[..., Any], server_folder: Path) -> Iterator[Place]:
    folder = server_folder / "postgres"
    with embedded.serving(folder) as server:
        yield Place(millstream, folder, server)


def test_every_example_is_tested() -> None:
    assert {path.name for path in EXAMPLES.iterdir() if path.is_dir()} == TESTED | ON_A_CLUSTER


@pytest.mark.parametrize("name", sorted(TESTED))
def test_manifests_are_valid(name: str, place: Place) -> None:
    place.run(name, command="validate")


def test_files_to_postgres(place: Place) -> None:
    name = "01-files-to-postgres"
    assert place.totals(name) == [(300, 300, 0)]
    assert place.totals(name) == [(0, 0, 0)]
    types = (
        "SELECT data_type FROM information_schema.columns WHERE table_name = 'new_year_flights' AND column_name = %s"
    )
    assert place.ask(types.replace("%s", "'time_hour'")) == [("timestamp with time zone",)]
    keys = "SELECT count(*), count(DISTINCT (time_hour, carrier, flight, origin)) FROM raw.new_year_flights"
    assert place.ask(keys) == [(300, 300)]


def test_postgres_incremental(place: Place) -> None:
    name = "02-postgres-incremental"
    assert place.totals(name) == [(5, 5, 0), (5, 5, 0)]
    place.ask(
        "INSERT INTO orders VALUES (6, 'Fay', 'open', 9.99, '2026-01-07T10:00:00Z');"
        "UPDATE orders SET status = 'paid', updated_at = '2026-01-07T11:00:00Z' WHERE id = 2",
        database="shop",
    )
    (_, (read, _, _)) = place.totals(name)
    assert 2 <= read < 6, "only what is new, and what lies within the lag"
    assert place.ask("SELECT id, status, amount::text FROM raw.orders WHERE id IN (2, 6) ORDER BY id") == [
        (2, "paid", "80.00"),
        (6, "open", "9.99"),
    ]
    assert place.ask("SELECT count(*) FROM raw.orders") == [(6,)]
    place.ask("UPDATE orders SET status = 'corrected' WHERE id = 1", database="shop")
    window = ("--pipeline", "orders", "--backfill", "2026-01-01..2026-02-01")
    report = place.run(name, options=window)["runs"][0]["report"]
    assert (report["totals"]["read"], report["intervalsDone"], report["intervalsTotal"]) == (6, 31, 31)
    assert place.ask("SELECT status FROM raw.orders WHERE id = 1") == [("corrected",)]


@pytest.fixture
def api() -> Iterator[None]:
    """The example's server, on the port its manifest names."""
    server = EXAMPLES / "03-rest-to-postgres" / "server.py"
    process = subprocess.Popen([sys.executable, "-u", str(server)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "serving" in process.stdout.readline(), "port 8765 is taken"
    yield
    process.terminate()
    process.communicate(timeout=10)


@pytest.mark.usefixtures("api")
def test_rest_to_postgres(place: Place) -> None:
    name = "03-rest-to-postgres"
    assert place.totals(name) == [(250, 250, 0)]
    ((read, _, _),) = place.totals(name)
    assert read < 250, "only what was measured since"
    assert place.ask("SELECT count(*), max(measured_at)::text FROM raw.readings") == [(250, "2026-01-02 17:40:00+00")]


@pytest.mark.usefixtures("api")
def test_a_wrong_token_is_no_matter_for_a_retry(place: Place) -> None:
    secret = {"MILLSTREAM_SECRET_READINGS_TOKEN_TOKEN": "not-the-token"}
    report = place.run("03-rest-to-postgres", code=78, **secret)["runs"][0]["report"]
    assert "readings-token" in report["message"]
    assert "not-the-token" not in json.dumps(report)


def test_checks_and_quarantine(place: Place) -> None:
    name = "04-checks-and-quarantine"
    assert place.totals(name) == [(100, 95, 5)]
    rules = place.ask("SELECT rule, count(*) FROM _millstream.quarantine GROUP BY rule ORDER BY rule")
    assert sum(count for _, count in rules) == 5
    assert len(rules) == 4
    warned = place.ask("SELECT name, failed_rows FROM _millstream.checks WHERE severity = 'warn' ORDER BY name")
    assert [count for _, count in warned] == [1, 1]


def test_a_fix_and_a_replay(place: Place) -> None:
    name = "04-checks-and-quarantine"
    place.run(name)
    fixed = (f"{name}/source.yaml", f"{name}/warehouse.yaml", f"{name}/fixed")
    report = place.run(*fixed, command="quarantine replay", code=65)["runs"][0]["report"]
    assert (report["reason"], report["totals"]["read"], report["totals"]["loaded"]) == ("StillFailing", 5, 1)
    assert place.ask("SELECT count(*) FROM raw.checked_flights WHERE origin = 'EWR' AND flight = 3459") == [(1,)]
    assert place.run(*fixed, options=("--ledger",), command="status")["pipelines"][0]["closes"] is True
    given_up = ("--status", "open", "--reason", "wrong at the source, reported")
    assert place.run(*fixed, options=given_up, command="quarantine discard")["discarded"][0]["rows"] == 4
    assert place.totals(*fixed) == [(100, 96, 4)]


def test_strict_budget_fails_and_changes_nothing(place: Place) -> None:
    name = "04-checks-and-quarantine"
    document = place.run(name, f"{name}/strict", code=65)
    reports = {run["pipeline"]: run["report"] for run in document["runs"]}
    assert reports["default/checked-flights"]["exitCode"] == 0
    assert reports["default/strict-flights"]["reason"] == "ErrorBudgetSpent"
    assert place.ask("SELECT count(*) FROM raw.strict_flights") == [(0,)]


def test_sql_database(place: Place, tmp_path: Path) -> None:
    make = [sys.executable, EXAMPLES / "12-sql-database" / "make_shop.py"]
    for read, loaded, quarantined in ((100, 99, 1), (100, 100, 0)):
        subprocess.run(make, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
        assert place.totals("12-sql-database") == [(read, loaded, quarantined)]
    assert place.ask("SELECT count(*), sum(price)::text FROM raw.shop_orders") == [(199, "2005.80")]


def test_transforms(place: Place) -> None:
    name = "05-transforms"
    place.run(name)
    assert place.ask("SELECT sum(flights) FROM marts.airline_delays") == [(400,)]
    assert place.ask("SELECT count(*) FROM marts.worst_airline") == [(1,)]
    before = place.ask("SELECT count(*), sum(flights) FROM marts.hourly")
    place.run(name)
    assert place.ask("SELECT count(*), sum(flights) FROM marts.hourly") == before
    assert place.ask("SELECT length(tail_hash) FROM raw.t_flights WHERE tail_hash IS NOT NULL LIMIT 1") == [(64,)]


def test_schedule(place: Place) -> None:
    report = place.run("06-schedule")["runs"][0]["report"]
    assert report["exitCode"] == 0
    assert report["freshness"].startswith("2013-01-01T")
    stale = [check for check in report["checks"] if check["outcome"] == "failed"]
    assert [check["severity"] for check in stale] == ["warn"]


def test_history(place: Place) -> None:
    name = "14-history"
    streams = {stream["name"]: stream for stream in place.run(name)["runs"][0]["report"]["streams"]}
    history = streams["history"]
    assert [history[word] for word in ("read", "loaded", "duplicate", "deleted")] == [8, 7, 1, 1]
    assert place.ask(
        "SELECT article, price::text, valid_from::date::text, valid_to::date::text FROM raw.price_history ORDER BY 1, 3"
    ) == [
        ("cocoa", "5.10", "2026-01-01", "2026-02-10"),
        ("coffee", "7.50", "2026-01-01", "2026-02-01"),
        ("coffee", "7.90", "2026-02-01", None),
        ("tea", "4.20", "2026-01-01", "2026-01-08"),
        ("tea", "4.30", "2026-01-08", "2026-01-15"),
        ("tea", "4.50", "2026-01-15", None),
    ]
    assert place.ask("SELECT article, price::text FROM raw.prices ORDER BY 1") == [("coffee", "7.90"), ("tea", "4.50")]
    assert place.totals(name) == [(0, 0, 0)]


def test_parquet(place: Place, tmp_path: Path) -> None:
    folder = shutil.copytree(EXAMPLES / "15-parquet", tmp_path / "15-parquet")
    assert place.totals(folder) == [(5, 5, 0), (5, 4, 1)]
    assert place.totals(folder) == [(0, 0, 0), (0, 0, 0)]
    seen = place.run(folder, command="status", options=("--ledger",))["pipelines"]
    assert [item["closes"] for item in seen] == [True, True]
    rows = place.run(folder, command="quarantine list", options=("--pipeline", "lake-orders"))
    assert "range(amount)" in json.dumps(rows)
    statements = (folder / "read.sql").read_text().replace("'lake/", f"'{folder}/lake/")
    with duckdb.connect() as connection:
        found = connection.sql(statements)
        assert dict(zip(found.columns, map(str, found.types), strict=True)) == {
            "id": "BIGINT", "token": "UUID", "customer": "VARCHAR", "amount": "DECIMAL(12,2)", "tags": "VARCHAR[]",
            "details": "JSON", "updated_at": "TIMESTAMP WITH TIME ZONE",
        }  # fmt: skip
        assert found.project("id, amount::VARCHAR, tags").fetchall() == [
            (1, "120.50", ["new", "gift"]), (2, "80.00", []), (4, "9999999999.99", ["a, b"]), (5, "42.00", ["old"]),
        ]  # fmt: skip


def test_retention(place: Place, tmp_path: Path) -> None:
    folder = shutil.copytree(EXAMPLES / "16-retention", tmp_path / "examples" / "16-retention")

    def policy(command: str, *options: str) -> Any:
        return place.run(folder, command=f"retention {command}", options=options)["policies"]["flights"]

    assert "waits for its first load" in policy("run")["message"]
    assert place.totals(folder) == [(600, 600, 0)]
    partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'raw.flights_2013'::regclass"
    assert place.ask(partitions) == [(12,)]
    steps = policy("plan")["retention"]["plan"]
    assert [step.get("blockedBy", "") for step in steps if step["step"] == "detach"].count("hold 'case-4711'") == 1
    message = policy("run")["message"]
    assert "10 detached, 10 archived and verified, 10 dropped; 1 blocked by hold 'case-4711'" in message
    assert place.ask("SELECT count(*) FROM raw.flights_2013") == [(100,)]
    assert len(list((tmp_path / ".millstream" / "archive").rglob("_manifest.json"))) == 10
    where = ("--table", "raw.flights_2013")
    sql = "SELECT count(*), min(time_hour) FROM archive"
    asked = place.run(folder, command="retention query", options=(*where, sql))
    assert (asked["rows"][0][0], asked["rows"][0][1][:10]) == (500, "2013-01-01")
    back = policy("restore", *where, "--from", "2013-01-01", "--to", "2013-02-01")
    assert back["message"].startswith("1 range(s) of raw.flights_2013 restored and attached, 50 rows")
    assert place.ask("SELECT count(*) FROM raw.flights_2013") == [(150,)]


def test_nested(place: Place) -> None:
    streams = place.run("13-nested", command="explain")["pipelines"][0]["streams"]
    assert [item["target"] for item in streams] == [
        "raw.web_orders",
        "raw.web_orders__items",
        "raw.web_orders__items__discounts",
    ]
    report = place.run("13-nested")["runs"][0]["report"]
    counted = {item["name"]: (item["read"], item["loaded"], item["quarantined"]) for item in report["streams"]}
    assert counted == {"orders": (4, 3, 1), "orders/items": (3, 3, 0), "orders/items/discounts": (2, 2, 0)}
    assert place.ask("SELECT id, customer__name, customer__address__zip FROM raw.web_orders ORDER BY id") == [
        (1, "Ann", "0900"),
        (2, "Bo", None),
        (4, "Di", "69001"),
    ]
    assert place.ask("SELECT _parent_id, _index, sku, price::text FROM raw.web_orders__items ORDER BY 1, 2") == [
        (1, 0, "tea", "4.50"),
        (1, 1, "cup", "12.00"),
        (4, 0, "tea", "4.50"),
    ]
    values = "SELECT _parent_id, _index_1, _index, value::text FROM raw.web_orders__items__discounts ORDER BY 3"
    assert place.ask(values) == [(1, 0, 0, "0.5"), (1, 0, 1, "0.25")]
    assert place.ask("SELECT raw_payload->>'v' FROM raw.web_orders WHERE id = 2") == [("1",)]
