"""What other tools are asked to do: the rows, the same by hand as the limit, and what must be there afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import dataset
from tests.benchmarks.merging import change, statements
from tests.benchmarks.server import Server

SOURCE, TEXTS = "peer_source", "peer_source_texts"
"""The rows; and the same with uuid as text, for a tool that fails on uuid."""
CHANGED, CHANGED_TEXTS = "peer_changed", "peer_changed_texts"
_LIMIT = "raw.limit_peer"


@dataclass(frozen=True)
class Work:
    """One line that peers are measured on. `expected`: the rows that must be in the target, for FROM."""

    name: str
    title: str
    expected: str

    def limit(self, server: Server, file: Path) -> float:
        """Do it by hand; return the seconds."""
        server.sql(f"DROP TABLE IF EXISTS {_LIMIT}", f"CREATE TABLE {_LIMIT} (LIKE {SOURCE})", "CHECKPOINT")
        if self.name == "csv":
            return server.timed(f"\\copy {_LIMIT} FROM '{file}' (FORMAT csv, HEADER)")
        if self.name == "copy":
            return server.piped(f"COPY {SOURCE} TO STDOUT (FORMAT binary)", f"COPY {_LIMIT} FROM STDIN (FORMAT binary)")
        key = f"ALTER TABLE {_LIMIT} ADD PRIMARY KEY (id)"
        server.sql(f"INSERT INTO {_LIMIT} SELECT * FROM {SOURCE}", key, f"ANALYZE {_LIMIT}", "CHECKPOINT")
        into = statements(_LIMIT)["delete+insert"]
        stage = (
            "CREATE TEMP TABLE stage (LIKE peer_changed)",
            "COPY stage FROM STDIN (FORMAT binary)",
            "ANALYZE stage",
        )
        return server.piped(f"COPY {CHANGED} TO STDOUT (FORMAT binary)", *stage, *into, flags="-qX1")


WORKS: Mapping[str, Work] = {
    work.name: work
    for work in (
        Work("copy", "postgres → postgres", SOURCE),
        Work("csv", "csv → postgres", SOURCE),
        Work(
            "merge",
            "a tenth changed, merged by key",
            f"(SELECT * FROM {CHANGED} UNION ALL SELECT * FROM {SOURCE} WHERE id NOT IN (SELECT id FROM {CHANGED})) w",
        ),
    )
}


def prepare(server: Server, rows: int, file: Path) -> None:
    """Make the rows, the changed ones, and the csv file."""
    columns = ", ".join(f"{c}::text AS {c}" if kind == "uuid" else c for c, kind in dataset.TYPES.items())
    server.sql(
        f"DROP TABLE IF EXISTS {SOURCE}, {CHANGED}, {_LIMIT} CASCADE",
        "CREATE SCHEMA IF NOT EXISTS raw",
        "CREATE SCHEMA IF NOT EXISTS peer_pgloader",
        dataset.source(SOURCE, rows),
        *change(CHANGED, rows, max(rows // 10, 1)),
        f"CREATE VIEW {TEXTS} AS SELECT {columns} FROM {SOURCE}",
        f"CREATE VIEW {CHANGED_TEXTS} AS SELECT {columns} FROM {CHANGED}",
        f"\\copy {SOURCE} TO '{file}' (FORMAT csv, HEADER)",
        "ANALYZE",
    )


def clear(server: Server) -> None:
    """Drop it all."""
    server.sql(f"DROP TABLE IF EXISTS {SOURCE}, {CHANGED} CASCADE", "DROP SCHEMA IF EXISTS raw, peer_pgloader CASCADE")
