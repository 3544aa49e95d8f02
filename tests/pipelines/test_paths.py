"""The raw path between two real PostgreSQLs: what passes undecoded, what does not, and nothing lost on the way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from millstream_api import Endpoint, RunOptions, RunPlan, RunReport
from millstream_api.pipeline import PipelineSpec
from millstream_pipelines.explaining import explain
from millstream_pipelines.runner import RunRequest, execute
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

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


class Pair:
    """A source database, a warehouse database, and a pipeline from one to the other."""

    def __init__(self, source: Postgres, warehouse: Postgres) -> None:
        self.source, self.warehouse, self.runs = source, warehouse, 0
        self.stream: dict[str, Any] = {"name": "public.t", "target": "raw.t"}
        self.config: dict[str, Any] = {}

    def request(self, **spec: Any) -> RunRequest:
        pipeline = {"sourceRef": {"name": "s"}, "warehouseRef": {"name": "w"}, "streams": [self.stream], **spec}
        plan = RunPlan(
            action="run",
            namespace="test",
            name="paths",
            source=Endpoint(name="s", type="postgres", config={**self.source.config, **self.config}),
            warehouse=Endpoint(name="w", type="postgres", config=dict(self.warehouse.config)),
            pipeline=PipelineSpec.model_validate(pipeline),
        )
        return RunRequest(plan, {}, f"run-{self.runs}", "test", RunOptions())

    def run(self, **stream: Any) -> RunReport:
        """Run once; whatever comes of it, every row is accounted for."""
        self.runs += 1
        self.stream |= stream
        report = execute(self.request())
        assert [item.balance() for item in report.streams] == [0] * len(report.streams)
        return report

    def path(self, **stream: Any) -> str:
        self.stream |= stream
        return explain(self.request())[0].path

    def seen(self, columns: str = "*", database: Postgres | None = None, table: str = "raw.t") -> list[tuple[Any, ...]]:
        return (database or self.warehouse).execute(f"SELECT {columns} FROM {table} ORDER BY 1")


@pytest.fixture
def pair(postgres_server: Postgres, postgres_database: Postgres) -> Iterator[Pair]:
    with postgres_server.fresh_database() as other:
        yield Pair(postgres_database, other)


def done(report: RunReport) -> tuple[int, int, int]:
    assert report.exit_code == 0, report.message
    assert report.totals is not None
    return report.totals.read, report.totals.loaded, report.totals.quarantined


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
