"""Nested ndjson → a table with its lists as jsonb. The limit is DuckDB reading, pgpq encoding and COPY, by hand."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks import dataset
from tests.benchmarks.command import Run, run, write_manifests
from tests.benchmarks.line import Line
from tests.measuring import measured

_RECORD = """
CREATE TABLE {table} AS SELECT n::bigint AS id, timestamptz '2024-01-01Z' + n * interval '1 second' AS at,
  (n * 7919 % 10000000 / 100.0)::numeric(12,2) AS amount, 'Straße ' || n % 5000 AS name,
  CASE WHEN n % 5 > 0 THEN 'note ' || n % 1000 END AS note, n % 7 = 0 AS flag,
  jsonb_build_object('id', n % 100000, 'city', 'Zürich', 'score', round(n % 1000 / 8.0, 3)) AS customer,
  jsonb_build_array(jsonb_build_object('sku', 'a' || n % 100, 'quantity', n % 10, 'price', round(n % 997 / 4.0, 2)),
    jsonb_build_object('sku', 'b' || n % 100, 'quantity', 1, 'price', 0.1)) AS items
FROM generate_series(1::bigint, {rows}) n
"""
TYPES = {
    "id": "bigint",
    "at": "timestamptz",
    "amount": "numeric(12,2)",
    "name": "text",
    "note": "text",
    "flag": "boolean",
    "customer": "jsonb",
    "items": "jsonb",
}
_ITEM = {"sku": "text", "quantity": "bigint", "price": "numeric"}
# As csv with marks that no JSON has, so that the text goes out as it is.
_RAW = "(FORMAT csv, DELIMITER E'\\x02', QUOTE E'\\x01')"


class Ndjson(Line):
    name = "ndjson"
    title = "nested ndjson → postgres, lists as jsonb"
    goal = 1.5
    note = "the limit writes numbers inside json anew (0.250 becomes 0.25), ours keeps them"
    columns: Sequence[str] = tuple(TYPES)
    """Columns of which the manifest says the type."""
    extra: Mapping[str, Any] = {}

    @property
    def rows(self) -> int:
        return max(self.bench.rows // 3, 1)

    def prepare(self) -> None:
        self.server.sql("CREATE SCHEMA IF NOT EXISTS raw")
        columns = [{"name": column, "type": TYPES[column]} for column in self.columns]
        for suffix, count in (("", self.rows), ("_tenth", max(self.rows // 10, 1))):
            table = f"records{suffix}"
            self.server.sql(
                f"DROP TABLE IF EXISTS {table}",
                _RECORD.format(table=table, rows=count),
                f"\\copy (SELECT to_json(r)::text FROM {table} r) TO '{self.bench.files / table}.ndjson' {_RAW}",
            )
            streams = [{"name": "rows", "glob": f"{table}.ndjson", "format": "ndjson"}]
            write_manifests(
                self.bench.folder,
                f"{self.name}{suffix}",
                {"type": "files", "config": {"url": str(self.bench.files), "streams": streams}},
                self.bench.warehouse,
                [{"name": "rows", "target": f"raw.{self.name}", "columns": columns, **self.extra}],
            )
        self.server.sql("DROP TABLE IF EXISTS raw.limit_ndjson", "CREATE TABLE raw.limit_ndjson (LIKE records)")

    def limits(self) -> Mapping[str, Callable[[], float]]:
        def by_hand() -> float:
            self.server.sql("TRUNCATE raw.limit_ndjson")
            script = str(Path(__file__).with_name("limit_ndjson.py"))
            done = measured(
                [sys.executable, script, str(self.bench.files / "records.ndjson"), self.server.dsn], self.bench.folder
            )
            if done.code:
                raise SystemExit(f"the limit of {self.name} ended with {done.code}: {done.err[-2000:]}")
            return done.wall_s

        return {"duckdb + pgpq": by_hand}

    def before(self) -> None:
        self.server.sql(f"DROP TABLE IF EXISTS raw.{self.name}")

    def verify(self, found: Run) -> None:
        columns = tuple(TYPES)
        self.same(dataset.Content("records", columns), dataset.Content("raw.ndjson", columns))
        plain = [name for name, kind in TYPES.items() if kind != "jsonb"]
        self.same(dataset.Content("records", plain), dataset.Content("raw.limit_ndjson", plain))

    def tenth(self) -> Run | None:
        return run(self.bench.folder, f"{self.name}_tenth")

    def clear(self) -> None:
        self.server.sql("DROP TABLE IF EXISTS records, records_tenth")
        super().clear()


class Nested(Ndjson):
    name = "nested"
    title = "nested ndjson → postgres, object as columns, list as a child table"
    note = "the limit loads no child table: the list stays jsonb in its parent"
    columns = tuple(name for name, kind in TYPES.items() if kind != "jsonb")
    extra: Mapping[str, Any] = {"primaryKey": ["id"], "nested": {"objects": "columns", "lists": "tables"}}

    def before(self) -> None:
        self.server.sql("DROP TABLE IF EXISTS raw.nested, raw.nested__items")

    def verify(self, found: Run) -> None:
        fields = {"customer__id": "bigint", "customer__city": "text", "customer__score": "numeric"}
        sent = [f"(customer ->> '{name.removeprefix('customer__')}')::{kind}" for name, kind in fields.items()]
        self.same(
            dataset.Content("records", [*self.columns, *sent]), dataset.Content("raw.nested", [*self.columns, *fields])
        )
        items = (
            "(SELECT id, item, place - 1 AS place FROM records, "
            "jsonb_array_elements(items) WITH ORDINALITY AS i (item, place)) i"
        )
        self.same(
            dataset.Content(items, ["id", "place", *(f"(item ->> '{n}')::{k}" for n, k in _ITEM.items())]),
            dataset.Content("raw.nested__items", ["_parent_id", "_index", *_ITEM]),
        )
