"""SchemaDrift of a Pipeline: what its newest run that says something met, and the event when that changes."""

from __future__ import annotations

from collections.abc import Iterable

from millstream_api import Drift, conditions
from millstream_api.meta import Condition
from millstream_operator.reconcile.outcome import Note
from millstream_operator.reconcile.runs import RunState, finished_newest_first

_LISTED = 10


def condition(runs: Iterable[RunState], before: Condition | None) -> Condition | None:
    """Return the condition. A run that failed before it saw anything does not clear it; None until there was drift."""
    told = [run for run in finished_newest_first(runs) if run.tells and (run.status.drift or _read_all(run))]
    if not told:
        return before
    if told[0].status.drift:
        text = message(told[0].status.drift, told[0].status.drift_count or 0)
        return conditions.condition(conditions.SCHEMA_DRIFT, "True", conditions.SCHEMA_CHANGED, text)
    if before is None:
        return None
    text = f"run {told[0].name} met no change"
    text = before.message if before.status == "False" else text  # one that stays so is not written again and again
    return conditions.condition(conditions.SCHEMA_DRIFT, "False", conditions.SCHEMA_UNCHANGED, text)


def message(drift: list[Drift], count: int) -> str:
    """Return the changes as a sentence for people: column, what changed, what was done."""
    lines = [_line(item) for item in drift[:_LISTED]]
    left = max(count, len(drift)) - len(lines)
    return "; ".join([*lines, *([f"and {left} more"] if left else [])])


def turning_point(before: Condition | None, now: Condition | None) -> tuple[Note, ...]:
    """Return an event where drift begins or becomes another."""
    if now is None or now.status != "True" or (before is not None and before.message == now.message):
        return ()
    return (Note("Warning", now.reason, now.message),)


def _read_all(run: RunState) -> bool:
    return run.status.phase == "Succeeded"


def _line(item: Drift) -> str:
    types = {
        "added": f" ({item.after})" if item.after else "",
        "dropped": f" ({item.before})" if item.before else "",
    }.get(item.change, f" from {item.before} to {item.after}")
    return f"{item.stream}.{item.column} {item.change}{types}" + (f": {item.action}" if item.action else "")
