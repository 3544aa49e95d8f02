"""Why rows are refused, gathered column by column and check by check; then one Reject per row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from millstream_pipelines.batch import Kept, Reject


@dataclass(frozen=True)
class Fault:
    """A rule and the rows it refuses (True, never null); `explain` says why, for one row's index."""

    rule: str
    rows: pa.BooleanArray
    explain: Callable[[int], str]


def refused_rows(faults: list[Fault]) -> pa.BooleanArray:
    """Return which rows any fault refuses; there is at least one fault."""
    refused = faults[0].rows
    for fault in faults[1:]:
        refused = pc.or_(refused, fault.rows)
    return refused


def rejects_of(faults: list[Fault], refused: pa.BooleanArray, read: Callable[[pa.Array], list[Kept]]) -> list[Reject]:
    """Return one Reject per refused row: the first rule in order, and every rule's reason in the message.

    `read` returns the rows at the given indices as quarantine keeps them.
    """
    indices = pc.indices_nonzero(refused)
    hits = [fault.rows.take(indices).to_pylist() for fault in faults]
    rejects = []
    for place, (index, kept) in enumerate(zip(indices.to_pylist(), read(indices), strict=True)):
        broken = [fault for fault, hit in zip(faults, hits, strict=True) if hit[place]]
        reasons = dict.fromkeys(fault.explain(index) for fault in broken)
        why = "; ".join(reasons)
        rejects.append(Reject(broken[0].rule, why, kept.row, kept.form, kept.masked, kept.id))
    return rejects
