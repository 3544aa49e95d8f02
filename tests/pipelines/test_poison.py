"""Rows that only the target refuses: each is set aside under what refused it, and all the others arrive."""

from __future__ import annotations

from typing import Any

import pytest

from millstream_pipelines.sources._postgres import raw
from postgres_pair import Pair, done, numbered, pair
from servers.plugin import postgres_database, postgres_server

__all__ = ["pair", "postgres_database", "postgres_server"]

ROWS = 3000
BAD = (7, 1500, 1501, ROWS)
MERGE = {"writeDisposition": "merge", "primaryKey": ["id"]}
PATHS: dict[str, dict[str, Any]] = {"raw": {}, "arrow": {"filter": "true"}}
DISPOSITIONS: dict[str, dict[str, Any]] = {
    "append": {},
    "replace": {"writeDisposition": "replace"},
    "replace by key": {"writeDisposition": "replace", "primaryKey": ["id"]},
    "merge": MERGE,
}


def refusing(pair: Pair, columns: str = "id int PRIMARY KEY, name text", *more: str) -> None:
    """Make source and target; the target takes no name of a bad row."""
    numbered(pair.source, ROWS)
    numbers = ", ".join(f"'name {n}'" for n in BAD)
    pair.warehouse.execute("CREATE SCHEMA raw")
    pair.warehouse.execute(f"CREATE TABLE raw.t ({columns}, CONSTRAINT good CHECK (name NOT IN ({numbers})))")
    for statement in more:
        pair.warehouse.execute(statement)


def set_aside(pair: Pair, column: str = "id") -> list[tuple[Any, ...]]:
    return pair.warehouse.execute(
        f"SELECT rule, \"row\"->>'{column}', status FROM _millstream.quarantine ORDER BY (\"row\"->>'{column}')::int"
    )


def arrived(pair: Pair) -> bool:
    """Return whether exactly the good rows are there, each once."""
    ids = [row[0] for row in pair.seen("id")]
    return ids == [n for n in range(1, ROWS + 1) if n not in BAD]


@pytest.mark.parametrize("disposition", DISPOSITIONS)
@pytest.mark.parametrize("path", PATHS)
def test_a_constraint_of_the_target(path: str, disposition: str, pair: Pair) -> None:
    refusing(pair)
    pair.stream |= PATHS[path] | DISPOSITIONS[disposition]
    assert pair.path().startswith(path)
    assert done(pair.run()) == (ROWS, ROWS - len(BAD), len(BAD))
    assert arrived(pair)
    assert set_aside(pair) == [("constraint(good)", str(n), "open") for n in BAD]
    message = pair.warehouse.execute("SELECT message FROM _millstream.quarantine ORDER BY id LIMIT 1")[0][0]
    assert 'violates check constraint "good"' in message


