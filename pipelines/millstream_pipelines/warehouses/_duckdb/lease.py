"""The lease of one stream: who may commit.

Other processes are kept out by DuckDB's lock of the file, which the kernel drops with its holder; loaders within this
process are told apart here. The epoch in `_millstream.state` fences as it does in PostgreSQL.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import duckdb

from millstream_pipelines.errors import ConfigurationError, RetriableError, SupersededError
from millstream_pipelines.warehouses._duckdb.connection import rows
from millstream_pipelines.warehouses.base import LoadSpec

_MINE = "pipeline = $1 AND stream = $2"
_guard = threading.Lock()
_living: dict[tuple[str, str, str], Lease] = {}


class Lease:
    """A stream's lease. `give_up` ends the holder's open transaction when a successor takes over."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, path: str, spec: LoadSpec, give_up: Callable[[], None]
    ) -> None:
        self._connection = connection
        self._spec = spec
        self._key = [spec.pipeline, spec.state]
        self._place = (path, spec.pipeline, spec.state)
        self._give_up = give_up
        self._overtaken = False
        self.epoch = 0
        self.seq = 0

    def take(self) -> Any:
        """Take the lease and return the committed position. RetriableError while another run's loader lives."""
        spec = self._spec
        with _guard:
            before = _living.get(self._place)
            if before is not None and before._spec.run != spec.run:
                raise RetriableError(
                    f"stream '{spec.stream}': run '{before._spec.run}' ({before._spec.holder}) is loading it now; "
                    "this run waits for its turn",
                    reason="StreamBusy",
                )
            _living[self._place] = self
        if before is not None:
            before._overtaken = True
            before._give_up()
        execute = self._connection.execute
        execute("BEGIN")
        execute("INSERT OR IGNORE INTO _millstream.state (pipeline, stream) VALUES (?, ?)", self._key)
        if spec.full_refresh and spec.mode == "incremental":
            self._forget_position()
        execute(
            "UPDATE _millstream.state SET epoch = epoch + 1, run = $3, holder = $4, renewed_at = now() "
            f"WHERE {_MINE}", [*self._key, spec.run, spec.holder],
        )  # fmt: skip
        self.epoch, self.seq, committed = rows(
            self._connection, f"SELECT epoch, seq, position::VARCHAR FROM _millstream.state WHERE {_MINE}", self._key
        )[0]
        execute("COMMIT")
        return json.loads(committed) if committed is not None else None

    def verify(self) -> None:
        """Raise SupersededError when another attempt has taken over."""
        found = rows(self._connection, f"SELECT epoch FROM _millstream.state WHERE {_MINE}", self._key)
        if self._overtaken or not found or found[0][0] != self.epoch:
            raise self.superseded()

    @property
    def overtaken(self) -> bool:
        """Whether a successor in this process has taken over."""
        return self._overtaken

    def advance(self, position: str | None) -> None:
        """Count one more chunk and its position (JSON, None keeps the old): the statement that fences."""
        moved = self._connection.execute(
            "UPDATE _millstream.state SET seq = seq + 1, position = coalesce($3::JSON, position), renewed_at = now() "
            f"WHERE {_MINE} AND epoch = $4 AND seq = $5",
            [*self._key, position, self.epoch, self.seq],
        ).fetchone()
        if self._overtaken or moved is None or moved[0] != 1:
            raise self.superseded()

    def release(self) -> None:
        """Let the next run have the stream."""
        with _guard:
            if _living.get(self._place) is self:
                del _living[self._place]

    def superseded(self) -> SupersededError:
        """Return the error of an attempt that must stop."""
        return SupersededError(
            f"stream '{self._spec.stream}': another attempt has taken over from {self._spec.holder}; "
            "this one stops and loses nothing"
        )

    def _forget_position(self) -> None:
        if self._spec.disposition == "append":
            raise ConfigurationError(
                f"stream '{self._spec.stream}': a full refresh with writeDisposition 'append' would load every row "
                "again; use 'merge' with a primaryKey, or mode 'full' with 'replace'"
            )
        self._connection.execute(
            f"UPDATE _millstream.state SET position = NULL, refresh_run = $3 WHERE {_MINE} "
            "AND refresh_run IS DISTINCT FROM $3",
            [*self._key, self._spec.run],
        )
