"""`millstream retention`: the life of a table from the command line, and what it says when something is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

FLIGHTS = """
CREATE SCHEMA raw; CREATE TABLE raw.plain (id int);
CREATE TABLE raw.flights (day date NOT NULL, id bigint NOT NULL, tail text) PARTITION BY RANGE (day);
CREATE TABLE raw.flights_12 PARTITION OF raw.flights FOR VALUES FROM ('2012-01-01') TO ('2013-01-01');
CREATE TABLE raw.flights_13 PARTITION OF raw.flights FOR VALUES FROM ('2013-01-01') TO ('2014-01-01');
CREATE TABLE raw.flights_now PARTITION OF raw.flights FOR VALUES FROM ('2014-01-01') TO ('2200-01-01');
INSERT INTO raw.flights SELECT date '2012-01-01' + g % 731, g, 'N' || g % 10 FROM generate_series(1, 12000) g
"""


@pytest.fixture
def policies(postgres_database: Postgres, tmp_path: Path) -> Callable[..., Path]:
    """Write a RetentionPolicy for the test's database, its Warehouse and Secret into a file."""
    postgres_database.execute(FLIGHTS)

    def write(warehouse: str = "dw", **spec: Any) -> Path:
        config = {key: value for key, value in postgres_database.config.items() if key not in ("user", "password")}
        login = {key: str(postgres_database.config[key]) for key in ("user", "password")}
        policy = {
            "warehouseRef": {"name": warehouse}, "tables": [{"name": "raw.flights"}], "keep": {"age": "1 year"},
            "archive": {"url": f"file://{tmp_path}/archive"},
        }  # fmt: skip
        kinds = {
            "RetentionPolicy": {"metadata": {"name": "flights"}, "spec": policy | spec},
            "Warehouse": {
                "metadata": {"name": "dw"},
                "spec": {"type": "postgres", "config": config, "secretRef": {"name": "dw-login"}},
            },
        }
        texts = [
            json.dumps({"apiVersion": "millstream.dev/v1alpha1", "kind": kind} | rest) for kind, rest in kinds.items()
        ]
        texts.append(
            json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "dw-login"}, "stringData": login})
        )
        path = tmp_path / "policy.yaml"
        path.write_text("\n---\n".join(texts), encoding="utf-8")
        return path

    return write


def test_from_a_plan_to_rows_that_are_back(
    millstream: Callable, policies: Callable, postgres_database: Postgres
) -> None:
    path = policies()
    planned = millstream("retention", "plan", "-f", path)
    assert planned.code == 0, planned.err
    assert "2 steps planned" in planned.out
    assert "raw.flights_12" in planned.out
    ran = millstream("retention", "run", "-f", path)
    assert "2 detached, 2 archived and verified" in ran.out, ran.err
    sql = "SELECT count(*), count(DISTINCT tail) FROM archive"
    asked = millstream("retention", "query", "-f", path, "--table", "raw.flights", "--to", "2013-01-01", sql, "--json")
    assert asked.json() == {"version": 1, "columns": ["count_star()", "count(DISTINCT tail)"], "rows": [[6160, 10]],
                            "cut": False}  # fmt: skip
    assert asked.err.count("\n") <= 1, asked.err  # no word of the engine's own at the end of the process
    cut = millstream("retention", "query", "-f", path, "--table", "raw.flights", "FROM archive", "--json")
    assert len(cut.json()["rows"]) == 10_000
    assert "the answer was cut at 10000 rows" in cut.err
    erasing = policies(delete=[{"table": "raw.flights", "where": "tail = 'N7'", "reason": "request 1"}])
    assert "1 erasures carried out" in millstream("retention", "run", "-f", erasing).out
    receipts = millstream("retention", "receipts", "-f", erasing)
    assert "flights: 1 erasures" in receipts.out
    assert "rows left, content" in receipts.out
    assert "N7" not in receipts.out
    [told] = millstream("retention", "receipts", "-f", erasing, "--json").json()["policies"]["flights"]
    assert (told["detachedRows"], told["archivedRows"], told["doneAt"] is not None) == (1200, 1200, True)
    restored = millstream(
        "retention", "restore", "-f", path, "--table", "raw.flights", "--from", "2012-06-01", "--to", "2014-01-01"
    )
    assert "2 range(s) of raw.flights restored and attached, 10800 rows" in restored.out, restored.err
    assert postgres_database.execute("SELECT count(*) FROM raw.flights") == [(10_800,)]


