"""The protocols of a check: a row check is a predicate over a batch, a set check is SQL over a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from millstream_pipelines.queries import TableQueries

if TYPE_CHECKING:
    import pyarrow as pa


class CheckConfig(BaseModel):
    """Base of a check's configuration: camelCase outside, unknown fields refused."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", defer_build=True)


@runtime_checkable
class RowCheck(Protocol):
    """A vectorised predicate over a batch. Constructed with its validated `Config`."""

    Config: ClassVar[type[BaseModel]]

    def __init__(self, config: BaseModel) -> None: ...

    @property
    def label(self) -> str:
        """Name in reports when the user gives none, for example `not_null(carrier)`."""
        ...

    def columns(self) -> list[str]:
        """Columns it reads; an absent one is a ConfigurationError before the first row."""
        ...

    def passes(self, batch: pa.RecordBatch) -> pa.BooleanArray:
        """Return one value per row, True where the row satisfies the check; never null."""
        ...

    def message(self) -> str:
        """Say what a row must satisfy, for the quarantine table."""
        ...


@dataclass(frozen=True)
class Finding:
    """What a set check saw. `failed_rows` is 0 when it passed."""

    passed: bool
    failed_rows: int
    message: str


@runtime_checkable
class SetCheck(Protocol):
    """A statement about a whole table. Constructed with its validated `Config`."""

    Config: ClassVar[type[BaseModel]]

    def __init__(self, config: BaseModel) -> None: ...

    @property
    def label(self) -> str:
        """Name in reports when the user gives none."""
        ...

    def table(self) -> str | None:
        """Return the table its own `target` field names, or None for the stream's."""
        ...

    def evaluate(self, queries: TableQueries, table: str) -> Finding:
        """Look at `table` (`schema.table`) and say what was found."""
        ...
