"""What a warehouse and its loads can do beyond the protocol; found by `isinstance`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from millstream_pipelines.errors import DataError
from millstream_pipelines.schema import Schema
from millstream_pipelines.warehouses.base import Counts, LoadSpec, StreamLoad


@runtime_checkable
class RawLoad(StreamLoad, Protocol):
    """A load that can take rows undecoded, in the columns that `shape` returned.

    `rollback` also ends what `open_raw` began, while another thread still writes.
    """

    def open_raw(self) -> Callable[[bytes], None]:
        """Open the transaction where it is not, and return what takes pieces of whole rows, from any one thread.

        It blocks while the server is behind, and raises SinkClosedError once the server has refused something.
        """
        ...

    def close_raw(self, rows: int, size_bytes: int) -> None:
        """End the rows that `open_raw` began. `rows`: how many the source says it sent; they count as read.

        Raises what the server refused.
        """
        ...


@runtime_checkable
class CostlyCommits(StreamLoad, Protocol):
    """A load whose commits leave something behind, such as files, so that fewer and larger ones are better."""

    commit_rows: int
    """Rows after which a commit is worth it."""
    commit_seconds: float
    """Seconds after which rows should not wait any longer, however few."""


@runtime_checkable
class RawWarehouse(Protocol):
    """A warehouse whose loads are `RawLoad`s."""

    def fitted(self, spec: LoadSpec, schema: Schema) -> Schema:
        """Return what `StreamLoad.shape` would, and change nothing."""
        ...

    def explain_raw(self, spec: LoadSpec, schema: Schema) -> list[str]:
        """See `Warehouse.explain_load`, for rows that come undecoded."""
        ...


@runtime_checkable
class CarefulLoad(StreamLoad, Protocol):
    """A load that can find the rows that only the warehouse refuses (a constraint of the target, for example).

    One such row makes `write`, `settle` or `commit` raise DataError. After the rollback the same rows are written
    again, carefully.
    """

    @property
    def counts(self) -> Counts:
        """The counts of the open transaction so far."""
        ...

    def may_search(self, error: DataError) -> bool:
        """Return whether an error may be about single rows, and this load could find them."""
        ...

    def careful(self) -> None:
        """Until the next commit or rollback find each row that is refused, and set it aside as contract.rows says.

        Its rule is `constraint(name)`, `required(column)` or `server(SQLSTATE)`. `write` raises DataError where the
        target refuses most rows.
        """
        ...
