"""A table under a policy, and its attempts: time moves on, the policy's words change, runs are killed.

The server's clock is moved by a `now()` of the database's own, found before PostgreSQL's; a pod sees nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chaos.attempts import PATIENCE_S, Attempt, Warm
from millstream_api import Endpoint, RetentionOptions, RunOptions, RunPlan
from millstream_api.pipeline import PipelineSpec
from millstream_api.retentionpolicy import Archive, RetentionPolicySpec
from millstream_pipelines.retention.store import ArchiveStore
from servers.postgres import Postgres

TABLE = "raw.events"
KEEP_DAYS, EXPIRE_DAYS, GRACE_DAYS, REACH_DAYS = 4, 9, 2, 8
LOADED_FROM = 1_000_000_000  # the numbers of rows that the loader brings
_SETUP = f"""
CREATE SCHEMA moved;
CREATE TABLE moved.shift AS SELECT interval '0' AS shift;
CREATE FUNCTION moved.now() RETURNS timestamptz LANGUAGE sql STABLE AS
  'SELECT pg_catalog.now() + shift FROM moved.shift';
CREATE SCHEMA raw;
CREATE SEQUENCE public.ids;
CREATE TABLE public.kinds (id int PRIMARY KEY);
CREATE TABLE raw.events (at timestamptz NOT NULL, id bigint NOT NULL, price numeric(12,2), doc jsonb,
  kind int REFERENCES public.kinds, PRIMARY KEY (at, id));
CREATE INDEX ON raw.events (id);
INSERT INTO raw.events SELECT now() - n * interval '1 minute' * {REACH_DAYS * 3}, nextval('public.ids'), n % 997,
  jsonb_build_object('n', n) FROM generate_series(1, 60 * {REACH_DAYS}) n;
CREATE TABLE public.written (LIKE raw.events);
CREATE INDEX ON public.written (id);
INSERT INTO public.written SELECT * FROM raw.events;
CREATE TABLE public.source (LIKE raw.events, PRIMARY KEY (id))
"""
Row = tuple[Any, ...]


class Retained:
    """A plain table with some days of rows, its policy, which turns it, and the attempts of its runs and loads."""

    def __init__(self, database: Postgres, warm: Warm, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.database, self._warm, self._folder = database, warm, folder
        self._number = 0
        self.run = "run-1"
        self.erasures: list[str] = []
        archive = {"url": f"file://{folder}/archive", "keep": {"age": f"{EXPIRE_DAYS} days"}}
        self.store = ArchiveStore(Archive.model_validate(archive), {}, "the test")
        by = {"column": "at", "interval": "1 day", "premake": 3, "convert": True}
        self._spec = {
            "warehouseRef": {"name": "w"}, "tables": [{"name": TABLE, "partitionBy": by}],
            "keep": {"age": f"{KEEP_DAYS} days"}, "archive": archive, "grace": f"{GRACE_DAYS} days",
            "lockTimeout": "300ms",
        }  # fmt: skip
        database.execute(_SETUP)
        database.execute(f'ALTER DATABASE "{database.database}" SET search_path = moved, pg_catalog, public')

    def later(self, hours: int) -> None:
        """Move the server's clock."""
        self.database.execute(f"UPDATE moved.shift SET shift = shift + interval '{hours} hours'")

    def start(self, failpoint: str = "", options: dict[str, Any] | None = None, **words: Any) -> Attempt:
        """Start an attempt; `run` says of which run, `words` what the policy says beside the usual."""
        deletes = [{"table": TABLE, "where": where, "reason": f"r-{n}"} for n, where in enumerate(self.erasures)]
        spec = RetentionPolicySpec.model_validate(self._spec | {"delete": deletes} | words)
        plan = RunPlan(action="retain", namespace="n", name="p", policy=spec, warehouse=self._endpoint("w"))
        return self._attempt(plan, failpoint, RetentionOptions.model_validate(options or {}))

    def load(self, failpoint: str = "") -> Attempt:
        """Start an attempt to load what `public.source` has and the table has not."""
        stream = {"name": "public.source", "target": TABLE, "mode": "incremental", "cursor": {"field": "id"}}
        spec = {"sourceRef": {"name": "s"}, "warehouseRef": {"name": "w"}, "streams": [stream]}
        plan = RunPlan(
            action="run", namespace="n", name="loads", source=self._endpoint("s"), warehouse=self._endpoint("w"),
            pipeline=PipelineSpec.model_validate(spec),
        )  # fmt: skip
        return self._attempt(plan, failpoint, RunOptions())

    def finish(self, options: dict[str, Any] | None = None, **words: Any) -> Attempt:
        """Run to the end; what a killed one still holds on the server is waited for."""
        return _finished(lambda: self.start(options=options, **words))

    def finish_load(self) -> None:
        """Load to the end."""
        _finished(self.load)

    def away(self) -> list[Row]:
        """Return state, partition, bounds and manifest of every range that is not in the table."""
        return self.database.execute(
            "SELECT state, partition, low, high, manifest FROM _millstream.retired "
            "WHERE state <> 'restored' ORDER BY id"
        )

    def _endpoint(self, name: str) -> Endpoint:
        return Endpoint(name=name, type="postgres", config=dict(self.database.config))

    def _attempt(self, plan: RunPlan, failpoint: str, options: RunOptions | RetentionOptions) -> Attempt:
        self._number += 1
        path = self._folder / f"plan-{self._number}.json"
        path.write_text(plan.document())
        return Attempt(self._warm, self._folder, path, self.run, self._number, failpoint, options=options)


def _finished(start: Callable[[], Attempt]) -> Attempt:
    deadline = time.monotonic() + PATIENCE_S
    while (attempt := start()).end() == 75 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert attempt.status == 0, attempt.log()
    return attempt


__all__ = ["EXPIRE_DAYS", "LOADED_FROM", "TABLE", "Retained", "Row"]
