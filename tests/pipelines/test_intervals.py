"""A window cut into intervals: what is cut, how it is spelled, what is refused and with which words."""

from __future__ import annotations

from typing import Any

import pytest

from millstream_api.run_options import Window
from millstream_pipelines.bounds import kind_of, next_value, spelled, value
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.intervals import MAX_INTERVALS, cut


def window(start: str, end: str, **changes: Any) -> Window:
    return Window.model_validate({"from": start, "to": end, **changes})


DAY = ("2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00")
CUTS: list[tuple[str, Window, list[tuple[str, str]]]] = [
    ("number", window("0", "25", step=10), [("0", "10"), ("10", "20"), ("20", "25")]),
    ("number", window("-5", "5", step=100), [("-5", "5")]),
    ("date", window("2024-02-28", "2024-03-01"), [("2024-02-28", "2024-02-29"), ("2024-02-29", "2024-03-01")]),
    ("date", window("2026-01-30", "2026-02-02", interval="2d"), [
        ("2026-01-30", "2026-02-01"), ("2026-02-01", "2026-02-02")]),
    ("timestamptz", window("2026-01-01", "2026-01-02"), [DAY]),
    ("timestamptz", window("2026-01-01T01:00:00+01:00", "2026-01-02T00:00:00Z"), [DAY]),
    ("timestamptz", window("2026-03-29", "2026-03-29T05:00:00Z", interval="3h"), [
        ("2026-03-29T00:00:00+00:00", "2026-03-29T03:00:00+00:00"),
        ("2026-03-29T03:00:00+00:00", "2026-03-29T05:00:00+00:00")]),
    ("timestamp", window("2026-01-01 23:59:59.5", "2026-01-02", interval="1s"), [
        ("2026-01-01T23:59:59.500000", "2026-01-02T00:00:00")]),
    ("timestamp", window("9999-12-31", "9999-12-31T12:00"), [("9999-12-31T00:00:00", "9999-12-31T12:00:00")]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "given", "expected"), CUTS)
def test_cut(kind: Any, given: Window, expected: list[tuple[str, str]]) -> None:
    found = cut(given, kind, "stream 's'").ranges
    assert [(item.start, item.end) for item in found] == expected


def test_a_window_has_one_identity_however_it_is_spelled() -> None:
    one = cut(window("2026-01-01", "2026-01-03"), "timestamptz", "s")
    other = cut(window("2026-01-01T02:00:00+02:00", "2026-01-03T00:00Z", interval="24h"), "timestamptz", "s")
    assert one == other
    assert one.identity != cut(window("2026-01-01", "2026-01-03", interval="12h"), "timestamptz", "s").identity


REFUSED: list[tuple[str, Window, str]] = [
    ("number", window("2026-01-01", "9", step=1), "window.from is '2026-01-01', and the cursor is a whole number"),
    ("number", window("1", "1.5", step=1), "window.to is '1.5'"),
    ("number", window("1", "9"), "needs a step"),
    ("number", window("1", "9", interval="1d"), "interval '1d' is a time"),
    ("number", window("0", "100000000", step=1), "100000000 intervals, and 10000 are the most; say a step of 10000"),
    ("date", window("yesterday", "2026-01-01"), "window.from is 'yesterday', and the cursor is date: write a day"),
    ("date", window("2026-01-01", "2026-01-02T00:00"), "window.to is '2026-01-02T00:00'"),
    ("date", window("2026-01-01", "2026-02-30"), "window.to is '2026-02-30'"),
    ("date", window("2026-01-01", "2026-01-09", interval="36h"), "interval '36h' cuts days"),
    ("timestamptz", window("2026-01-01", "2026-01-09", step=3), "step 3 is a number"),
    ("timestamptz", window("1", "2026-01-09"), "window.from is '1', and the cursor is timestamptz: write a time"),
    ("timestamptz", window("2026-01-01", "2026-02-01", interval="1s"), "an interval of 5m or more"),
    ("timestamp", window("2026-01-01T00:00:00Z", "2026-01-09"), "a time without a zone"),
]


@pytest.mark.parametrize(("kind", "given", "words"), REFUSED)
def test_refused(kind: Any, given: Window, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        cut(given, kind, "stream 'orders': backfill")
    assert words in str(caught.value)
    assert str(caught.value).startswith("stream 'orders': backfill")


def test_the_suggested_length_is_accepted() -> None:
    assert len(cut(window("2026-01-01", "2026-02-01", interval="5m"), "timestamptz", "s").ranges) <= MAX_INTERVALS
    assert len(cut(window("0", "100000000", step=10_000), "number", "s").ranges) == MAX_INTERVALS


def test_an_empty_window_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="is not before"):
        cut(Window.model_construct(from_="5", to="5", interval=None, step=1), "number", "s")


@pytest.mark.parametrize(
    ("sql_type", "kind"),
    [
        ("bigint", "number"),
        ("numeric(12,2)", "number"),
        ("timestamptz", "timestamptz"),
        ("timestamp(3)", "timestamp"),
        ("date", "date"),
        ("text", None),
        ("double precision", None),
        ("bigint[]", None),
    ],
)
def test_kinds(sql_type: str, kind: str | None) -> None:
    assert kind_of(sql_type) == kind


def test_the_next_value_is_the_first_behind() -> None:
    assert next_value(5) == 6
    assert spelled(next_value(value("date", "2024-02-28"))) == "2024-02-29"
    assert (
        spelled(next_value(value("timestamptz", "2026-01-01 00:00:00.000000Z"))) == "2026-01-01T00:00:00.000001+00:00"
    )
