"""Row checks over batches: who is set aside, what is counted, what is told before the first row."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from millstream_api.stream import CheckSpec
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.row_checks import RowChecks
from millstream_pipelines.schema import schema_of
from millstream_pipelines.testing.check import PlainQueries

ROWS = pa.record_batch({"carrier": ["UA", None, "DL"], "distance": [100, 0, 9000]})
NOT_NULL = {"type": "not_null", "column": "carrier"}
RANGE = {"type": "range", "column": "distance", "min": 1, "max": 6000}


def checks(*specs: dict[str, Any]) -> RowChecks:
    return RowChecks([CheckSpec.model_validate(spec) for spec in specs], schema_of(ROWS.schema), "stream 's'")


def test_no_checks_change_nothing() -> None:
    kept, rejects = checks().apply(ROWS)
    assert kept is ROWS
    assert rejects == []


def test_errors_set_aside_and_warnings_count() -> None:
    made = checks(NOT_NULL, {**RANGE, "severity": "warn", "name": "sane"})
    kept, rejects = made.apply(ROWS)
    made.apply(ROWS)
    assert kept.column("distance").to_pylist() == [100, 9000]
    assert [(reject.rule, reject.row) for reject in rejects] == [
        ("not_null(carrier)", {"carrier": None, "distance": 0})
    ]
    first, second = made.results()
    assert (first.name, first.outcome, first.severity, first.failed_rows) == ("not_null(carrier)", "failed", "error", 2)
    assert (second.name, second.outcome, second.severity, second.failed_rows) == ("sane", "failed", "warn", 4)
    assert second.message == "4 of 6 rows fail: distance must be at least 1 and at most 6000"


def test_the_first_rule_is_named_and_all_are_told() -> None:
    _, rejects = checks(RANGE, NOT_NULL).apply(ROWS)
    assert [reject.rule for reject in rejects] == ["range(distance)", "range(distance)"]
    assert "not_null(carrier): carrier must not be NULL" in rejects[0].message


def test_passed_checks() -> None:
    made = checks(NOT_NULL)
    made.apply(ROWS.slice(0, 1))
    assert [(result.outcome, result.failed_rows) for result in made.results()] == [("passed", 0)]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"type": "not_nul", "column": "carrier"}, "unknown type in checks 'not_nul'.*did you mean 'not_null'"),
        ({"type": "not_null", "column": "carier"}, "unknown column 'carier'; known: carrier, distance"),
        ({"type": "not_null", "colum": "carrier"}, "unknown field 'colum'"),
        ({"type": "range", "column": "distance", "min": "far"}, "check 'range.distance.'.*'far' is no number"),
        ({"type": "accepted_values", "column": "distance"}, "field 'values' is missing"),
    ],
)
def test_wrong_manifests(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=f"stream 's'.*{words}"):
        checks(spec)


def test_set_checks_stand_apart_and_never_pass_by_error() -> None:
    made = checks(NOT_NULL, {"type": "row_count", "min": 1, "severity": "warn", "name": "some rows"})
    [check] = made.set_checks
    assert (check.label, check.severity) == ("some rows", "warn")
    result = check.evaluate(PlainQueries("duckdb", lambda _: [[0]]), "raw.s")
    assert (result.name, result.target, result.severity, result.outcome) == ("some rows", "raw.s", "warn", "failed")

    def broken(_: str) -> list[list[Any]]:
        raise RuntimeError("no such table")

    errored = check.evaluate(PlainQueries("duckdb", broken), "raw.s")
    assert errored.outcome == "errored"
    assert "no such table" in errored.message
