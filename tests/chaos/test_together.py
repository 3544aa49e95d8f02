"""Two runs of a policy and a load into its table at the same time, again and again: nobody fails, no row is set aside.

As when a schedule overlaps with itself, or somebody's laptop runs what an operator runs too.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chaos.attempts import Attempt, Warm
from chaos.clients import traffic
from chaos.retained import LOADED_FROM, Retained
from chaos.whereabouts import Whereabouts
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

LOADS, ROWS = 8, 40


@pytest.fixture
def warm(tmp_path: Path) -> Iterator[Warm]:
    with Warm(tmp_path / "warm", 1000) as made:
        yield made


class Going(threading.Thread):
    """Starts one attempt after another until it is told to end. `ends`: exit codes and reasons."""

    def __init__(self, start: Callable[[], Attempt], guard: threading.Lock, ending: threading.Event) -> None:
        super().__init__()
        self._start, self._guard, self._ending = start, guard, ending
        self.ends: Counter[tuple[int, str]] = Counter()

    def run(self) -> None:
        while not self._ending.is_set():
            with self._guard:  # attempts are numbered
                attempt = self._start()
            status = attempt.end()
            self.ends[status, (attempt.report() or {}).get("reason", attempt.log())] += 1


def test_two_policies_and_a_load_at_the_same_time(postgres_database: Postgres, warm: Warm, tmp_path: Path) -> None:
    place, guard, ending = Retained(postgres_database, warm, tmp_path / "place"), threading.Lock(), threading.Event()
    place.finish()
    place.finish()
    loaded: Counter[int] = Counter()
    with traffic(postgres_database):
        runs = [Going(place.start, guard, ending) for _ in range(2)]
        for run in runs:
            run.start()
        try:
            for number in range(LOADS):
                place.later(12)
                postgres_database.execute(  # from what is young enough to what has no partition yet
                    "INSERT INTO public.source SELECT moved.now() + (n - 6) * interval '7 hours', "
                    f"{LOADED_FROM + number * ROWS} + n, n, jsonb_build_object('n', n) "
                    f"FROM generate_series(1, {ROWS}) n"
                )
                with guard:
                    attempt = place.load()
                loaded[attempt.end()] += 1
        finally:
            ending.set()
            for run in runs:
                run.join()
    assert loaded == {0: LOADS}
    ends = runs[0].ends + runs[1].ends
    assert set(ends) <= {(0, "Succeeded"), (75, "TableBusy")}, ends
    assert min(run.ends[0, "Succeeded"] for run in runs) > 0
    assert postgres_database.execute("SELECT count(*) FROM _millstream.quarantine") == [(0,)]
    place.finish()
    whereabouts = Whereabouts(place)
    whereabouts.check()
    assert whereabouts.states["archived"] + whereabouts.states["dropped"] > 0
    whereabouts.close()
