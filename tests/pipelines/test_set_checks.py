"""Set checks: which table each looks at, what a failure means, and that one that cannot be evaluated never passes."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from millstream_api import CheckResult
from millstream_api.stream import CheckSpec
from millstream_pipelines.errors import ConfigurationError, DataError
from millstream_pipelines.set_checks import SetChecks, enforce


class Rows:
    """Queries over tables of which only the number of rows is known; an unknown one is an error."""

    dialect: Literal["postgres", "duckdb"] = "postgres"

    def __init__(self, **rows: int) -> None:
        self.rows = rows

    def quoted(self, table: str) -> str:
        return f"<{table}>"

    def identifier(self, name: str) -> str:
        return name

    def scalar(self, sql: str) -> object:
        return self.rows[sql.split("<raw.")[1].split(">")[0]]


def spec(**given: Any) -> CheckSpec:
    return CheckSpec.model_validate({"type": "row_count", "min": 1, **given})


def test_each_check_looks_at_its_own_table_or_the_default() -> None:
    checks = SetChecks([spec(), spec(target="raw.b", name="b has rows")], "raw.a", "transform 't'")
    results = checks.evaluate(Rows(a=1, b=0))
    assert [(item.name, item.target, item.outcome) for item in results] == [
        ("row_count", "raw.a", "passed"),
        ("b has rows", "raw.b", "failed"),
    ]
    assert results[1].failed_rows == 1


def test_without_a_default_each_check_names_its_table() -> None:
    with pytest.raises(ConfigurationError, match=r"pipeline 'p': check 'row_count' needs `target`"):
        SetChecks([spec()], None, "pipeline 'p'")


def test_a_row_check_has_its_place_elsewhere() -> None:
    row_check = CheckSpec.model_validate({"type": "not_null", "columns": ["a"]})
    with pytest.raises(ConfigurationError, match=r"'not_null' looks at rows in flight"):
        SetChecks([row_check], "raw.a", "pipeline 'p'")


def test_wrong_parameters_and_types_are_told_before_the_run() -> None:
    with pytest.raises(ConfigurationError, match=r"check 'row_count'.*unknown field 'mni'"):
        SetChecks([spec(mni=1)], "raw.a", "pipeline 'p'")
    with pytest.raises(ConfigurationError, match=r"did you mean 'row_count'"):
        SetChecks([spec(type="row_cout")], "raw.a", "pipeline 'p'")


def test_a_check_that_cannot_be_evaluated_is_errored_and_enforced() -> None:
    checks = SetChecks([spec(target="raw.gone")], None, "pipeline 'p'")
    results = checks.evaluate(Rows())
    assert [item.outcome for item in results] == ["errored"]
    assert "could not be evaluated" in results[0].message
    with pytest.raises(DataError, match=r"pipeline 'p': check row_count\(raw.gone\) errored"):
        checks.enforce(results)


def result(**given: Any) -> CheckResult:
    return CheckResult.model_validate({"name": "c", "target": "t", "severity": "error", "outcome": "passed", **given})


def test_only_errors_that_did_not_pass_fail_the_run() -> None:
    enforce("p", [result(), result(severity="warn", outcome="failed"), result(severity="warn", outcome="errored")])
    with pytest.raises(DataError) as caught:
        enforce("p", [result(outcome="failed", message="why"), result(name="d", outcome="errored", message="how")])
    assert str(caught.value) == "p: check c failed: why; check d errored: how"
