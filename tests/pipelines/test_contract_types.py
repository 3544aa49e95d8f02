"""Schema contracts through whole runs: types that change, and names that a warehouse cannot keep."""

from __future__ import annotations

from typing import Any

import pytest

from contract_place import BASE, FIRST, MORE, SECOND, Columns, Place, counts, outcome, place, servers, shown
from servers.plugin import postgres_server

__all__ = ["place", "postgres_server", "servers"]


# before, value, after, value; the catalog's words once widened, per warehouse.
WIDENED = [
    ("integer", 7, "bigint", 2**40, "bigint", "bigint"),
    ("smallint", 7, "integer", 70_000, "integer", "integer"),
    ("varchar(3)", "abc", "varchar(20)", "abcdef", "character varying", "varchar"),
    ("varchar(3)", "abc", "text", "abcdef", "text", "varchar"),
    ("numeric(10,2)", "1.50", "numeric(12,2)", "9999999999.99", "numeric", "decimal(12,2)"),
    ("numeric(10,2)", "1.50", "numeric(14,4)", "1.2345", "numeric", "decimal(14,4)"),
    ("bigint", 7, "numeric(20,0)", "18446744073709551615", "numeric", "decimal(20,0)"),
    ("date", "2026-01-01", "timestamp", "2026-01-01 10:00:00", "timestamp without time zone", "timestamp"),
]


@pytest.mark.parametrize(("before", "value", "after", "larger", "postgres", "duckdb"), WIDENED)
def test_a_type_is_widened(
    place: Place, before: str, value: Any, after: str, larger: Any, postgres: str, duckdb: str
) -> None:
    place.run({"id": "bigint", "v": before}, [{"id": 1, "v": value}])
    was = str(place.rows("id, v")[0][1])
    new = [{"id": 2, "v": larger}, {"id": 3, "v": value}]
    frozen = place.run({"id": "bigint", "v": after}, new)
    assert counts(frozen) == (2, 1, 1, 0), "the row that does not fit is set aside"
    assert place.rules() == ["cast(v)"]
    ((_, change, *_, action),) = shown(frozen)
    assert (change, action.endswith("rows that do not fit are set aside")) == ("widened", True)
    wide = place.run({"id": "bigint", "v": after}, new[:1], contract={"types": "evolve"})
    assert counts(wide) == (1, 1, 0, 0)
    assert [(change, action) for _, change, *_, action in shown(wide)] == [("widened", "widened")]
    assert place.types()["v"] == (postgres if place.warehouse.type == "postgres" else duckdb)
    assert place.ask(f"SELECT count(*) FROM {place.target}") == [(3,)]
    assert str(place.rows("id, v")[0][1])[:3] == was[:3]
    assert shown(place.run({"id": "bigint", "v": after}, [], contract={"types": "evolve"})) == []


def test_a_real_is_widened_or_rounds_and_says_so(place: Place) -> None:
    place.run({"id": "bigint", "v": "real"}, [{"id": 1, "v": "0.5"}])
    report = place.run({"id": "bigint", "v": "double precision"}, [{"id": 2, "v": "0.1"}])
    assert [item[-1] for item in shown(report)] == ["stays real: values are rounded to it"]
    report = place.run({"id": "bigint", "v": "double precision"}, [{"id": 3, "v": "0.1"}], contract={"types": "evolve"})
    assert [item[-1] for item in shown(report)] == ["widened"]
    assert [v == 0.1 for _, v in place.rows("id, v")] == [False, False, True]


NOT_WIDENED = [
    ("bigint", 2**40, "integer", 5, "narrowed", "stays bigint", 1),
    ("text", "a", "integer", 5, "retyped", "stays text", 1),
    ("integer", 5, "text", "five", "retyped", "stays integer: rows that do not fit are set aside", 0),
    ("integer", 5, "text", "6", "retyped", "stays integer: rows that do not fit are set aside", 1),
    ("boolean", True, "timestamptz", "2026-01-01", "retyped", "stays boolean: rows that do not fit are set aside", 0),
    ("timestamp", "2026-01-01", "timestamptz", "2026-01-01T00:00:00Z", "retyped",
     "stays timestamp: rows that do not fit are set aside", 1),
    ("numeric(12,2)", "1.50", "numeric(12,4)", "1.2345", "retyped",
     "stays numeric(12,2): rows that do not fit are set aside", 0),
]  # fmt: skip


@pytest.mark.parametrize(("before", "value", "after", "later", "change", "action", "loaded"), NOT_WIDENED)
def test_other_changes_of_a_type_keep_the_targets(
    place: Place, before: str, value: Any, after: str, later: Any, change: str, action: str, loaded: int
) -> None:
    place.run({"id": "bigint", "v": before}, [{"id": 1, "v": value}])
    kind = place.types()["v"]
    report = place.run({"id": "bigint", "v": after}, [{"id": 2, "v": later}], contract={"types": "evolve"})
    assert counts(report) == (1, loaded, 1 - loaded, 0)
    assert shown(report) == [("v", change, before, after, action)]
    assert place.types()["v"] == kind


@pytest.mark.parametrize(
    ("columns", "part"),
    [
        ({"x" * 64: "text"}, "is longer than 63 bytes; rename it"),
        ({"ü" * 32: "text"}, "is longer than 63 bytes; rename it"),
        ({"ctid": "text"}, "is one of PostgreSQL's own; rename it"),
    ],
)
def test_names_that_postgres_cannot_keep(servers: dict[str, Any], columns: Columns, part: str) -> None:
    place = Place(*servers["postgres"])
    report = place.run({"id": "bigint", **columns}, [])
    assert outcome(report) == (78, "InvalidConfiguration")
    assert part in report.message


def test_names_that_differ_in_case(place: Place) -> None:
    report = place.run({"Id": "bigint", "id": "bigint"}, [{"Id": 1, "id": 2}])
    if place.warehouse.type == "postgres":
        assert place.rows('"Id", id') == [(1, 2)]
    else:
        assert outcome(report) == (78, "InvalidConfiguration")
        assert "differ in case only" in report.message


def test_a_long_table_name_is_refused_before_the_server_cuts_it(servers: dict[str, Any]) -> None:
    place = Place(*servers["postgres"])
    place.target = "raw." + "t" * 64
    assert "is longer than 63 bytes" in place.run(BASE, FIRST).message


def test_a_generated_column_of_the_target_takes_no_values(servers: dict[str, Any]) -> None:
    place = Place(*servers["postgres"])
    place.ask(
        f"CREATE TABLE {place.target} (id bigint GENERATED ALWAYS AS IDENTITY, v text, "
        "w integer GENERATED ALWAYS AS (length(v)) STORED)"
    )
    report = place.run(MORE, SECOND)
    assert outcome(report) == (78, "InvalidConfiguration")
    assert "`columns: [{name: w, drop: true}]`" in report.message
    assert counts(place.run(MORE, SECOND, columns=[{"name": "w", "drop": True}])) == (2, 2, 0, 0)
    assert place.rows("id, v, w") == [(2, "b", 1), (3, "c", 1)]
