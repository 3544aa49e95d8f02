"""Where ranges begin and end: days of 23 and 25 hours, midnights that are not there, months of 28 days, numbers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from millstream_pipelines.retention.spans import Grid, Kind, Span, Value, parsed_in, spelled, suffix

NEW_YORK, SAO_PAULO = ZoneInfo("America/New_York"), ZoneInfo("America/Sao_Paulo")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


FLOORS: list[tuple[Kind, str, ZoneInfo, Value, str, str, str]] = [
    ("timestamptz", "1 hour", NEW_YORK, utc("2013-03-10 07:30"),
     "2013-03-10 07:00:00+00", "2013-03-10 08:00:00+00", "p20130310_07"),
    ("timestamptz", "1 hour", NEW_YORK, utc("2013-11-03 05:30"),
     "2013-11-03 05:00:00+00", "2013-11-03 06:00:00+00", "p20131103_05"),
    ("timestamp", "1 hour", NEW_YORK, datetime(2013, 11, 3, 1, 30),
     "2013-11-03 01:00:00", "2013-11-03 02:00:00", "p20131103_01"),
    ("timestamptz", "1 day", NEW_YORK, utc("2013-03-10 12:00"),
     "2013-03-10 05:00:00+00", "2013-03-11 04:00:00+00", "p20130310"),
    ("timestamptz", "1 day", NEW_YORK, utc("2013-11-03 12:00"),
     "2013-11-03 04:00:00+00", "2013-11-04 05:00:00+00", "p20131103"),
    ("timestamptz", "1 day", SAO_PAULO, utc("2013-10-20 12:00"),
     "2013-10-20 03:00:00+00", "2013-10-21 02:00:00+00", "p20131020"),
    ("timestamptz", "1 month", NEW_YORK, utc("2013-03-31 12:00"),
     "2013-03-01 05:00:00+00", "2013-04-01 04:00:00+00", "p20130301"),
    ("date", "1 week", NEW_YORK, datetime(2013, 1, 2),
     "2012-12-31", "2013-01-07", "p20121231"),
    ("date", "1 quarter", NEW_YORK, datetime(2013, 5, 31),
     "2013-04-01", "2013-07-01", "p20130401"),
    ("timestamp", "1 year", NEW_YORK, datetime(2013, 5, 31),
     "2013-01-01 00:00:00", "2014-01-01 00:00:00", "p20130101"),
    ("date", "1 month", NEW_YORK, datetime(12, 3, 15),
     "0012-03-01", "0012-04-01", "p00120301"),
    ("integer", "1000", NEW_YORK, -1,
     "-1000", "0", "pm1000"),
    ("integer", "1000", NEW_YORK, 1000,
     "1000", "2000", "p1000"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "span", "zone", "value", "low", "high", "end"), FLOORS)
def test_the_range_of_a_value(
    kind: Kind, span: str, zone: ZoneInfo, value: Value, low: str, high: str, end: str
) -> None:
    grid = Grid(kind, Span.of(span), zone)
    found = grid.floor(value)
    assert (spelled(found, kind), spelled(grid.next(found), kind)) == (low, high)
    assert suffix(found, grid) == end


RESTS: list[tuple[Kind, str, ZoneInfo, Value, str]] = [
    ("timestamptz", "1 day", NEW_YORK, utc("2013-03-11 00:00"), "p20130310_2000"),
    ("timestamptz", "1 hour", NEW_YORK, utc("2013-03-10 07:30"), "p20130310_0730"),
    ("timestamp", "1 day", NEW_YORK, datetime(2013, 3, 10, 12), "p20130310_1200"),
    ("date", "1 month", NEW_YORK, datetime(2013, 3, 10), "p20130310"),
    ("timestamptz", "1 month", NEW_YORK, utc("2013-03-10 05:00"), "p20130310"),
]


@pytest.mark.parametrize(("kind", "span", "zone", "low", "end"), RESTS)
def test_the_rest_of_a_range_has_a_name_of_its_own(kind: Kind, span: str, zone: ZoneInfo, low: Value, end: str) -> None:
    assert suffix(low, Grid(kind, Span.of(span), zone)) == end


ZONES = ("America/New_York", "America/Sao_Paulo", "Australia/Lord_Howe", "America/Havana", "Etc/UTC")


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(("span", "count"), [("1 hour", 9000), ("1 day", 400), ("1 week", 60), ("1 month", 14)])
def test_a_year_of_ranges_has_no_gap_no_overlap_and_no_name_twice(zone: str, span: str, count: int) -> None:
    grid = Grid("timestamptz", Span.of(span), ZoneInfo(zone))
    low = grid.floor(utc("2013-01-15 12:00"))
    names = set()
    for _ in range(count):
        high = grid.next(low)
        assert isinstance(low, datetime)
        assert isinstance(high, datetime)
        assert grid.floor(high) == high, (low, high)
        assert grid.floor(high - timedelta(microseconds=1)) == low, (low, high)
        names.add(suffix(low, grid))
        low = high
    assert len(names) == count


AGES = [
    ("1 month", "2013-03-31 12:00", "2013-02-28 13:00"),
    ("13 months", "2014-03-31 00:00", "2013-03-01 01:00"),
    ("1 quarter", "2013-05-31 12:00", "2013-02-28 13:00"),
    ("1 year", "2016-02-29 12:00", "2015-02-28 12:00"),
    ("1 day", "2013-03-11 04:00", "2013-03-10 05:00"),
    ("1 day", "2013-03-11 06:30", "2013-03-10 07:30"),
    ("24 hours", "2013-03-11 04:00", "2013-03-10 04:00"),
    ("1 day", "2013-11-04 05:00", "2013-11-03 04:00"),
    ("2 weeks", "2013-03-11 04:00", "2013-02-25 05:00"),
]


@pytest.mark.parametrize(("age", "now", "limit"), AGES)
def test_an_age_goes_by_the_calendar(age: str, now: str, limit: str) -> None:
    assert Span.of(age).before(utc(now), NEW_YORK) == utc(limit)


def test_what_a_person_writes_is_of_the_zone() -> None:
    assert parsed_in("2013-07-01", "timestamptz", NEW_YORK) == utc("2013-07-01 04:00")
    assert parsed_in("2013-07-01T00:00:00Z", "timestamptz", NEW_YORK) == utc("2013-07-01 00:00")
    assert parsed_in("2013-07-01", "date", NEW_YORK) == datetime(2013, 7, 1)
    assert parsed_in("-5", "integer", NEW_YORK) == -5
    with pytest.raises(ValueError, match="the column has none"):
        parsed_in("2013-07-01T00:00:00Z", "timestamp", NEW_YORK)
    with pytest.raises(ValueError, match="is no length; write for example"):
        Span.of("1 fortnight")
