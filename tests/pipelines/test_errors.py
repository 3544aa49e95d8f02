"""The error tree: each branch has one recovery, and a closed set is listed with its nearest member."""

from __future__ import annotations

import pytest

from millstream_api import ExitCode
from millstream_pipelines.errors import (
    ConfigurationError,
    DataError,
    MillstreamError,
    RetriableError,
    SupersededError,
    unknown_value,
)


@pytest.mark.parametrize(
    ("kind", "code", "reason"),
    [
        (RetriableError, ExitCode.RETRIABLE, "Unreachable"),
        (SupersededError, ExitCode.RETRIABLE, "Superseded"),
        (DataError, ExitCode.CHECKS_FAILED, "ChecksFailed"),
        (ConfigurationError, ExitCode.CONFIGURATION, "InvalidConfiguration"),
    ],
)
def test_each_branch_has_its_exit_code(kind: type[MillstreamError], code: ExitCode, reason: str) -> None:
    error = kind("why")
    assert (error.exit_code, error.reason, str(error)) == (code, reason, "why")
    assert kind("why", reason="Other").reason == "Other"
    assert kind("why").reason == reason, "one error's reason is not the class's"


def test_a_wait_that_the_other_side_asked_for_is_kept() -> None:
    assert RetriableError("why", delay_s=1.5).delay_s == 1.5
    assert SupersededError("why").delay_s is None


def test_an_unknown_value_lists_the_known_and_the_nearest() -> None:
    error = unknown_value("source 'orders'", "type", "postgress", {"rest", "csv", "postgres"})
    assert str(error) == (
        "source 'orders': unknown type 'postgress'; known: csv, postgres, rest (did you mean 'postgres'?)"
    )
    assert str(unknown_value("x", "type", "zzz", [])) == "x: unknown type 'zzz'; known: none"
