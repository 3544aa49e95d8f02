"""The lease of one stream: a commit that raises its epoch. Whoever had it before is refused at its next commit.

Storage cannot say who is alive, so nobody waits: an attempt takes over from a dead one at once, and from a living one,
which then ends as superseded (75).
"""

from __future__ import annotations

import logging
import uuid
from datetime import UTC, datetime
from typing import Any

from millstream_pipelines.errors import ConfigurationError, MillstreamError
from millstream_pipelines.warehouses._parquet.commits import GRACE, Attempt, Commit, StreamState, TableState
from millstream_pipelines.warehouses._parquet.log import TableLog
from millstream_pipelines.warehouses._parquet.store import Store
from millstream_pipelines.warehouses.base import LoadSpec

_MAX_ATTEMPTS = 20  # whose leftovers are looked for

_log = logging.getLogger(__name__)


def taken(log: TableLog, store: Store, spec: LoadSpec, attempt: str) -> Any:
    """Take the lease and return the committed position. What earlier attempts left behind is removed."""
    if spec.full_refresh and spec.mode == "incremental" and spec.disposition == "append":
        raise ConfigurationError(
            f"stream '{spec.stream}': a full refresh with writeDisposition 'append' would load every row again; use "
            "mode 'full' with 'replace', or load by 'merge' into a warehouse of type postgres or duckdb"
        )
    state = log.read()
    due = state.purgeable(datetime.now(UTC))
    store.remove([f"{log.folder}/{key}" for key in due])
    commit = log.publish(lambda state: _lease(state, spec, attempt, due))
    _tidy(log, store, commit.state, attempt)
    return commit.state.position


def _lease(state: TableState, spec: LoadSpec, attempt: str, purged: list[str]) -> Commit:
    before, at = state.stream(spec.pipeline, spec.state), datetime.now(UTC)
    recent = [item for item in before.attempts if at - item.at < GRACE][1 - _MAX_ATTEMPTS :]
    after: dict[str, Any] = {
        "epoch": before.epoch + 1, "run": spec.run, "holder": spec.holder, "renewed_at": at,
        "attempts": [*recent, Attempt(id=attempt, at=at)],
    }  # fmt: skip
    if spec.full_refresh and spec.mode == "incremental" and before.refresh_run != spec.run:
        after |= {"position": None, "refresh_run": spec.run}
    mine = before.model_copy(update=after)
    return Commit(number=state.number + 1, id=uuid.uuid4().hex, kind="lease", at=at, state=mine, purged=purged)


def _tidy(log: TableLog, store: Store, state: StreamState, attempt: str) -> None:
    """Remove what earlier attempts of this stream wrote and never committed; they cannot commit it any more."""
    referenced = log.state.referenced()
    try:
        for earlier in state.attempts:
            if earlier.id != attempt:
                found = [
                    key for kind in ("data", "quarantine") for key in store.keys(f"{log.folder}/{kind}/{earlier.id}")
                ]
                store.remove([key for key in found if key.removeprefix(f"{log.folder}/") not in referenced])
    except MillstreamError as error:  # nobody reads them; the next attempt tries again
        _log.warning("leftovers of stream '%s' in %s: %s", state.stream, log.folder, error)
