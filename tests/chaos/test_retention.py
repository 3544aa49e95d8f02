"""Policies under fire: killed at every step and at random instants, while others write, read and load.

MILLSTREAM_CHAOS_RETENTION_KILLS says how many kills (300 by default), MILLSTREAM_CHAOS_RETENTION_LIFE which life is
played alone, as a failure names it together with the seed.
"""

from __future__ import annotations

import itertools
import os
import re
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

import millstream_pipelines.retention
from chaos.attempts import Warm
from chaos.lives import PLACES, Life
from chaos.retained import TABLE, Retained
from chaos.seeds import seed
from chaos.whereabouts import Whereabouts
from millstream_pipelines.failpoints import RetentionPlace
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

KILLS = int(os.environ.get("MILLSTREAM_CHAOS_RETENTION_KILLS") or 300)
LIFE = os.environ.get("MILLSTREAM_CHAOS_RETENTION_LIFE")
LANES = 2
_OF_A_LIFE = 100  # kills, more or less
_MOST_LIVES = 8  # where one failpoint is still to be met


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    with Warm(tmp_path_factory.mktemp("warm"), 1000) as made:
        yield made


class Campaign:
    """Lives, one after another in each of some lanes, until enough runs were killed."""

    def __init__(self, server: Postgres, warm: Warm, folder: Path) -> None:
        self._server, self._warm, self._folder = server, warm, folder
        self._numbers = itertools.count() if LIFE is None else iter([int(LIFE)])
        self.hits: Counter[str] = Counter()
        self.states: Counter[str] = Counter()
        self.lives = self.days = self.late = self._running = 0
        self.failures: list[tuple[int, BaseException]] = []

    def play(self) -> None:
        lanes = [threading.Thread(target=self._lane, name=f"lane-{number}") for number in range(LANES)]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()

    def _goes_on(self) -> bool:
        missing = not self._running and PLACES - set(self.hits) and self.lives < _MOST_LIVES
        return self.hits.total() + _OF_A_LIFE * self._running < KILLS or bool(missing)

    def _lane(self) -> None:
        while self._goes_on() and not self.failures:
            number = next(self._numbers, None)
            if number is None:
                return
            self._running += 1
            try:
                with self._server.fresh_database() as database:
                    life = Life(number, database, self._warm, self._folder / f"life-{number}")
                    life.play()
            except BaseException as error:
                self.failures.append((number, error))
                return
            self._running -= 1
            self.hits += life.hits
            self.states += life.whereabouts.states
            self.lives, self.days, self.late = self.lives + 1, self.days + life.days, self.late + life.late


def test_every_row_is_in_one_place_whenever_a_run_is_killed(
    postgres_server: Postgres, warm: Warm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    played = Campaign(postgres_server, warm, tmp_path)
    played.play()
    with capsys.disabled():
        print(f"\nMILLSTREAM_TEST_SEED={seed()}: {played.hits.total()} kills {dict(sorted(played.hits.items()))}, "
              f"{played.lives} lives, {played.days} days, ranges seen {dict(played.states)}, "
              f"{played.late} late rows refused")  # fmt: skip
    for number, failure in played.failures:
        raise AssertionError(f"MILLSTREAM_TEST_SEED={seed()} MILLSTREAM_CHAOS_RETENTION_LIFE={number}") from failure
    if LIFE is None:
        assert played.hits.total() >= KILLS
        assert set(played.hits) >= PLACES


def test_a_life_meets_every_failpoint_that_the_engine_has() -> None:
    assert {*get_args(RetentionPlace), "reporting"} == PLACES
    folder = Path(millstream_pipelines.retention.__file__).parent
    passed = {place for file in folder.glob("*.py") for place in re.findall(r'reached\("([^"]+)"\)', file.read_text())}
    assert passed == {*get_args(RetentionPlace)}


def test_of_twins_one_leaves_the_table_alone(postgres_database: Postgres, warm: Warm, tmp_path: Path) -> None:
    place = Retained(postgres_database, warm, tmp_path)
    place.finish()
    place.finish()
    place.later(24 * 5)
    sleeping = place.start("exported:1:stop")
    assert sleeping.asleep()
    for options in (None, {"restore": {"table": TABLE, "from": "2000-01-01", "to": "2100-01-01"}}):
        twin = place.start(options=options)
        assert twin.end() == 75
        assert (twin.report() or {})["reason"] == "TableBusy"
    sleeping.wake()
    assert sleeping.end() == 0
    Whereabouts(place).check()
