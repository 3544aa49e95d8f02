"""The raw path between two real PostgreSQLs: what passes undecoded, what does not, and nothing lost on the way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from postgres_pair import Pair, done, numbered, pair
from servers.plugin import postgres_database, postgres_server

__all__ = ["pair", "postgres_database", "postgres_server"]

# The values of every type that passes undecoded; text forms. NULL comes with each.
TYPES: dict[str, list[str]] = {
    "smallint": ["-32768", "32767"],
    "integer": ["-2147483648", "2147483647"],
    "bigint": ["-9223372036854775808", "9223372036854775807"],
    "numeric": ["0.10", "-1e-300", "NaN", "Infinity", "-Infinity", "12345678901234567890123456789012345678901234.5"],
    "numeric(12,2)": ["-0.01", "9999999999.99", "NaN"],
    "numeric(3,-2)": ["99900"],
    "real": ["1.17549435e-38", "NaN", "-Infinity", "0.1"],
    "double precision": ["0.1", "NaN", "Infinity", "5e-324", "-0"],
    "boolean": ["true", "false"],
    "text": ["", " ", "NULL", "näïve 雪 🐟", "a\tb\nc\\", "x" * 100_000],
    "varchar(9)": ["", "abc"],
    "char(4)": ["ab", "abcd"],
    '"char"': ["x"],
    "name": ["n"],
    "bytea": ["\\x", "\\x00ff5c", "\\xffff"],
    "date": ["0001-01-01", "9999-12-31", "4713-01-01 BC", "infinity", "-infinity"],
    "time": ["00:00:00", "24:00:00"],
    "time(3)": ["12:34:56.789"],
    "timetz": ["12:00:00.5+02", "24:00:00-15:59"],
    "timestamp": ["4713-01-01 00:00:00 BC", "294276-12-31 23:59:59.999999", "infinity"],
    "timestamptz": ["1970-01-01 00:00:00.000001+05:30", "-infinity"],
    "timestamp(3)": ["2026-01-01 00:00:00.123"],
    "interval": ["1 mon 2 days -00:00:00.5", "-1 year", "178000000 years"],
    "interval day to second(3)": ["2 days 00:00:00.5"],
    "uuid": ["123e4567-e89b-12d3-a456-426614174000"],
    "json": ['{"b": 1,  "a": [1, 1e400]}', "null"],
    "jsonb": ['{"a": 12345678901234567890.123, "b": "\\u00e9"}', "null"],
    "inet": ["10.0.0.0/8", "::1"],
    "cidr": ["10.0.0.0/8"],
    "macaddr": ["08:00:2b:01:02:03"],
    "macaddr8": ["08:00:2b:01:02:03:04:05"],
    "bit(3)": ["101"],
    "bit varying(8)": ["1", ""],
    "oid": ["4294967295"],
    "pg_lsn": ["16/B374D848"],
    "tsvector": ["'a':1A 'ü':2"],
    "tsquery": ["'a' & !'ü':*B"],
    "point": ["(0.1,2)", "(NaN,Infinity)"],
    "line": ["{1,2,3}"],
    "lseg": ["[(0,0),(1,2)]"],
    "box": ["(3,4),(1,2)"],
    "path": ["[(0,0),(1,1)]", "((0,0),(1,1))"],
    "polygon": ["((0,0),(1,1),(1,0))"],
    "circle": ["<(1,2),3>"],
    "int4range": ["[1,5)", "empty", "(,)"],
    "int8range": ["[1,5)"],
    "numrange": ["[1.50,2.5]"],
    "tsrange": ["[2026-01-01 00:00:00,infinity]"],
    "tstzrange": ['["2026-01-01 00:00:00+00",)'],
    "daterange": ["[2026-01-01,2026-02-01)"],
    "int4multirange": ["{[1,3),[5,9)}"],
    "nummultirange": ["{}"],
    "tstzmultirange": ['{["2026-01-01 00:00:00+00",)}'],
    "integer[]": ["{}", "{1,NULL,3}", "{{1,2},{3,4}}", "[0:1]={5,6}"],
    "text[]": ['{"a,b","c\\"d",NULL,"NULL"}'],
    "numeric(5,1)[]": ["{NaN,1.5}"],
    "timestamptz[]": ['{"2026-01-01 00:00:00+00",infinity}'],
    "uuid[]": ["{123e4567-e89b-12d3-a456-426614174000}"],
    "int4range[]": ['{"[1,5)",empty}'],
}


@pytest.mark.parametrize("disposition", ["append", "merge"])
def test_every_type_passes_undecoded(disposition: str, pair: Pair) -> None:
    count = max(map(len, TYPES.values())) + 1
    columns = [f'"c{n}" {kind}' for n, kind in enumerate(TYPES)]
    pair.source.execute(f"CREATE TABLE t (id bigint PRIMARY KEY, {', '.join(columns)})")
    for row in range(count):
        values = [
            "'" + items[row].replace("'", "''") + f"'::text::{kind}" if row < len(items) else "NULL"
            for kind, items in TYPES.items()
        ]
        pair.source.execute(f"INSERT INTO t VALUES ({row}, {', '.join(values)})")
    pair.stream |= {"writeDisposition": disposition, "primaryKey": ["id"]}
    assert pair.path().startswith("raw: ")
    assert done(pair.run()) == (count, count, 0)
    texts = "id, " + ", ".join(f'"c{n}"::text' for n in range(len(TYPES)))
    assert pair.seen(texts) == pair.seen(texts, pair.source, "t")
    shape = "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = '{}'::regclass"
    wanted = pair.source.execute(shape.format("t") + " AND attnum > 0 ORDER BY attnum")
    assert pair.warehouse.execute(shape.format("raw.t") + " AND attnum > 0 ORDER BY attnum") == wanted


def test_what_users_made_goes_as_text_and_undecoded(pair: Pair) -> None:
    for statement in (
        "CREATE TYPE mood AS ENUM ('ok', 'sad')",
        "CREATE TYPE pair AS (a int, b text)",
        "CREATE DOMAIN price AS numeric(10,2) CHECK (value > 0)",
        "CREATE TABLE t (id int, c mood, d mood[], e pair, f price)",
        "INSERT INTO t VALUES (1, 'ok', '{ok,sad}', ROW(1, 'x, y'), 2.5)",
    ):
        pair.source.execute(statement)
    assert pair.path().startswith("raw: ")
    assert done(pair.run()) == (1, 1, 0)
    assert pair.seen("c, d, e, f::text") == [("ok", ["ok", "sad"], '(1,"x, y")', "2.50")]


@pytest.mark.parametrize("kind", ["money", "xml", "regclass", "xid", "aclitem[]"])
def test_what_means_something_else_elsewhere_is_decoded(kind: str, pair: Pair) -> None:
    pair.source.execute(f"CREATE TABLE t (id int, v {kind})")
    assert f"the bytes of column 'v' ({kind}) may mean something else to another server" in pair.path()


def test_encodings_may_differ(pair: Pair) -> None:
    for database, encoding in ((pair.source, "LATIN1"), (pair.warehouse, "UTF8")):
        name = f"{database.database}_{encoding.lower()}"
        database.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    source = replace(pair.source, database=f"{pair.source.database}_latin1")
    warehouse = replace(pair.warehouse, database=f"{pair.warehouse.database}_utf8")
    try:
        source.execute("CREATE TABLE t AS SELECT 1 AS id, chr(228) || 'ß' AS name")
        other = Pair(source, warehouse)
        other.config = {"options": {"client_encoding": "LATIN1"}}
        assert other.path().startswith("raw: ")
        assert done(other.run()) == (1, 1, 0)
        assert other.seen() == [(1, "äß")]
    finally:
        for database in (source, warehouse):
            pair.source.execute(f"DROP DATABASE IF EXISTS {database.database} WITH (FORCE)")


@pytest.mark.parametrize("query", [False, True], ids=["view", "query"])
def test_views_and_queries_pass_undecoded(query: bool, pair: Pair) -> None:
    numbered(pair.source, 10)
    pair.source.execute("CREATE VIEW v AS SELECT id, upper(name) AS name FROM t WHERE id < 4")
    pair.stream["name"] = "public.v"
    if query:
        pair.config = {"streams": [{"name": "q", "query": "SELECT * FROM v"}]}
        pair.stream["name"] = "q"
    assert pair.path().startswith("raw: ")
    assert done(pair.run()) == (3, 3, 0)
    assert pair.seen() == [(1, "NAME 1"), (2, "NAME 2"), (3, "NAME 3")]


def test_selected_columns_only(pair: Pair) -> None:
    numbered(pair.source, 3, "n AS id, 1 AS private, n * 2 AS twice")
    assert done(pair.run(select=["twice", "id"])) == (3, 3, 0)
    assert pair.seen("id, twice") == [(1, 2), (2, 4), (3, 6)]
    assert pair.warehouse.execute("SELECT to_jsonb(t) - 'id' - 'twice' FROM raw.t t LIMIT 1") == [({},)]


@pytest.mark.parametrize("rows", [0, 5])
def test_replace_and_an_empty_table(rows: int, pair: Pair) -> None:
    numbered(pair.source, rows)
    assert done(pair.run(writeDisposition="replace")) == (rows, rows, 0)
    pair.source.execute("UPDATE t SET name = 'new'")
    assert done(pair.run()) == (rows, rows, 0)
    assert pair.seen() == [(n, "new") for n in range(1, rows + 1)]


def test_a_merge_goes_through_the_stage_and_the_last_row_of_a_key_wins(pair: Pair) -> None:
    pair.source.execute("CREATE TABLE t AS SELECT n % 10 AS id, n AS v FROM generate_series(1, 1000) n")
    pair.source.execute("ALTER TABLE t ALTER id SET NOT NULL")
    report = pair.run(writeDisposition="merge", primaryKey=["id"])
    assert done(report) == (1000, 10, 0)
    assert report.streams[0].duplicate == 990
    assert pair.seen() == [(0, 1000), *((n, 990 + n) for n in range(1, 10))]


def test_rows_that_a_trigger_drops_are_a_gap(pair: Pair) -> None:
    numbered(pair.source, 5)
    for statement in (
        "CREATE SCHEMA raw",
        "CREATE TABLE raw.t (id int, name text)",
        "CREATE FUNCTION one() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER d BEFORE INSERT ON raw.t FOR EACH ROW EXECUTE FUNCTION one()",
    ):
        pair.warehouse.execute(statement)
    report = pair.run()
    assert (report.exit_code, report.reason) == (65, "AccountingGap")
    assert pair.seen() == []
