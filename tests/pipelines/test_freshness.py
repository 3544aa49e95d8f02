"""Freshness: durations, and the newest row's age whatever the column holds."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, Literal

import pytest

from millstream_api.pipeline import Freshness
from millstream_pipelines.freshness import duration, freshness, newest_of


class Answer:
    """Queries that know one answer."""

    dialect: Literal["postgres", "duckdb"] = "postgres"

    def __init__(self, value: object) -> None:
        self.value = value
        self.asked: list[str] = []

    def quoted(self, table: str) -> str:
        return f"<{table}>"

    def identifier(self, name: str) -> str:
        return f"[{name}]"

    def scalar(self, sql: str) -> object:
        self.asked.append(sql)
        return self.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("24h", timedelta(hours=24)),
        ("1h30m", timedelta(minutes=90)),
        ("90s", timedelta(seconds=90)),
        ("7d", timedelta(days=7)),
        ("250ms", timedelta(milliseconds=250)),
        ("1.5h", timedelta(minutes=90)),
        ("1d12h30m5s500ms", timedelta(days=1, hours=12, minutes=30, seconds=5, milliseconds=500)),
        ("1m1ms", timedelta(minutes=1, milliseconds=1)),
    ],
)
def test_durations(text: str, expected: timedelta) -> None:
    assert duration(text) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (datetime(2024, 1, 1, 12, tzinfo=timezone(timedelta(hours=2))), datetime(2024, 1, 1, 10, tzinfo=UTC)),
        (datetime(2024, 1, 1, 12), datetime(2024, 1, 1, 12, tzinfo=UTC)),
        (date(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC)),
        (None, None),
        ("2024-01-01", None),
    ],
)
def test_the_newest_time_is_utc(value: object, expected: datetime | None) -> None:
    queries = Answer(value)
    assert newest_of(queries, "raw.t", "at") == expected
    assert queries.asked == ["SELECT max([at]) FROM <raw.t>"]


def spec(**changes: Any) -> Freshness:
    return Freshness.model_validate({"field": "at", "maxAge": "24h", **changes})


def test_young_rows_pass_and_old_ones_fail_with_both_times() -> None:
    young, old = datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) - timedelta(days=3, hours=1)
    newest, result = freshness(spec(), "raw.t", Answer(young))
    assert newest == f"{young:%Y-%m-%dT%H:%M:%SZ}"
    assert (result.outcome, result.severity, result.name, result.target) == ("passed", "warn", "freshness(at)", "raw.t")
    _, result = freshness(spec(severity="error", target="raw.other"), "raw.t", Answer(old))
    assert (result.outcome, result.severity, result.target) == ("failed", "error", "raw.other")
    assert "3d old; limit 24h" in result.message


def test_no_row_is_not_fresh() -> None:
    newest, result = freshness(spec(), "raw.t", Answer(None))
    assert (newest, result.outcome) == (None, "failed")
    assert "no row with a at" in result.message


def test_a_time_in_the_future_is_fresh() -> None:
    _, result = freshness(spec(), "raw.t", Answer(datetime.now(UTC) + timedelta(hours=5)))
    assert result.outcome == "passed"
    assert "0s old" in result.message
