"""The order of transforms, in both dialects: dependencies found by parsing, circles named."""

from __future__ import annotations

from typing import Any

import pytest

from millstream_api.pipeline import TransformSpec
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.transforms.order import ordered

DIALECTS = ["postgres", "duckdb"]


def spec(name: str, sql: str, **more: Any) -> TransformSpec:
    return TransformSpec.model_validate({"name": name, "target": f"marts.{name}", "sql": sql, **more})


def order(*specs: TransformSpec, dialect: str = "postgres") -> list[str]:
    return [item.name for item in ordered(specs, dialect)]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_each_comes_after_what_it_reads(dialect: str) -> None:
    specs = [
        spec("c", "SELECT * FROM marts.b JOIN marts.a USING (x)"),
        spec("b", "SELECT * FROM marts.a"),
        spec("a", "SELECT * FROM raw.orders"),
    ]
    assert order(*specs, dialect=dialect) == ["a", "b", "c"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_as_written_where_nothing_decides(dialect: str) -> None:
    names = ["z", "m", "a", "k"]
    assert order(*(spec(name, "SELECT 1 AS x") for name in names), dialect=dialect) == names
    late = [spec("z", "SELECT * FROM marts.a"), *(spec(name, "SELECT 1 AS x") for name in ("m", "a", "k"))]
    assert order(*late, dialect=dialect) == ["m", "a", "k", "z"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_circle_is_named(dialect: str) -> None:
    specs = [
        spec("a", "SELECT * FROM marts.c"),
        spec("b", "SELECT * FROM marts.a"),
        spec("c", "SELECT * FROM marts.b"),
    ]
    with pytest.raises(ConfigurationError, match=r"in a circle: \w → \w → \w → \w"):
        order(*specs, dialect=dialect)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "sql",
    [
        "WITH a AS (SELECT 1 AS x) SELECT (SELECT max(x) FROM marts.a) FROM a",
        "WITH q AS (SELECT * FROM marts.a) SELECT * FROM q",
        "SELECT * FROM raw.t WHERE EXISTS (SELECT 1 FROM marts.a WHERE a.x = t.x)",
        "SELECT * FROM raw.t WHERE x IN (SELECT x FROM marts.a)",
        "SELECT * FROM raw.t UNION ALL SELECT * FROM marts.a",
        "SELECT * FROM raw.t, LATERAL (SELECT * FROM marts.a) q",
        "SELECT (SELECT max(x) FROM marts.a) AS x",
        'SELECT * FROM "marts"."a" AS other',
        "SELECT * FROM MARTS.A",
        "SELECT * FROM marts.a -- and no more\n;",
    ],
)
def test_a_read_is_found_wherever_it_is(sql: str, dialect: str) -> None:
    assert order(spec("b", sql), spec("a", "SELECT 1 AS x"), dialect=dialect) == ["a", "b"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_cte_hides_a_table_only_where_it_is_seen(dialect: str) -> None:
    before = [spec("daily", "WITH orders AS (SELECT * FROM orders) SELECT * FROM orders")]
    made = spec("orders", "SELECT 1 AS x", target="orders")
    assert order(*before, made, dialect=dialect) == ["orders", "daily"]
    hidden = [spec("daily", "WITH orders AS (SELECT 1 AS x) SELECT * FROM orders")]
    assert order(*hidden, made, dialect=dialect) == ["daily", "orders"]
    recursive = (
        "WITH RECURSIVE orders AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM orders WHERE n < 5) SELECT * FROM orders"
    )
    assert order(spec("daily", recursive), made, dialect=dialect) == ["daily", "orders"]


def test_bare_names_lie_in_the_default_schema() -> None:
    made = spec("a", "SELECT 1 AS x", target="a")
    assert order(spec("b", "SELECT * FROM public.a"), made) == ["a", "b"]
    assert order(spec("b", "SELECT * FROM main.a"), made, dialect="duckdb") == ["a", "b"]
    assert order(spec("b", "SELECT * FROM main.a"), made) == ["b", "a"]


def test_case_counts_where_the_catalog_counts_it() -> None:
    made = spec("a", "SELECT 1 AS x", target="marts.Daily")
    assert order(spec("b", 'SELECT * FROM marts."Daily"'), made) == ["a", "b"]
    assert order(spec("b", "SELECT * FROM marts.Daily"), made) == ["b", "a"], "PostgreSQL reads marts.daily"
    assert order(spec("b", "SELECT * FROM MARTS.daily"), made, dialect="duckdb") == ["a", "b"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_only_an_incremental_reads_itself(dialect: str) -> None:
    sql = "SELECT max(x) + 1 AS x FROM marts.a"
    for materialize in ("view", "table"):
        with pytest.raises(ConfigurationError, match=r"reads its own target marts\.a"):
            order(spec("a", sql, materialize=materialize), dialect=dialect)
    assert order(spec("a", sql, materialize="incremental", primaryKey=["x"]), dialect=dialect) == ["a"]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "sql",
    ["DROP TABLE x", "SELECT 1; SELECT 2", "INSERT INTO x SELECT 1", "SELECT FROM WHERE", "-- nothing", ";", "(((",
     "SELECT 'open", "DELETE FROM x RETURNING *", "CREATE TABLE x AS SELECT 1"],
)  # fmt: skip
def test_what_is_no_single_select_is_refused_by_name(sql: str, dialect: str) -> None:
    with pytest.raises(ConfigurationError, match=r"transform 'a': sql (cannot be parsed|must be one SELECT)"):
        order(spec("a", sql), dialect=dialect)


def test_an_unknown_engine_lists_the_known() -> None:
    with pytest.raises(ConfigurationError, match=r"transform 'a'.*'sgl'.*known: .*sql.*did you mean 'sql'"):
        order(spec("a", "SELECT 1", type="sgl"))
