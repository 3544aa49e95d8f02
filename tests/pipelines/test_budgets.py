"""Error budgets: a number is judged at once, a share when it is fair; nothing that breaks one is committed."""

from __future__ import annotations

import pytest

from memory_runs import Works, counted, works
from millstream_api.stream import CheckSpec
from millstream_pipelines.budgets import FAIR_ROWS, Budget
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.set_checks import SetChecks
from servers.plugin import postgres_database, postgres_server

__all__ = ["postgres_database", "postgres_server", "works"]

SMALL = {"type": "range", "column": "v", "max": 9}


@pytest.mark.parametrize(
    ("max_rows", "max_ratio", "bad", "seen", "early", "final"),
    [
        (None, None, 10, 10, False, False),
        (2, None, 2, 2, False, False),
        (2, None, 3, 9, True, True),
        (None, 0.1, 1, 10, False, False),
        (None, 0.1, 2, 10, False, True),
        (None, 0.1, FAIR_ROWS // 5, FAIR_ROWS, True, True),
        (None, 0.0, 0, 0, False, False),
        (0, 0.5, 1, 9, True, True),
    ],
)
def test_when_a_budget_is_judged(
    max_rows: int | None, max_ratio: float | None, bad: int, seen: int, early: bool, final: bool
) -> None:
    budget = Budget("rows", max_rows, max_ratio, bad, seen)
    assert (budget.judged(final=False) is not None, budget.judged(final=True) is not None) == (early, final)


def test_a_bad_row_at_the_start_is_no_share_of_the_stream(works: Works) -> None:
    works.batch_rows = 10
    works.rows = [{"v": 99 if n == 0 else 1} for n in range(100)]
    report = works.run({"checks": [SMALL | {"maxFailedRatio": 0.05}]}, errorBudget={"maxQuarantinedRatio": 0.05})
    assert (report.exit_code, counted(report)) == (0, (100, 99, 1, 0, 0)), report.message


def test_a_chunk_over_its_share_waits_for_more_rows(works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream_pipelines.seen._COMMIT_ROWS", 10)
    works.batch_rows = 10
    works.rows = [{"v": 99 if n < 2 else 1} for n in range(60)]
    report = works.run(errorBudget={"maxQuarantinedRatio": 0.05}, stream={"checks": [SMALL]})
    assert (report.exit_code, counted(report)) == (0, (60, 58, 2, 0, 0)), report.message
    assert works.ask("SELECT read FROM _millstream.ledger ORDER BY seq") == [(40,), (10,), (10,)]


@pytest.mark.parametrize("severity", ["error", "warn"])
@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ({"maxFailedRows": 2}, "check 'range(v)': 3 of 20 rows fail it, more than 2 rows"),
        ({"maxFailedRatio": 0.1}, "check 'range(v)': 3 of 20 rows fail it, a share of 0.1500 above 0.1"),
    ],
)
def test_a_check_over_its_budget_fails_the_run(
    works: Works, severity: str, limit: dict[str, float], words: str
) -> None:
    works.rows = [{"v": 99 + n if n < 3 else 1} for n in range(20)]
    report = works.run({"checks": [SMALL | limit | {"severity": severity}]})
    assert (report.exit_code, report.reason) == (65, "ErrorBudgetSpent")
    assert words in report.message
    assert works.ask("SELECT count(*) FROM raw.s") == [(0,)]
    [check] = report.checks
    assert (check.outcome, check.failed_rows, check.samples) == ("failed", 3, ["99", "100", "101"])
    works.rows = [{"v": 1}]
    assert counted(works.run({"checks": [SMALL | limit | {"severity": severity}]})) == (1, 1, 0, 0, 0)


def test_counts_go_on_when_the_stream_changes_its_shape(works: Works) -> None:
    works.batch_rows = 2
    works.rows = [{"v": 99}, {"v": 1}, {"v": 99, "w": 1}, {"v": 1, "w": 1}]
    report = works.run({"checks": [SMALL]})
    assert [(check.failed_rows, check.message.split(":")[0]) for check in report.checks] == [(2, "2 of 4 rows fail")]


def test_masked_values_are_no_samples_and_long_ones_are_cut(works: Works) -> None:
    works.rows = [{"mail": f"m{n}", "note": "x" * 500, "n": None} for n in range(9)]
    short = {"type": "length", "max": 1, "severity": "warn"}
    report = works.run(
        {
            "columns": [{"name": "mail", "mask": "hash"}],
            "checks": [
                short | {"column": "mail"},
                short | {"column": "note"},
                {"type": "not_null", "columns": ["n", "mail"], "severity": "warn"},
            ],
        }
    )
    assert [check.samples for check in report.checks] == [["***"], ["x" * 80], ["NULL, ***"]]


@pytest.mark.parametrize("limit", [{"maxFailedRows": 1}, {"maxFailedRatio": 0.5}])
def test_a_check_of_a_whole_table_has_no_budget(works: Works, limit: dict[str, float]) -> None:
    works.rows = [{"v": 1}]
    report = works.run({"checks": [{"type": "unique", "columns": ["v"]} | limit]})
    assert report.exit_code == 78
    assert f"stream 's': check 'unique': {next(iter(limit))}" in report.message
    with pytest.raises(ConfigurationError, match="has no error budget"):
        SetChecks([CheckSpec.model_validate({"type": "row_count", "min": 1} | limit)], "raw.a", "transform 't'")