def test_what_is_wrong_is_said(millstream: Callable, policies: Callable) -> None:
    path = policies()
    wrong: list[tuple[dict[str, Any], tuple[str, ...], str]] = [
        ({}, ("--policy", "flihgts"), "flights"),
        ({"warehouse": "dwh"}, (), "no Warehouse 'dwh'; found: dw"),
        ({"tables": [{"name": "raw.flight"}]}, (), "there is no table raw.flight; load it first"),
        ({"tables": [{"name": "raw.plain"}]}, (), "table raw.plain has no partitions"),
    ]
    for given, words, message in wrong:
        refused = millstream("retention", "plan", "-f", policies(**given), *words)
        assert refused.code in (2, 78), (message, refused.code, refused.out, refused.err)
        assert message in refused.err, refused.err
        assert "Traceback" not in refused.err
    flights, stretch = ("-f", path, "--table", "raw.flights"), ("--from", "2012-01-01", "--to", "2013-01-01")
    policies()
    for words, message in (
        (("restore", *flights, *stretch), "nothing of table raw.flights has left the warehouse"),
        (("restore", *flights, "--from", "yesterday", "--to", "2013-01-01"), "from is 'yesterday'; write"),
        (("restore", *flights, "--from", "2012-01-01"), "restore needs --from and --to"),
        (("restore", *flights, "--from", "2013-01-01", "--to", "2012-01-01"), "restore: `from` must be before `to`"),
        (("query", *flights, "SELECT 1"), "nothing of table raw.flights has left the warehouse"),
        (("abandon", "-f", path, "--table", "raw flights"), "--table is 'raw flights'; write schema.table"),
    ):
        refused = millstream("retention", *words)
        assert refused.code in (2, 78), (words, refused.code, refused.out, refused.err)
        assert message in refused.err, (words, refused.err)
        assert "Traceback" not in refused.err


def test_abandon_says_what_it_gave_up(millstream: Callable, policies: Callable) -> None:
    told = millstream("retention", "abandon", "-f", policies(), "--table", "raw.flights")
    assert (told.code, told.out) == (0, "flights: nothing is under way on raw.flights\n")
    told = millstream("retention", "abandon", "-f", policies())
    assert (told.code, told.out) == (0, "flights: policy default/flights claims no table\n")


def test_a_query_reads_the_archive_and_nothing_else(millstream: Callable, policies: Callable) -> None:
    path = policies()
    assert millstream("retention", "run", "-f", path).code == 0
    ask = ("retention", "query", "-f", path, "--table", "raw.flights")
    for sql, message in (
        ("SELEC 1", "syntax error"),
        ("SELECT nothing FROM archive", "nothing"),
        ("DROP VIEW archive", "a query is one SELECT"),
        ("SELECT 1; SELECT 2", "a query is one SELECT"),
        ("COPY archive TO 'out.csv'", "a query is one SELECT"),
        ("SELECT * FROM read_csv('/etc/passwd')", "disabled by configuration"),
    ):
        refused = millstream(*ask, sql)
        assert refused.code == 78, (sql, refused.out)
        assert message in refused.err, (sql, refused.err)
        assert "root:" not in refused.out + refused.err
    refused = millstream(*ask, "--from", "soon", "SELECT 1")
    assert refused.code == 78
    assert "'soon'" in refused.err
