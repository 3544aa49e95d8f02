"""Scheduled times, as the CronJob controller counts them; clock changes as its library, robfig/cron, tests them."""

from __future__ import annotations

from datetime import datetime

import pytest

from millstream_api.pipeline import Schedule
from millstream_operator.reconcile.ticks import ticks

NEW_YORK, BERLIN, UTC = "America/New_York", "Europe/Berlin", "Etc/UTC"


@pytest.mark.parametrize(
    ("cron", "zone", "after", "until", "expected"),
    [
        ("0 * * * *", UTC, "2026-03-01T00:00", "2026-03-01T02:00", ["01 01:00", "01 02:00"]),
        ("@hourly", UTC, "2026-03-01T00:00", "2026-03-01T01:59", ["01 01:00"]),
        ("@weekly", UTC, "2026-02-28T00:00", "2026-03-09T00:00", ["01 00:00", "08 00:00"]),
        ("0 9 * * MON-FRI", BERLIN, "2026-03-27T00:00", "2026-03-31T00:00", ["27 08:00", "30 07:00"]),
        # 2:30 does not exist on 11 March
        ("30 2 * * *", NEW_YORK, "2012-03-10T00:00", "2012-03-12T12:00", ["10 07:30", "12 06:30"]),
        ("0 * * * *", NEW_YORK, "2012-03-11T05:00", "2012-03-11T08:00", ["11 06:00", "11 07:00", "11 08:00"]),
        # 1:30 comes twice on 4 November
        ("30 1 * * *", NEW_YORK, "2012-11-03T06:00", "2012-11-05T12:00", ["04 05:30", "04 06:30", "05 06:30"]),
        ("*/30 1 * * *", NEW_YORK, "2012-11-04T05:10", "2012-11-04T06:10", ["04 05:30", "04 06:00"]),
        ("0 0 29 2 *", UTC, "2026-01-01T00:00", "2028-03-01T00:00", ["29 00:00"]),
    ],
)
def test_ticks(cron: str, zone: str, after: str, until: str, expected: list[str]) -> None:
    first, last = (datetime.fromisoformat(f"{text}+00:00") for text in (after, until))
    found = ticks(Schedule(cron=cron, time_zone=zone), first, last, 100)
    assert [moment.strftime("%d %H:%M") for moment in found] == expected


def test_the_newest_of_many_years() -> None:
    first, last = (datetime.fromisoformat(f"{year}-11-01T01:45+00:00") for year in (2000, 2026))
    found = ticks(Schedule(cron="* * * * *", time_zone=BERLIN), first, last, 101)
    assert (len(found), found[0].isoformat(), found[-1]) == (101, "2026-11-01T00:05:00+00:00", last)
