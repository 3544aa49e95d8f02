"""Changed rows merged into a table by key. The limit is the best of four statements that a person would write."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.benchmarks import dataset
from tests.benchmarks.command import Run, run, write_manifests
from tests.benchmarks.line import Line

_SET = ", ".join(f"{name} = s.{name}" for name in dataset.COLUMNS if name != "id")
_NAMES = ", ".join(dataset.COLUMNS)
_VALUES = ", ".join(f"s.{name}" for name in dataset.COLUMNS)


def statements(table: str) -> Mapping[str, tuple[str, ...]]:
    """Return the ways to bring the table `stage` into another by hand."""
    conflict = _SET.replace("s.", "excluded.")
    return {
        "MERGE": (
            f"""MERGE INTO {table} t USING stage s ON t.id = s.id WHEN MATCHED THEN UPDATE SET {_SET}
            WHEN NOT MATCHED THEN INSERT ({_NAMES}) VALUES ({_VALUES})""",
        ),
        "ON CONFLICT": (f"INSERT INTO {table} SELECT * FROM stage ON CONFLICT (id) DO UPDATE SET {conflict}",),
        "delete+insert": (
            f"DELETE FROM {table} t USING stage s WHERE t.id = s.id",
            f"INSERT INTO {table} SELECT * FROM stage",
        ),
    }


def change(table: str, base: int, count: int) -> list[str]:
    """Return the SQL that makes changed rows of a table of `base` rows: nine tenths are known keys spread over it, one
    tenth is new; every one has other values."""
    key = f"CASE WHEN id % 10 < 9 THEN (id - {base}) * 10 % {base} + 1 ELSE id END"
    values = ", ".join(key if name == "id" else "'changed'" if name == "note" else name for name in dataset.COLUMNS)
    return [
        dataset.source("made", count, first=base + 1),
        f"CREATE TABLE {table} (LIKE made)",
        f"INSERT INTO {table} SELECT {values} FROM made",
        f"ALTER TABLE {table} ADD PRIMARY KEY (id)",
        "DROP TABLE made",
    ]


class Merge(Line):
    name = "merge"
    title = "a tenth changed, merged by key into all"
    goal = 1.15

    @property
    def rows(self) -> int:
        return self.bench.tenth

    def prepare(self) -> None:
        self.server.sql("CREATE SCHEMA IF NOT EXISTS raw", "DROP TABLE IF EXISTS changed, changed_tenth, raw.merge")
        base, rows = self.bench.rows, self.rows
        source = {"type": "postgres", "config": self.server.config}
        for table, count in (("changed", rows), ("changed_tenth", max(rows // 10, 1))):
            self.server.sql(*change(table, base, count))
            suffix = table.removeprefix("changed")
            stream = {
                "name": f"public.{table}",
                "target": "raw.merge",
                "writeDisposition": "merge",
                "primaryKey": ["id"],
            }
            write_manifests(self.bench.folder, f"merge{suffix}", source, self.bench.warehouse, [stream])

    def before(self) -> None:
        self.server.sql(
            "DROP TABLE IF EXISTS raw.merge",
            "CREATE TABLE raw.merge (LIKE source)",
            "INSERT INTO raw.merge SELECT * FROM source",
            "ALTER TABLE raw.merge ADD PRIMARY KEY (id)",
            "ANALYZE raw.merge",
        )

    def limits(self) -> Mapping[str, Callable[[], float]]:
        def written(chosen: tuple[str, ...]) -> float:
            self.before()
            self.server.sql("CHECKPOINT")
            return self.server.piped(
                "COPY changed TO STDOUT (FORMAT binary)",
                "CREATE TEMP TABLE stage (LIKE changed)",
                "COPY stage FROM STDIN (FORMAT binary)",
                "ANALYZE stage",
                *chosen,
                flags="-qX1",
            )

        return {name: (lambda found=chosen: written(found)) for name, chosen in statements("raw.merge").items()}

    def verify(self, found: Run) -> None:
        wanted = dataset.Content(
            "(SELECT * FROM changed UNION ALL SELECT * FROM source s"
            " WHERE NOT EXISTS (SELECT FROM changed c WHERE c.id = s.id)) w"
        )
        self.same(wanted, dataset.Content("raw.merge"))

    def tenth(self) -> Run | None:
        return run(self.bench.folder, "merge_tenth")

    def clear(self) -> None:
        self.server.sql("DROP TABLE IF EXISTS changed, changed_tenth")
        super().clear()
