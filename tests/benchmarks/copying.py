"""PostgreSQL → PostgreSQL: as it is, and with checks, a cast and a mask. The limit is psql's binary COPY pipe."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from tests.benchmarks import dataset
from tests.benchmarks.command import Run, run, write_manifests
from tests.benchmarks.line import Line


class Copy(Line):
    name = "copy"
    title = "postgres → postgres, types kept, no checks"
    goal = 1.0
    extra: Mapping[str, Any] = {}

    def prepare(self) -> None:
        self.server.sql(
            "CREATE SCHEMA IF NOT EXISTS raw",
            f"DROP TABLE IF EXISTS raw.limit_{self.name}",
            f"CREATE TABLE raw.limit_{self.name} (LIKE source)",
        )
        source = {"type": "postgres", "config": self.server.config}
        for suffix, table in (("", "source"), ("_tenth", "source_tenth")):
            stream = {"name": f"public.{table}", "target": f"raw.{self.name}", **self.extra}
            write_manifests(self.bench.folder, f"{self.name}{suffix}", source, self.bench.warehouse, [stream])

    def limits(self) -> Mapping[str, Callable[[], float]]:
        def binary() -> float:
            table = f"raw.limit_{self.name}"
            self.server.sql(f"TRUNCATE {table}")
            return self.server.piped(
                "COPY source TO STDOUT (FORMAT binary)", f"COPY {table} FROM STDIN (FORMAT binary)"
            )

        return {"psql binary pipe": binary}

    def before(self) -> None:
        self.server.sql(f"DROP TABLE IF EXISTS raw.{self.name}")

    def verify(self, found: Run) -> None:
        self.same(dataset.Content("source"), dataset.Content(f"raw.{self.name}"))

    def tenth(self) -> Run | None:
        return run(self.bench.folder, f"{self.name}_tenth")


class Checked(Copy):
    name = "checked"
    title = "postgres → postgres, 8 checks, cast, mask"
    goal = 1.4
    extra: Mapping[str, Any] = {
        "columns": [{"name": "quantity", "type": "bigint"}, {"name": "note", "mask": "hash"}],
        "checks": dataset.CHECKS,
    }

    def verify(self, found: Run) -> None:
        key = f"default/{self.name}".encode()
        masked = {"note": _hmac_sql("note", key), "quantity": "quantity::bigint"}
        self.same(
            dataset.Content("source", [masked.get(name, name) for name in dataset.COLUMNS]),
            dataset.Content(f"raw.{self.name}"),
        )
        if len(found.report["checks"]) != len(dataset.CHECKS):
            raise SystemExit(f"{self.name}: {len(found.report['checks'])} checks ran")


def _hmac_sql(column: str, key: bytes) -> str:
    """Return HMAC-SHA256 in hex as SQL: the masks are verified by another implementation."""
    block = (hashlib.sha256(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
    inner, outer = (f"'\\x{bytes(byte ^ pad for byte in block).hex()}'::bytea" for pad in (0x36, 0x5C))
    return f"encode(sha256({outer} || sha256({inner} || convert_to({column}, 'UTF8'))), 'hex')"