@pytest.mark.parametrize("path", PATHS)
def test_only_the_chunk_with_the_row_is_looked_through(path: str, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream_pipelines.seen._COMMIT_ROWS", 1000)
    monkeypatch.setattr("millstream_pipelines.sources._postgres.stream.MAX_BATCH_ROWS", 1000)
    monkeypatch.setattr(raw, "MAX_BATCH_ROWS", 1000)
    monkeypatch.setattr(raw, "_MOST_ROWS", 1000)
    refusing(pair)
    report = pair.run(mode="incremental", cursor={"field": "id"}, **PATHS[path])
    assert done(report) == (ROWS, ROWS - len(BAD), len(BAD))
    assert arrived(pair)
    found = pair.warehouse.execute("SELECT read, quarantined, position->>'cursor' FROM _millstream.ledger ORDER BY seq")
    assert found == [(1500, 2, "1500"), (1500, 2, "3000")]
    assert done(pair.run()) == (0, 0, 0)


@pytest.mark.parametrize(("rule", "counts"), [("discard", (ROWS, ROWS - len(BAD), 0)), ("freeze", None)])
@pytest.mark.parametrize("disposition", ["append", "merge"])
def test_contract_rows(disposition: str, rule: str, counts: tuple[int, int, int] | None, pair: Pair) -> None:
    refusing(pair)
    report = pair.run(contract={"rows": rule}, **DISPOSITIONS[disposition])
    if counts is None:
        assert (report.exit_code, report.reason) == (65, "ContractBroken")
        assert "constraint(good)" in report.message
        assert pair.seen() == []
    else:
        assert done(report) == counts
        assert report.streams[0].filtered == len(BAD)
        assert arrived(pair)
    assert pair.warehouse.execute("SELECT count(*) FROM _millstream.quarantine") == [(0,)]


@pytest.mark.parametrize("disposition", ["append", "merge"])
def test_a_target_that_refuses_everything_ends_the_run_soon(
    disposition: str, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millstream_pipelines.warehouses._postgres.poison._HOPELESS", 100)
    numbered(pair.source, 20_000)
    pair.warehouse.execute("CREATE SCHEMA raw")
    pair.warehouse.execute("CREATE TABLE raw.t (id int PRIMARY KEY, name text, CONSTRAINT closed CHECK (id < 0))")
    report = pair.run(**DISPOSITIONS[disposition])
    assert (report.exit_code, report.reason) == (65, "RefusedByWarehouse")
    assert "refuses most rows: 100 of 100" in report.message
    assert "constraint(closed)" in report.message
    assert pair.seen() == []


def test_the_error_budget_counts_them(pair: Pair) -> None:
    refusing(pair)
    pair.runs += 1
    report = pair.execute(errorBudget={"maxQuarantinedRows": 3})
    assert (report.exit_code, report.reason) == (65, "ErrorBudgetSpent")
    assert f"4 of {ROWS} rows" in report.message
    assert pair.seen() == []


def test_row_checks_count_each_row_once(pair: Pair) -> None:
    refusing(pair)
    report = pair.run(checks=[{"type": "range", "column": "id", "min": 3}])
    assert done(report) == (ROWS, ROWS - len(BAD) - 2, len(BAD) + 2)
    (check,) = report.checks
    assert (check.failed_rows, check.message.split(":")[0]) == (2, f"2 of {ROWS} rows fail")


OTHERS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "a unique index": ("id int, name text", ("CREATE UNIQUE INDEX one ON raw.t ((id % 2999))",), "constraint(one)"),
    "a domain": ("id raw.small, name text", (), "cast(id)"),
    "no partition": ("id int, name text) PARTITION BY RANGE (id", ("PART",), "server(23514)"),
    "a trigger": ("id int, name text", ("TRIGGER",), "server(22003)"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_whatever_refuses_one_row(what: str, pair: Pair) -> None:
    columns, more, rule = OTHERS[what]
    numbered(pair.source, ROWS)
    pair.warehouse.execute("CREATE SCHEMA raw")
    pair.warehouse.execute(f"CREATE DOMAIN raw.small AS int CHECK (VALUE < {ROWS})")
    pair.warehouse.execute(f"CREATE TABLE raw.t ({columns})")
    for statement in more:
        spelled = {
            "PART": f"CREATE TABLE raw.p PARTITION OF raw.t FOR VALUES FROM (0) TO ({ROWS})",
            "TRIGGER": "CREATE FUNCTION raw.no() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF NEW.id = 3000 THEN "
            "RAISE numeric_value_out_of_range; END IF; RETURN NEW; END$$",
        }
        pair.warehouse.execute(spelled.get(statement, statement))
        if statement == "TRIGGER":
            pair.warehouse.execute("CREATE TRIGGER n BEFORE INSERT ON raw.t FOR EACH ROW EXECUTE FUNCTION raw.no()")
    assert done(pair.run()) == (ROWS, ROWS - 1, 1)
    assert set_aside(pair) == [(rule, str(ROWS), "open")]
    assert pair.warehouse.execute("SELECT count(*), max(id) FROM raw.t") == [(ROWS - 1, ROWS - 1)]


@pytest.mark.parametrize("disposition", ["append", "merge"])
def test_a_value_too_large_for_an_index(disposition: str, pair: Pair) -> None:
    large = "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 300) i)"
    numbered(pair.source, 10, f"n AS id, CASE WHEN n = 5 THEN {large} ELSE 'small' END AS name")
    pair.warehouse.execute("CREATE SCHEMA raw")
    pair.warehouse.execute("CREATE TABLE raw.t (id int PRIMARY KEY, name text)")
    pair.warehouse.execute("CREATE INDEX ON raw.t (name)")
    assert done(pair.run(**DISPOSITIONS[disposition])) == (10, 9, 1)
    assert set_aside(pair) == [("server(54000)", "5", "open")]


def test_a_newer_version_that_is_refused_keeps_the_older_one_out(pair: Pair) -> None:
    pair.source.execute(
        "CREATE TABLE t AS SELECT * FROM (VALUES (1, 9, 'bad'), (1, 5, 'o'), (2, 1, 'x'), (2, 2, 'y')) v (id, at, name)"
    )
    pair.source.execute("ALTER TABLE t ALTER id SET NOT NULL")
    pair.source.execute("CREATE INDEX ON t (at)")
    pair.warehouse.execute("CREATE SCHEMA raw")
    pair.warehouse.execute("CREATE TABLE raw.t (id int PRIMARY KEY, at int, name text CHECK (name <> 'bad'))")
    report = pair.run(mode="incremental", cursor={"field": "at"}, **MERGE)
    assert done(report) == (4, 1, 1)
    assert report.streams[0].duplicate == 2
    assert pair.seen() == [(2, 2, "y")]
    assert set_aside(pair) == [("constraint(t_name_check)", "1", "open")]


HISTORY = {"writeDisposition": "scd2", "primaryKey": ["id"]}


@pytest.mark.parametrize("mode", [{}, {"mode": "incremental", "cursor": {"field": "id"}}], ids=["full", "incremental"])
def test_in_history(mode: dict[str, Any], pair: Pair) -> None:
    refusing(pair, "id int, name text, valid_from timestamptz, valid_to timestamptz")
    assert done(pair.run(**HISTORY, **mode)) == (ROWS, ROWS - len(BAD), len(BAD))
    assert arrived(pair)
    assert set_aside(pair) == [("constraint(good)", str(n), "open") for n in BAD]


def test_a_version_that_is_refused_leaves_those_around_it(pair: Pair) -> None:
    """Late, out of order, and with a delete: what is left is the history without the refused version."""
    rows = [(1, 1, "a", False), (2, 3, "x", False), (1, 4, "c", False), (1, 3, "bad", False), (1, 2, "b", False),
            (3, 5, "x", False), (2, 6, None, True), (2, 4, "bad", False), (2, 4, "y", False),
            (3, 1, "bad", False)]  # fmt: skip
    pair.source.execute("CREATE TABLE t (n serial PRIMARY KEY, id int, day int, name text, gone boolean)")
    for row in rows:
        values = ", ".join("NULL" if item is None else repr(item) for item in row)
        pair.source.execute(f"INSERT INTO t (id, day, name, gone) VALUES ({values})")
    pair.warehouse.execute("CREATE SCHEMA raw")
    pair.warehouse.execute(
        "CREATE TABLE raw.t (n int, id int, at timestamptz, name text CONSTRAINT good CHECK (name <> 'bad'), "
        "valid_from timestamptz, valid_to timestamptz)"
    )
    at = {"name": "at", "expression": "TIMESTAMPTZ '2026-01-01 00:00:00+00' + to_days(day)", "type": "timestamptz"}
    stream = {"columns": [at], "select": ["n", "id", "name", "day"], "deletes": {"column": "gone"}}
    report = pair.run(mode="incremental", cursor={"field": "n"}, scd2={"effectiveAt": "at"}, **HISTORY, **stream)
    assert done(report) == (10, 7, 2), report
    assert report.streams[0].duplicate == 1, "of two changes at one moment the one read last stands"
    days = "extract(day FROM valid_from)::int - 1, extract(day FROM valid_to)::int - 1"
    assert pair.seen(f"id, {days}, name") == [
        (1, 1, 2, "a"), (1, 2, 4, "b"), (1, 4, None, "c"), (2, 3, 4, "x"), (2, 4, 6, "y"), (3, 5, None, "x"),
    ]  # fmt: skip
    assert [row[:2] for row in set_aside(pair)] == [("constraint(good)", "1"), ("constraint(good)", "3")]
