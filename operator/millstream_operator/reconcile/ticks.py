"""Scheduled times as the CronJob controller sees them. Pure.

Around a change of clocks that controller skips times that do not exist and takes twice those that come twice; cron
programs, and cronsim with a time zone, do neither. So cronsim counts on the wall clock, and the zone is put in here.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim

from millstream_api.schedule import Cron

_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_CLOCK_CHANGE = timedelta(hours=3)  # more than any zone turns its clock back, in wall time


def ticks(schedule: Cron, after: datetime, until: datetime, limit: int) -> list[datetime]:
    """Return the newest `limit` scheduled times with after < time <= until, in UTC, oldest first."""
    zone = ZoneInfo(schedule.time_zone)
    first, last = (moment.astimezone(zone).replace(tzinfo=None) for moment in (after, until))
    walls = takewhile(lambda wall: wall > first - _CLOCK_CHANGE, _backwards(schedule.cron, last + _CLOCK_CHANGE))
    found: set[datetime] = set()
    for wall in walls:
        found.update(moment for moment in _moments(wall, zone) if after < moment <= until)
        if len(found) >= limit and wall < last - _CLOCK_CHANGE:
            break
    return sorted(found)[-limit:]


def _backwards(cron: str, wall: datetime) -> Iterator[datetime]:
    return CronSim(_MACROS.get(cron, cron), wall + timedelta(microseconds=1), reverse=True)


def _moments(wall: datetime, zone: ZoneInfo) -> set[datetime]:
    """Return the moments at which clocks of the zone show that time: none, one or two."""
    moments = {wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
    return {moment for moment in moments if moment.astimezone(zone).replace(tzinfo=None) == wall}
