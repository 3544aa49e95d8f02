"""One batch while it is shaped: its columns, each typed once, and the rows found wanting so far."""

from __future__ import annotations

import pyarrow as pa

from millstream_pipelines.casting import as_text, cast_column
from millstream_pipelines.expressions import Expression, evaluate
from millstream_pipelines.faults import Fault
from millstream_pipelines.own_lines import column_in_lines
from millstream_pipelines.schema import Schema, arrow_type


class Work:
    """One batch on its way: its columns, each typed once, and the faults found so far."""

    def __init__(
        self,
        data: pa.RecordBatch,
        described: Schema,
        hidden: set[str],
        masked_before: frozenset[str] = frozenset(),
        *,
        vouched: bool = False,
    ) -> None:
        self.masked_before = masked_before
        self._data = data
        self._described = described
        self._hidden = hidden
        self._vouched = vouched
        self._typed: dict[str, pa.Array] = {}
        self.faults: list[Fault] = []

    def read(self, name: str) -> pa.Array:
        """Return a source column as it was read; NULLs when it has vanished."""
        place = self._data.schema.get_field_index(name)
        return self._data.column(place) if place >= 0 else column_in_lines(self._data, name)

    def is_vouched(self, name: str, target: str) -> bool:
        """Return whether each value of a source column is surely one of this type, and stored as one."""
        described = self._described.get(name) if self._vouched else None
        # json may say NUL, which other types cannot take.
        kept = described is not None and described.type == target and target != "json"
        return kept and self.read(name).type == arrow_type(target)

    def cast(self, name: str, values: pa.Array, target: str, *, private: bool) -> pa.Array:
        """Cast and note the refused rows under `cast(name)`; `private` keeps the value out of the message."""
        cast = cast_column(values, target)
        if cast.refused is not None:

            def explain(index: int) -> str:
                seen = "the value" if private else _shown(values[index])
                return f"column '{name}': {seen} is no {target}{_cure(values[index], target)}"

            self.faults.append(Fault(f"cast({name})", cast.refused, explain))
        return cast.values

    def reads_hidden(self, expression: Expression) -> bool:
        """Return whether an expression reads what a message must not show."""
        return any(name in self._hidden for name in expression.inputs)

    def evaluated(self, expression: Expression, rule: str, *, private: bool) -> pa.Array:
        """Evaluate over the source columns in their described types, and note the rows where that fails."""
        inputs = {name: self._input(name) for name in expression.inputs}
        rows = pa.RecordBatch.from_pydict(inputs) if inputs else self._data
        result = evaluate(expression, rows)
        if result.failed is not None:
            # DuckDB's words hold the first failing row's value; they are about one row, and may be private.
            quiet = private or self.reads_hidden(expression)
            why = f"{rule}: it fails for this row" if quiet else f"{rule}: it fails for this row or one like it"
            self.refuse(rule, result.failed, why if quiet else f"{why}: {result.message}")
        return result.values

    def _input(self, name: str) -> pa.Array:
        if name not in self._typed:
            column = self._described.get(name)
            target = column.type if column else "text"
            self._typed[name] = self.cast(name, self.read(name), target, private=name in self._hidden)
        return self._typed[name]

    def refuse(self, rule: str, rows: pa.BooleanArray | None, why: str) -> None:
        """Note refused rows, if there are any."""
        if rows is not None and rows.true_count:
            self.faults.append(Fault(rule, rows, lambda _: why))


def _cure(value: pa.Scalar, target: str) -> str:
    """Return what to declare so that a value of the source's own type is kept, "" where nothing is known."""
    if target.startswith("numeric(") and str(value).strip().lower().lstrip("+-") in ("nan", "inf", "infinity"):
        return "; `type: numeric` holds it"
    return ""


def _shown(value: pa.Scalar) -> str:
    """Return a value for a message: at most 80 characters, control characters escaped."""
    shown = repr(str(as_text(pa.array([value]))[0]))
    return shown if len(shown) <= 80 else f"{shown[:77]}…'"
