"""The checks of one stream: rows that fail are set aside, and everything is counted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from millstream_api import CheckResult
from millstream_api.stream import CheckSpec
from millstream_pipelines import registry
from millstream_pipelines.batch import DELETED, Kept, Reject
from millstream_pipelines.budgets import Budget
from millstream_pipelines.checks.base import RowCheck, SetCheck
from millstream_pipelines.errors import ConfigurationError, unknown_value
from millstream_pipelines.queries import TableQueries
from millstream_pipelines.schema import Schema
from millstream_pipelines.set_checks import evaluated, refuse_budget

if TYPE_CHECKING:
    import pyarrow as pa

    from millstream_pipelines.faults import Fault

_SAMPLES = 3
_SAMPLE_CHARACTERS = 80
_LOOKED_AT = 50  # rows of a batch in search of different values


@dataclass
class _BoundRowCheck:
    spec: CheckSpec
    label: str
    check: RowCheck
    failed_rows: int = 0
    samples: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class BoundSetCheck:
    """A set check as the manifest gives it. It looks at the table it names itself, or else at the one it is given."""

    spec: CheckSpec
    check: SetCheck

    @property
    def label(self) -> str:
        """Return its name in reports."""
        return self.spec.name or self.check.label

    @property
    def severity(self) -> Literal["error", "warn"]:
        """Return what a failure means."""
        return self.spec.severity

    def evaluate(self, queries: TableQueries, table: str) -> CheckResult:
        """Return what it found; `errored` when it could not be evaluated."""
        return evaluated(self.spec, self.check, self.check.table() or table, queries)


Tally = tuple[Any, ...]
"""The counts of all row checks at one moment."""


class RowChecks:
    """Row checks, applied batch by batch, and the set checks named beside them.

    Everything that a manifest can have wrong (type, field, column, pattern, a value that the column cannot hold) is a
    ConfigurationError here, before the first row.
    """

    def __init__(
        self,
        specs: Sequence[CheckSpec],
        schema: Schema,
        owner: str,
        *,
        private: frozenset[str] = frozenset(),
        before: RowChecks | None = None,
    ) -> None:
        """`private`: columns whose values no report may show. `before`: the same checks under an earlier shape of the
        stream, whose counts go on."""
        self.set_checks: list[BoundSetCheck] = []
        self._checks: list[_BoundRowCheck] = []
        self._rows = 0
        self._owner, self._private = owner, private
        for spec in specs:
            check = _component(spec, owner)
            if isinstance(check, RowCheck):
                self._checks.append(_BoundRowCheck(spec, spec.name or check.label, check))
            elif isinstance(check, SetCheck):
                refuse_budget(spec, owner)
                self.set_checks.append(BoundSetCheck(spec, check))
            else:
                raise ConfigurationError(f"{owner}: plug-in '{spec.type}' is neither a RowCheck nor a SetCheck")
        self._rehearse(schema, owner)
        if before is not None:
            self._rows = before._rows
            for bound, old in zip(self._checks, before._checks, strict=True):
                bound.failed_rows, bound.samples = old.failed_rows, old.samples

    @property
    def row_checks(self) -> int:
        """How many checks look at rows."""
        return len(self._checks)

    def tally(self) -> Tally:
        """Return what was counted so far, for `recount`."""
        return (self._rows, *((bound.failed_rows, list(bound.samples)) for bound in self._checks))

    def recount(self, tally: Tally) -> None:
        """Go back to an earlier tally: the rows since then are checked again. An empty one is the beginning."""
        self._rows, *counted = tally or (0, *((0, []) for _ in self._checks))
        for bound, (failed_rows, samples) in zip(self._checks, counted, strict=True):
            bound.failed_rows, bound.samples = failed_rows, list(samples)

    def apply(
        self, rows: pa.RecordBatch, read: Callable[[pa.Array], list[Kept]] | None = None
    ) -> tuple[pa.RecordBatch, list[Reject]]:
        """Return the rows that pass every check of severity `error`, and the others with what they break.

        A row that is marked as deleted passes: it leaves the target whatever its values are.

        `rule` is the first broken check's label, the message names all. Severity `warn` only counts. `read` returns
        rows by their places as quarantine keeps them; without it they are kept as they are here.
        """
        self._rows += rows.num_rows
        if not self._checks:
            return rows, []
        import pyarrow.compute as pc

        from millstream_pipelines.faults import refused_rows, rejects_of

        gone = rows.column(DELETED) if DELETED in rows.schema.names else None
        faults = []
        for bound in self._checks:
            passed = pc.fill_null(bound.check.passes(rows), False)
            if gone is not None:
                passed = pc.or_(passed, gone)
            failed = rows.num_rows - passed.true_count
            if not failed:
                continue
            bound.failed_rows += failed
            self._sample(bound, rows, passed)
            if bound.spec.severity == "error":
                faults.append(_fault(bound, pc.invert(passed)))
        if not faults:
            return rows, []
        refused = refused_rows(faults)
        plain = rows if gone is None else rows.drop_columns([DELETED])
        rejects = rejects_of(faults, refused, read or (lambda indices: _as_shaped(plain, indices)))
        return rows.filter(pc.invert(refused)), rejects

    def results(self) -> list[CheckResult]:
        """Return what each row check has found in all batches so far."""
        return [
            CheckResult(
                name=bound.label,
                severity=bound.spec.severity,
                outcome="failed" if bound.failed_rows else "passed",
                failed_rows=bound.failed_rows,
                message=f"{bound.failed_rows} of {self._rows} rows fail: {bound.check.message()}"
                if bound.failed_rows
                else "",
                samples=bound.samples,
            )
            for bound in self._checks
        ]

    def seen(self) -> dict[str, Any]:
        """Return what was seen so far, as JSON that `add` takes in another process."""
        checks = [[bound.failed_rows, bound.samples] for bound in self._checks]
        return {"rows": self._rows, "checks": checks}

    def add(self, seen: dict[str, Any]) -> None:
        """Count what the same checks have seen elsewhere."""
        self._rows += int(seen["rows"])
        for bound, (failed_rows, samples) in zip(self._checks, seen["checks"], strict=True):
            bound.failed_rows += int(failed_rows)
            bound.samples = [*bound.samples, *(text for text in samples if text not in bound.samples)][:_SAMPLES]

    def budgets(self) -> Iterator[Budget]:
        """Yield the budgets of the checks that have one, with what was seen so far."""
        for bound in self._checks:
            if bound.spec.max_failed_rows is None and bound.spec.max_failed_ratio is None:
                continue
            what = f"{self._owner}: check '{bound.label}': {bound.failed_rows} of {self._rows} rows fail it"
            yield Budget(what, bound.spec.max_failed_rows, bound.spec.max_failed_ratio, bound.failed_rows, self._rows)

    def _sample(self, bound: _BoundRowCheck, rows: pa.RecordBatch, passed: pa.BooleanArray) -> None:
        """Keep a few of the values that fail, each once."""
        import pyarrow.compute as pc

        from millstream_pipelines.json_rows import json_rows
        from millstream_pipelines.masking import REDACTED

        if len(bound.samples) >= _SAMPLES:
            return
        columns = [name for name in bound.check.columns() if rows.schema.get_field_index(name) >= 0]
        indices = pc.indices_nonzero(pc.invert(passed))[:_LOOKED_AT]
        for row in json_rows(rows.select(columns).take(indices)):
            shown = ", ".join(REDACTED if name in self._private else _shown(value) for name, value in row.items())
            if (shown := shown[:_SAMPLE_CHARACTERS]) and shown not in bound.samples and len(bound.samples) < _SAMPLES:
                bound.samples.append(shown)

    def _rehearse(self, schema: Schema, owner: str) -> None:
        """Check no rows at all, so that what is wrong shows now."""
        if not self._checks:
            return
        import pyarrow as pa

        arrow = schema.arrow()
        none = pa.RecordBatch.from_arrays([pa.array([], field.type) for field in arrow], schema=arrow)
        for bound in self._checks:
            where = f"{owner}: check '{bound.label}'"
            for name in bound.check.columns():
                if schema.get(name) is None:
                    raise unknown_value(where, "column", name, schema.names)
            try:
                bound.check.passes(none)
            except ConfigurationError as error:
                raise ConfigurationError(f"{where}: {error}") from None


def _as_shaped(rows: pa.RecordBatch, indices: pa.Array) -> list[Kept]:
    import pyarrow as pa

    from millstream_pipelines.json_rows import json_rows

    return [Kept(row, "shaped") for row in json_rows(pa.Table.from_batches([rows]).take(indices))]


def _shown(value: object) -> str:
    return "NULL" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _component(spec: CheckSpec, owner: str) -> object:
    plugin = registry.component("checks", spec.type, owner)
    config = registry.configured(plugin.Config, spec.parameters(), {}, f"{owner}: check '{spec.type}'")
    built: object = plugin(config)
    return built


def _fault(bound: _BoundRowCheck, rows: pa.BooleanArray) -> Fault:
    from millstream_pipelines.faults import Fault

    why = f"{bound.label}: {bound.check.message()}"
    return Fault(bound.label, rows, lambda _: why)
