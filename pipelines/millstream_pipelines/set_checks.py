"""Set checks of a transform or a pipeline: which table each looks at, and what a failure means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from millstream_api import CheckResult
from millstream_api.stream import CheckSpec
from millstream_pipelines import registry
from millstream_pipelines.checks.base import SetCheck
from millstream_pipelines.errors import ConfigurationError, DataError, RetriableError
from millstream_pipelines.queries import TableQueries


class SetChecks:
    """Set checks bound to a default table (None: each must name its `target`)."""

    def __init__(self, specs: Sequence[CheckSpec], table: str | None, owner: str) -> None:
        self._owner = owner
        self._bound: list[tuple[CheckSpec, SetCheck, str]] = []
        for spec in specs:
            plugin = registry.component("checks", spec.type, owner)
            config = registry.configured(plugin.Config, spec.parameters(), {}, f"{owner}: check '{spec.type}'")
            check = plugin(config)
            if not isinstance(check, SetCheck):
                raise ConfigurationError(
                    f"{owner}: check '{spec.type}' looks at rows in flight; put it under a stream's `checks`"
                )
            refuse_budget(spec, owner)
            target = check.table() or table
            if target is None:
                raise ConfigurationError(f"{owner}: check '{spec.type}' needs `target`, the table to look at")
            self._bound.append((spec, check, target))

    def evaluate(self, queries: TableQueries) -> list[CheckResult]:
        """Run every check. One that cannot be evaluated is `errored`, never passed."""
        return [evaluated(spec, check, target, queries) for spec, check, target in self._bound]

    def enforce(self, results: Iterable[CheckResult]) -> None:
        """Raise DataError when a check of severity `error` did not pass."""
        enforce(self._owner, results)


def refuse_budget(spec: CheckSpec, owner: str) -> None:
    """Raise ConfigurationError when a set check is given a budget: it sets no rows aside, and passes or does not."""
    for name, value in (("maxFailedRows", spec.max_failed_rows), ("maxFailedRatio", spec.max_failed_ratio)):
        if value is not None:
            raise ConfigurationError(
                f"{owner}: check '{spec.name or spec.type}': {name}: {value}, but a check of a whole table has no "
                "error budget; take it out: the check's own fields or severity 'warn' say what is tolerated"
            )


def evaluated(spec: CheckSpec, check: SetCheck, table: str, queries: TableQueries) -> CheckResult:
    """Return what one set check found in `table`."""
    result = CheckResult(name=spec.name or check.label, target=table, severity=spec.severity, outcome="errored")
    try:
        finding = check.evaluate(queries, table)
    except RetriableError:
        raise  # the warehouse is away: no verdict on the data
    except Exception as error:  # any plug-in's error: the check could not be evaluated, and says why
        result.message = f"could not be evaluated: {error}"
        return result
    result.outcome = "passed" if finding.passed else "failed"
    result.failed_rows = finding.failed_rows
    result.message = finding.message
    return result


def enforce(owner: str, results: Iterable[CheckResult]) -> None:
    """Raise DataError that lists the checks of severity `error` that did not pass."""
    bad = [item for item in results if item.severity == "error" and item.outcome in ("failed", "errored")]
    if bad:
        raise DataError(f"{owner}: " + "; ".join(f"check {item.name} {item.outcome}: {item.message}" for item in bad))
