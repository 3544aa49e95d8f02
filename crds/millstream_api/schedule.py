"""When something runs: cron fields in a time zone, checked as a CronJob and the engine read them."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import Field, field_validator

from millstream_api.meta import ApiModel

ZONE_PATTERN = r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$"


def known_zone(zone: str) -> str:
    """Return the name of a time zone that exists. Raises ValueError with an example."""
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"'{zone}' is no IANA time zone; write one such as 'Europe/Berlin' or 'Etc/UTC'") from error
    return zone


class Cron(ApiModel):
    """Five cron fields in a time zone."""

    cron: str = Field(
        max_length=100,
        pattern=r"^(@(yearly|annually|monthly|weekly|daily|midnight|hourly)|\S+ +\S+ +\S+ +\S+ +\S+)$",
        description="Five cron fields (minute hour day month weekday) or a macro such as `@hourly`.",
    )
    time_zone: str = Field(
        default="Etc/UTC",
        max_length=64,
        pattern=ZONE_PATTERN,
        description="IANA time zone of the cron fields, for example `America/New_York`.",
    )

    @field_validator("cron")
    @classmethod
    def _due_some_day(cls, cron: str) -> str:
        if cron.startswith("@"):
            return cron
        try:
            CronSim(cron, datetime(2000, 1, 1, tzinfo=UTC))
        except CronSimError as error:
            raise ValueError(
                f"'{cron}' is no cron expression ({error}); write five fields, e.g. '*/15 * * * *'"
            ) from error
        return cron

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        return known_zone(zone)
