"""Batch: the unit between stages, and Reject: a row set aside with the rule that refused it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from millstream_pipelines.errors import ConfigurationError

if TYPE_CHECKING:
    import pyarrow as pa


def _max_rows(text: str | None) -> int:
    rows = int(text) if text and text.isdecimal() else 0 if text else 100_000
    if not 1 <= rows <= 100_000:
        raise ConfigurationError(f"MILLSTREAM_BATCH_ROWS is '{text}'; write a whole number from 1 to 100000")
    return rows


MAX_BATCH_ROWS = _max_rows(os.environ.get("MILLSTREAM_BATCH_ROWS"))
MAX_BATCH_BYTES = 64 * 1024 * 1024

DELETED = "_millstream_deleted"
"""The last column of shaped rows that says which of them the source marks as deleted; never a column of a target."""

ROW = "_millstream_row"
"""Column of a batch that numbers its rows, where child rows refer to them. It reaches no target."""

Position = dict[str, Any]
"""Where to go on reading: JSON that only the source understands. Committed with the rows before it."""


LINE = "_millstream_line"
"""Column of a batch that holds each row's own line of JSON, for what no other column has: see `own_lines`."""

REPLAYED_ID = "_millstream_id"
"""Column of a batch that comes from the quarantine: the number each row has there. It reaches no target."""

Form = Literal["read", "shaped", "raw"]
"""What a quarantined row holds: source columns as read, target columns as shaped, or what could not be parsed."""


@dataclass(frozen=True)
class Kept:
    """A row as quarantine keeps it: enough to send it through the manifest once more."""

    row: dict[str, Any]
    form: Form = "read"
    masked: tuple[str, ...] = ()
    """Source columns whose values in `row` are masked already."""
    id: int | None = None
    """Its number, when it comes from the quarantine."""


@dataclass(frozen=True)
class Reject:
    """A row that goes to quarantine: the row as it was read, the rule, and why."""

    rule: str
    message: str
    row: dict[str, Any]
    """Column → JSON value, as read. A row that could not be parsed is {"_raw": text}."""
    form: Form = "read"
    masked: tuple[str, ...] = ()
    id: int | None = None


@dataclass(frozen=True)
class Batch:
    """Rows as a source reads them: at most MAX_BATCH_ROWS rows and about MAX_BATCH_BYTES.

    `position` is where reading goes on after this batch, or None while there is no safe place to go on from: the
    loader then keeps its transaction open until a position comes, or the stream ends.
    `rejects` are rows of this stretch that the source could not parse; they count as read.
    `vouched`: each value is one of its described type by the word of a server that has the type, so a column that
    keeps its type is not looked at again. `data` may have text where the described type's storage could not hold a
    value; such a column is.
    """

    data: pa.RecordBatch
    position: Position | None = None
    rejects: list[Reject] = field(default_factory=list)
    vouched: bool = field(default=False, kw_only=True)

    @property
    def rows_read(self) -> int:
        """Rows read: the parsed and the refused."""
        return int(self.data.num_rows) + len(self.rejects)
