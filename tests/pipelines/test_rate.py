"""A limit of rows per second, on a clock of its own."""

from __future__ import annotations

from millstream_pipelines.rate import Pace


class Clock:
    """Time that only passes by sleeping, or by hand."""

    def __init__(self) -> None:
        self.now, self.slept = 100.0, [0.0]

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)


def test_rows_wait_for_those_before_them() -> None:
    clock = Clock()
    pace = Pace(1000, lambda: clock.now, clock.sleep)
    for _ in range(4):
        pace.passed(500)
    assert (clock.slept, clock.now) == ([0.0, 0.5, 0.5, 0.5], 101.5)


def test_time_that_has_passed_anyhow_is_not_waited_for_and_not_saved_up() -> None:
    clock = Clock()
    pace = Pace(1000, lambda: clock.now, clock.sleep)
    pace.passed(500)
    clock.now += 10
    pace.passed(500)
    pace.passed(1)
    assert clock.slept == [0.0, 0.5]


def test_single_rows_wait_together() -> None:
    clock = Clock()
    pace = Pace(100, lambda: clock.now, clock.sleep)
    for _ in range(1000):
        pace.passed(1)
    assert 9.9 < clock.now - 100 < 10.1
    assert len(clock.slept) < 300
