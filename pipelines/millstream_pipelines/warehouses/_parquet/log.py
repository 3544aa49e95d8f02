"""The log of one table: read it, and add to it. A commit is an object that one of several racers creates.

Numbers have no gap, so whoever creates n+1 has seen n: reading, deciding and creating is one step, taken again when
somebody else was first.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from pydantic import ValidationError

from millstream_pipelines.errors import ConfigurationError, MillstreamError
from millstream_pipelines.warehouses._parquet.commits import FORMAT, Commit, TableState, named, number_name, path_name
from millstream_pipelines.warehouses._parquet.store import Store
from millstream_pipelines.warehouses.base import Counts

SCHEMA = "main"
COMMITS, CHECKPOINTS, LAST = "_commits", "_checkpoints", "last.json"
_EVERY = 50  # commits between two checkpoints
_READERS = 16  # small objects are fetched side by side: the way there takes longer than they do

_log = logging.getLogger(__name__)


def parts(table: str) -> tuple[str, str]:
    """Return schema and table; a bare name lies in `main`."""
    head, dot, tail = table.partition(".")
    return (head, tail) if dot else (SCHEMA, head)


def folder_of(schema: str, table: str) -> str:
    """Return the folder of a table."""
    return f"{path_name(schema)}/{path_name(table)}"


def tables(store: Store) -> list[tuple[str, str]]:
    """Return schema and name of every folder that may be a table."""
    return [
        (named(schema), named(table))
        for schema in store.folders("")
        if schema != "_millstream"
        for table in store.folders(schema)
    ]


class TableLog:
    """The log of one table, known up to `state`."""

    def __init__(self, store: Store, schema: str, table: str, owner: str) -> None:
        self._store, self._owner = store, owner
        self.folder = folder_of(schema, table)
        self.state = TableState()

    def read(self) -> TableState:
        """Read the state: the newest checkpoint that is known of, and the commits behind it."""
        if self.state.number == 0:
            self.state = self._checkpoint() or self.state
            head = f"{self.folder}/{COMMITS}/{number_name(self.state.number)}"
            self._take(self._fetched(self._store.keys(f"{self.folder}/{COMMITS}", after=head)))
        self.catch_up()
        return self.state

    def catch_up(self) -> list[Commit]:
        """Read what was committed since, and return it."""
        found: list[Commit] = []
        while (content := self._store.get(self._key(self.state.number + 1))) is not None:
            found.append(self._parsed(content, self._key(self.state.number + 1)))
            self._take(iter(found[-1:]))
        return found

    def publish(self, decide: Callable[[TableState], Commit]) -> Commit:
        """Add the commit that `decide` makes of the newest state, and return it; what it raises ends the attempt.

        `decide` is asked again when another commit was first. An error of the storage leaves it open whether the
        commit has happened.
        """
        while True:
            commit = decide(self.state)
            content = commit.model_dump_json(exclude_defaults=False).encode()
            if self._store.create(self._key(commit.number), content):
                self._take(iter([commit]))
                self._maybe_checkpoint()
                return commit
            # An answer may be lost and the request repeated: then the one that was first is ours.
            if any(other.id == commit.id for other in self.catch_up()):
                return commit

    def commits(self) -> Iterator[Commit]:
        """Yield every commit there is, in order."""
        yield from self._fetched(self._store.keys(f"{self.folder}/{COMMITS}"))

    def numbered(self, numbers: list[int]) -> Iterator[Commit]:
        """Yield some commits, in order."""
        yield from self._fetched([self._key(number) for number in numbers])

    def run_counts(self, pipeline: str, stream: str, run: str) -> Counts:
        """Return what a run has committed, as of now."""
        self.catch_up()
        return self.state.stream(pipeline, stream).counts(run)

    def _key(self, number: int) -> str:
        return f"{self.folder}/{COMMITS}/{number_name(number)}"

    def _take(self, found: Iterator[Commit]) -> None:
        for commit in found:
            if commit.number != self.state.number + 1:
                raise ConfigurationError(
                    f"{self._owner}: commit {self.state.number + 1} of '{self.folder}' is missing under "
                    f"'{self._store.shown}', commit {commit.number} is there; objects were removed: restore them"
                )
            self.state = self.state.after(commit)

    def _fetched(self, keys: list[str]) -> Iterator[Commit]:
        if len(keys) < 2:
            yield from (self._parsed(self._store.get(key), key) for key in keys)
            return
        with ThreadPoolExecutor(_READERS, thread_name_prefix="millstream-commits") as pool:
            for start in range(0, len(keys), 1000):
                some = keys[start : start + 1000]
                for key, content in zip(some, pool.map(self._store.get, some), strict=True):
                    yield self._parsed(content, key)

    def _parsed(self, content: bytes | None, key: str) -> Commit:
        self._refuse_newer(content, key)
        try:
            return Commit.model_validate_json(content or b"")
        except ValidationError as error:
            raise self._damaged(key) from error

    def _refuse_newer(self, content: bytes | None, key: str) -> None:
        try:
            found = json.loads(content or b"").get("format")
        except (ValueError, AttributeError) as error:
            raise self._damaged(key) from error
        if not isinstance(found, int) or found > FORMAT:
            raise ConfigurationError(
                f"{self._owner}: '{key}' under '{self._store.shown}' has format {found}, made by a newer version of "
                f"millstream; this one reads formats up to {FORMAT}"
            )

    def _damaged(self, key: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self._owner}: '{key}' under '{self._store.shown}' is no commit of millstream; restore it, or load into "
            "another table"
        )

    # -- checkpoints: so that reading the state takes few requests; never needed for it to be right ---------------

    def _checkpoint(self) -> TableState | None:
        hint = self._store.get(f"{self.folder}/{CHECKPOINTS}/{LAST}")
        if hint is None:
            return None
        key = f"{self.folder}/{CHECKPOINTS}/{number_name(int(json.loads(hint)['number']))}"
        content = self._store.get(key)
        if content is None:
            return None
        self._refuse_newer(content, key)
        return TableState.model_validate_json(content)

    def _maybe_checkpoint(self) -> None:
        if self.state.number % _EVERY:
            return
        folder = f"{self.folder}/{CHECKPOINTS}"
        try:
            self._store.create(f"{folder}/{number_name(self.state.number)}", self.state.model_dump_json().encode())
            self._store.overwrite(f"{folder}/{LAST}", json.dumps({"number": self.state.number}).encode())
        except MillstreamError as error:  # the commit stands; the next checkpoint is fifty commits away
            _log.warning("checkpoint %s of %s: %s", self.state.number, self.folder, error)
            return
        with suppress(MillstreamError):
            self._store.remove([f"{folder}/{number_name(self.state.number - 2 * _EVERY)}"])
