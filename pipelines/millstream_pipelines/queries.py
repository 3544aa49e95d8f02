"""What a set check may ask a warehouse. Apart from both, so that neither knows the other."""

from __future__ import annotations

from typing import Literal, Protocol


class TableQueries(Protocol):
    """What a set check may ask a warehouse, inside the loading transaction."""

    dialect: Literal["postgres", "duckdb"]

    def quoted(self, table: str) -> str:
        """Return `schema.table` quoted for SQL."""
        ...

    def identifier(self, name: str) -> str:
        """Return one identifier quoted for SQL."""
        ...

    def scalar(self, sql: str) -> object:
        """Run a query of one row and one column; None when it is NULL."""
        ...
