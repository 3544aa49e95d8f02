"""What stands in the way of turning a plain table: decided by literals, and read from a real catalog."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.retention.conversion_sql import before, named_before
from millstream_pipelines.retention.convert import convert, plan
from millstream_pipelines.retention.facts import table_facts
from millstream_pipelines.retention.obstacles import Range, obstacles, upper_bound
from millstream_pipelines.retention.plain import (
    ColumnFacts,
    Constraint,
    Incoming,
    IndexFacts,
    PlainTable,
    TriggerFacts,
    ViewFacts,
)
from millstream_pipelines.retention.spans import Grid, Span
from retained import BY, patient
from servers.plugin import any_postgres_database, newest_postgres_server, postgres_server
from servers.postgres import Postgres

__all__ = ["any_postgres_database", "newest_postgres_server", "postgres_server"]

GRID = Grid("timestamp", Span.of("1 month"), ZoneInfo("Etc/UTC"))
NOW = datetime(2026, 11, 23)
AT = ColumnFacts("at", required=True)
CASES: list[tuple[dict[str, Any], Range, list[str]]] = [
    ({}, Range(), []),
    ({}, Range(datetime(2027, 3, 1)), []),
    ({"constraints": (Constraint("k", "p", "", ("id", "at")), Constraint("c", "c", ""))}, Range(), []),
    ({"columns": ()}, Range(), ["no column 'at'"]),
    ({"columns": (ColumnFacts("at", True, generated=True),)}, Range(), ["is generated"]),
    ({}, Range(NOW, has_nulls=True), ["rows without a value in 'at'"]),
    ({}, Range(None, odd="infinity"), ["is infinity"]),
    ({}, Range(datetime(9999, 1, 1)), ["9999-01-01 00:00:00, more than 1000 partitions from now"]),
    ({"constraints": (Constraint("k", "p", "", ("id",)),)}, Range(), ["primary key k (id) does not contain 'at'"]),
    ({"constraints": (Constraint("u", "u", "", ("a", "b")),)}, Range(), ["unique constraint u (a, b) does not"]),
    ({"constraints": (Constraint("x", "x", ""),)}, Range(), ["exclusion constraint x"]),
    ({"constraints": (Constraint("c", "c", "", inherited=False),)}, Range(), ["check c is NO INHERIT"]),
    ({"constraints": (Constraint("f", "f", "", validated=False),)}, Range(), ["constraint f is NOT VALID"]),
    ({"indexes": (IndexFacts("i", "", unique=True),)}, Range(), ["unique index i does not contain"]),
    ({"indexes": (IndexFacts("i", "", valid=False),)}, Range(), ["index i is invalid"]),
    ({"incoming": (Incoming("f", "s.o", "", itself=True),)}, Range(), ["refers to the table itself"]),
    ({"incoming": (Incoming("f", "s.o", "", partitioned=True),)}, Range(), ["f of s.o, a partitioned table"]),
    ({"incoming": (Incoming("f", "s.o", "", validated=False),)}, Range(), ["f of s.o is NOT VALID"]),
    ({"incoming": (Incoming("f", "s.o", "… NOT ENFORCED"),)}, Range(), ["f of s.o is NOT ENFORCED"]),
    ({"incoming": (Incoming("f", "s.o", "", owned=False),)}, Range(), ["belongs to another role"]),
    ({"incoming": (Incoming("f", "s.o", ""),), "views": (ViewFacts("s.v", ""),)}, Range(), []),
    ({"views": (ViewFacts("s.v", "", owned=False),)}, Range(), ["view s.v must be made anew"]),
    ({"triggers": (TriggerFacts("g", "", transition=True), TriggerFacts("h", ""))}, Range(), ["trigger g"]),
    ({"owned": False, "owner": "boss"}, Range(), ["belongs to role boss"]),
    ({"persistence": "u", "typed": True}, Range(), ["unlogged", "typed table"]),
    ({"extension": "postgis", "labels": ("x: y",)}, Range(), ["extension postgis", "security labels"]),
]


@pytest.mark.parametrize(("facts", "held", "expected"), CASES)
def test_each_obstacle_has_a_name_and_a_way_out(facts: dict[str, Any], held: Range, expected: list[str]) -> None:
    found = obstacles(PlainTable("s.t", **{"columns": (AT,), **facts}), BY, GRID, NOW, held)
    assert len(found) == len(expected)
    for text, part in zip(found, expected, strict=True):
        assert part in text


@pytest.mark.parametrize(("largest", "expected"), [
    (None, datetime(2027, 2, 1)),
    (datetime(2020, 1, 1), datetime(2027, 2, 1)),
    (datetime(2027, 5, 9), datetime(2027, 8, 1)),
])  # fmt: skip
def test_the_old_range_ends_beyond_what_is_made_ahead(largest: datetime | None, expected: datetime) -> None:
    assert upper_bound(GRID, NOW, Range(largest), BY.premake) == expected


def test_names_fit() -> None:
    assert before("s.t") == "s.t_before"
    assert before("t") == "public.t_before"
    long = named_before("ä" * 31)
    assert long.endswith("_before")
    assert len(long.encode()) <= 63
    assert long != named_before("ä" * 30 + "b")


CATALOG = """
CREATE TYPE kind AS (at timestamptz);
CREATE TABLE base (at timestamptz NOT NULL, id int);
CREATE TABLE events (PRIMARY KEY (id)) INHERITS (base);
CREATE TABLE more () INHERITS (events);
CREATE MATERIALIZED VIEW seen AS SELECT count(*) FROM events;
CREATE PUBLICATION changes FOR TABLE events;
CREATE RULE quiet AS ON DELETE TO events DO ALSO NOTHING;
CREATE FUNCTION counted() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM events; END;
CREATE FUNCTION told(events) RETURNS text LANGUAGE sql AS 'SELECT $1::text';
CREATE TABLE others (e events);
INSERT INTO events VALUES (now(), 1);
"""


def test_a_catalog_full_of_obstacles(any_postgres_database: Postgres) -> None:
    any_postgres_database.execute(CATALOG)
    with patient(any_postgres_database) as ddl:
        facts = table_facts(ddl, "public.events")
        text = "\n".join(plan(ddl, facts, BY))
        for part in (
            "it inherits from public.base", "tables inherit from it: public.more", "primary key events_pkey (id)",
            "materialized view public.seen", "publication changes", "rule quiet", "function public.counted()",
            "function public.told(public.events)", "column e of table public.others",
        ):  # fmt: skip
            assert part in text
        with pytest.raises(ConfigurationError, match="Nothing was changed"):
            convert(ddl, facts, BY)
        assert table_facts(ddl, "public.events").shape == "plain"
        assert ddl.rows("SHOW search_path")[0][0] != ""
        by = BY.model_copy(update={"column": "id"})
        assert "give a bare number" in plan(ddl, facts, by)[0]
        assert "has no column 'x'" in plan(ddl, facts, BY.model_copy(update={"column": "x"}))[0]


def test_values_that_lie_in_no_partition(any_postgres_database: Postgres) -> None:
    any_postgres_database.execute("CREATE TABLE events AS SELECT timestamptz 'infinity' AS at UNION ALL SELECT NULL")
    with patient(any_postgres_database) as ddl:
        found = plan(ddl, table_facts(ddl, "public.events"), BY)
    assert ["without a value" in found[0], "is infinity" in found[1], len(found)] == [True, True, 2]
