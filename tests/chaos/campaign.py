"""Many cases, several at a time, each lane with its own database, until enough faults have hit."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from chaos.attempts import Warm
from chaos.bench import Bench, Tally
from chaos.cases import PLACES, named
from servers import postgres
from servers.postgres import Crash, Postgres

_EMPTY = """
DROP SCHEMA IF EXISTS raw CASCADE; DROP SCHEMA IF EXISTS marts CASCADE; DROP SCHEMA IF EXISTS _millstream CASCADE;
DROP TABLE IF EXISTS public.source, public.source_gone
"""
_TYPICAL_S = 0.2
_OTHERS_EVERY = 9


class Campaign:
    """Draws cases from `seed` on until `wanted` faults have hit and every failpoint has been one of them."""

    def __init__(self, seed: int, wanted: int, folder: Path, warm: Warm, server: Postgres) -> None:
        self.wanted, self.folder, self.warm, self.server = wanted, folder, warm, server
        self.tally = Tally()
        self.failures: list[str] = []
        self._guard = threading.Lock()
        self._numbers = itertools.count(seed)
        self._crash_cases = max(4, wanted // 250)

    def fly(self, lanes: int) -> None:
        """Play until it is enough, or a case has failed."""
        threads = [threading.Thread(target=self._lane, args=(number,)) for number in range(lanes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    @property
    def missing(self) -> set[str]:
        """Failpoints that nothing has happened at."""
        return set(PLACES) - set(self.tally.places)

    @property
    def _hits(self) -> int:
        return sum(count for kind, count in self.tally.faults.items() if not kind.startswith("("))

    def _lane(self, number: int) -> None:
        try:
            if number == 0:
                self._crashes()
            with Lane(self.folder / f"lane-{number}", self.warm, self.server) as lane:
                for name in self._names():
                    self._played(lane, name)
        except BaseException as error:
            self.failures.append(f"lane {number} broke: {type(error).__name__}: {error}")
            raise

    def _crashes(self) -> None:
        with postgres.crashing() as (server, crash), Lane(self.folder / "crashes", self.warm, server, crash) as lane:
            for number in itertools.islice(self._numbers, self._crash_cases):
                if not self.failures:
                    self._played(lane, f"crash-{number}")

    def _names(self) -> Iterator[str]:
        for number in self._numbers:
            if self.failures or (self._hits >= self.wanted and not self.missing):
                return
            where = {0: "duckdb", 1: "parquet"}.get(number % _OTHERS_EVERY, "postgres")
            name = f"{where}-{number}"
            if self._hits < self.wanted or any(fault.place in self.missing for fault in named(name).faults):
                yield name

    def _played(self, lane: Lane, name: str) -> None:
        tally, failure = lane.play(name)
        with self._guard:
            self.tally += tally
            if failure:
                self.failures.append(failure)


class Lane:
    """A database that takes one case after another, emptied in between."""

    def __init__(self, folder: Path, warm: Warm, server: Postgres, crash: Crash | None = None) -> None:
        self._folder, self._warm, self._server, self._crash = folder, warm, server, crash
        self._stack = ExitStack()
        self._typical_s = _TYPICAL_S
        self._played: Callable[[], int] = itertools.count(1).__next__

    def __enter__(self) -> Lane:
        self._database = self._stack.enter_context(self._server.fresh_database())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def play(self, name: str) -> tuple[Tally, str]:
        """Play a case; return what hit and, when it failed, everything that is needed to see and repeat it."""
        case = named(name)
        self._database.execute(_EMPTY)
        folder = self._folder / f"{self._played()}-{name}"
        bench = Bench(case, self._database, self._warm, folder, self._typical_s, self._crash)
        started = time.monotonic()
        try:
            bench.play()
        except Exception as error:
            why = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
            again = f"MILLSTREAM_CHAOS_CASE={name} pytest tests/chaos/test_faults.py"
            return bench.tally, f"{name} {case}\n{why}\nfiles: {folder}\nagain: {again}\n"
        self._typical_s += 0.1 * ((time.monotonic() - started) / bench.tally.attempts - self._typical_s)
        return bench.tally, ""
