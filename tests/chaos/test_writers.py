"""Sixteen writers that commit out of order, pipelines that follow them by a cursor: nothing is missed, nothing doubled.

MILLSTREAM_CHAOS_WRITERS_SECONDS says how long (20 by default).
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from chaos.attempts import Attempt, Warm
from chaos.seeds import seed
from chaos.truth import let_end
from millstream_api import Endpoint, RunPlan
from millstream_api.pipeline import PipelineSpec
from servers.plugin import postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_server"]

SECONDS = float(os.environ.get("MILLSTREAM_CHAOS_WRITERS_SECONDS") or 20)
SEED = seed()
WRITERS = 16
CURSORS = ("id", "at", "local")
TABLE = """
CREATE TABLE public.events (id bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), writer int,
  local timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'));
CREATE INDEX ON public.events (at);
CREATE INDEX ON public.events (local)
"""
INSERT = "INSERT INTO public.events (writer) VALUES (%s)"


class Writer(threading.Thread):
    """One session that writes: early times, late commits, rollbacks, savepoints."""

    def __init__(self, number: int, database: Postgres, stop: threading.Event) -> None:
        super().__init__(name=f"writer-{number}")
        self._number, self._database, self._stopping = number, database, stop
        self._chance = random.Random(SEED * WRITERS + number)
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            with closing(psycopg2.connect(self._database.dsn)) as connection, connection.cursor() as cursor:
                while not self._stopping.is_set():
                    self._transaction(cursor)
                    connection.commit() if self._chance.random() < 0.9 else connection.rollback()
        except BaseException as error:
            self.failure = error

    def _transaction(self, cursor: Any) -> None:
        chance = self._chance
        if chance.random() < 0.4:
            cursor.execute("SELECT 1")  # its now() is fixed here, long before it writes
            self._pause(0.05)
        for _ in range(chance.randint(1, 5)):
            inner = chance.random() < 0.3
            if inner:
                cursor.execute("SAVEPOINT inner_one")
            cursor.execute(INSERT, (self._number,))
            if inner:
                cursor.execute(f"{'RELEASE' if chance.random() < 0.5 else 'ROLLBACK TO'} SAVEPOINT inner_one")
            self._pause(0.03)
        if chance.random() < 0.03:
            self._pause(3.0)

    def _pause(self, most_s: float) -> None:
        self._stopping.wait(self._chance.random() * most_s)


class Follower(threading.Thread):
    """One pipeline that runs again and again, into a database of its own; now and then a run is killed."""

    def __init__(
        self, cursor: str, source: Postgres, warehouse: Postgres, warm: Warm, folder: Path, *, trusting: bool = False
    ) -> None:
        super().__init__(name=f"{'trusting' if trusting else 'by'} {cursor}")
        self._warm, self._folder, self.warehouse = warm, folder, warehouse
        self._chance = random.Random(f"{SEED} {cursor}")
        self._ending = threading.Event()
        self.failure: BaseException | None = None
        self.runs = self.killed = 0
        folder.mkdir()
        reads = {"waitForWritersSeconds": 30, "trustCursorOrder": trusting}
        stream = {"name": "public.events", "target": "raw.events", "mode": "incremental", "cursor": {"field": cursor}}
        spec = {"sourceRef": {"name": "s"}, "warehouseRef": {"name": "w"}, "streams": [stream]}
        plan = RunPlan(
            action="run", namespace="chaos", name=f"by-{cursor}",
            source=Endpoint(name="s", type="postgres", config=source.config | reads),
            warehouse=Endpoint(name="w", type="postgres", config=warehouse.config),
            pipeline=PipelineSpec.model_validate(spec),
        )  # fmt: skip
        self._plan = folder / "plan.json"
        self._plan.write_text(plan.document())

    def run(self) -> None:
        try:
            while not self._ending.is_set():
                attempt = self._attempt()
                if self._chance.random() < 0.2 and not attempt.ended(self._chance.random()):
                    self.killed += attempt.kill()
                else:
                    assert attempt.end(90) in (0, 75), attempt.log()
        except BaseException as error:
            self.failure = error

    def finish(self) -> None:
        """Stop following; read what is left."""
        self._ending.set()
        self.join()
        if self.failure is not None:
            raise self.failure
        let_end(self.warehouse.execute)  # one that was killed may hold the stream for a moment
        last = self._attempt()
        assert last.end() == 0, last.log()

    def _attempt(self) -> Attempt:
        self.runs += 1
        return Attempt(self._warm, self._folder, self._plan, f"run-{self.runs}", self.runs)

    def rows(self, of: Postgres | None = None) -> list[tuple[Any, ...]]:
        """Return count, number of ids, and a hash of all rows, here or at the source."""
        table = "raw.events" if of is None else "public.events"
        digest = "sum(hashtextextended(concat_ws('|', id, at, writer, local), 0))"
        return (of or self.warehouse).execute(f"SELECT count(*), count(DISTINCT id), {digest} FROM {table}")


@contextmanager
def writing(database: Postgres) -> Iterator[None]:
    """Let the writers write during the block."""
    stop = threading.Event()
    writers = [Writer(number, database, stop) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    try:
        yield
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert [writer.failure for writer in writers if writer.failure] == []


def test_nothing_is_missed_or_doubled_behind_writers_that_commit_out_of_order(
    postgres_server: Postgres, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ExitStack() as stack:
        source = stack.enter_context(postgres_server.fresh_database())
        source.execute(TABLE)
        warm = stack.enter_context(Warm(tmp_path / "warm", 1000))
        warehouses = [stack.enter_context(postgres_server.fresh_database()) for _ in range(len(CURSORS) + 1)]
        *careful, trusting = (
            Follower(cursor, source, warehouse, warm, tmp_path / f"{number}", trusting=number == len(CURSORS))
            for number, (cursor, warehouse) in enumerate(zip((*CURSORS, "id"), warehouses, strict=True))
        )
        with writing(source):
            for follower in (*careful, trusting):
                follower.start()
            time.sleep(SECONDS)
        for follower in (*careful, trusting):
            follower.finish()
        written = careful[0].rows(source)
        with capsys.disabled():
            runs = {follower.name: (follower.runs, follower.killed) for follower in (*careful, trusting)}
            missed = written[0][0] - trusting.rows()[0][0]
            print(
                f"\nMILLSTREAM_TEST_SEED={SEED}: {written[0][0]} rows, (runs, killed) {runs}, missed on trust: {missed}"
            )
        assert written[0][0] > 500
        for follower in careful:
            assert follower.runs > 1
            assert follower.rows() == written, follower.name
        assert missed > 0, "the order was not disturbed at all, so nothing is proved"
