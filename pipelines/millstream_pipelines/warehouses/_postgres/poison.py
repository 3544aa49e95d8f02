"""Rows that only the server can refuse, by a constraint of the target for example: found by halving, and set aside.

A refused statement is undone to its savepoint and tried again in two halves, down to the single row. Rows that the
client still has are copied so; rows of the stage are merged so, by ranges of their order of arrival. With history a
half has whole keys, and one key's changes go in the order of their times, since each changes what the next one finds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import psycopg2
from psycopg2.extensions import connection as Connection

from millstream_pipelines.batch import DELETED, ROW, Reject
from millstream_pipelines.errors import DataError, RowRefusedError
from millstream_pipelines.warehouses._postgres import refusals, stage
from millstream_pipelines.warehouses._postgres.connection import detailed, one, run, translated
from millstream_pipelines.warehouses._postgres.merging import merge
from millstream_pipelines.warehouses._postgres.native import is_native
from millstream_pipelines.warehouses._postgres.quarantine import into
from millstream_pipelines.warehouses._postgres.scd2 import KEY_BITS, renumbering, thinning_history
from millstream_pipelines.warehouses.base import Counts, LoadSpec
from millstream_pipelines.warehouses.row_json import message_text, storable

_HOPELESS = 1000  # rows refused one by one; when they are most of what was tried, the target refuses everything
_NOT_NULL = "23502"
if TYPE_CHECKING:
    import pyarrow as pa

Done = TypeVar("Done")
_POINT = "millstream_poison"


def is_about_rows(error: psycopg2.Error) -> bool:
    """Return whether other rows might have been taken."""
    return isinstance(translated(error, "", ""), DataError)


class Poison:
    """The search in one transaction."""

    def __init__(self, connection: Connection, spec: LoadSpec) -> None:
        self._connection, self._spec = connection, spec
        self._taken = self._refused = 0

    def copied(self, rows: pa.RecordBatch, copy: Callable[[pa.RecordBatch], int]) -> tuple[int, list[Reject]]:
        """Run `copy` on all rows that the server takes; return how many it took, and the others."""
        taken = self.tried(lambda: copy(rows))
        if not isinstance(taken, psycopg2.Error):
            self._taken += rows.num_rows
            return taken, []
        if rows.num_rows == 1:
            from millstream_pipelines.json_rows import json_rows

            kept = rows.select([name for name in rows.schema.names if name not in (DELETED, ROW)])
            return 0, [Reject(self._met(taken), detailed(taken), json_rows(kept)[0], "shaped")]
        half = rows.num_rows // 2
        first, refused = self.copied(rows.slice(0, half), copy)
        second, more = self.copied(rows.slice(half), copy)
        return first + second, refused + more

    def merged(self, made: stage.StagePlan, seq: int) -> Counts:
        """Merge all rows of the stage that the target takes; the others are set aside as chunk `seq`.

        One row per key first: ranges that share no key can be merged one after the other. A row that is outdone by a
        refused one is a duplicate all the same: it is not what its key should be now.
        """
        is_history = self._spec.disposition == "scd2"
        index, *losers = thinning_history(made, self._spec) if is_history else stage.thinning_statements(made)
        run(self._connection, index)
        counts = Counts(duplicate=sum(run(self._connection, statement) for statement in losers))
        for statement in renumbering(made, self._spec) if is_history else ():
            run(self._connection, statement)
        return counts + self._merged_within(made, seq)

    def _merged_within(self, made: stage.StagePlan, seq: int) -> Counts:
        low, high, rows = one(self._connection, stage.bounds_query(made))
        if not rows:
            return Counts()
        merged = self.tried(lambda: merge(self._connection, made, self._spec, rows))
        if not isinstance(merged, psycopg2.Error):
            self._taken += rows
            return merged
        is_history = self._spec.disposition == "scd2"
        first, last = low >> KEY_BITS, high >> KEY_BITS
        if low == high or (is_history and self._spec.mode == "full" and first == last):
            return self._set_aside(made, seq, merged, rows)
        middle = (low + high) // 2
        if is_history and first != last:
            middle = ((first + last) // 2 + 1 << KEY_BITS) - 1  # behind the last row of a key
        halves = (replace(made, only=part) for part in ((low, middle), (middle + 1, high)))
        return sum((self._merged_within(half, seq) for half in halves), Counts())

    def tried(self, action: Callable[[], Done]) -> Done | psycopg2.Error:
        """Return what an action returns, or the refusal that has undone it."""
        run(self._connection, f"SAVEPOINT {_POINT}")
        try:
            done = action()
        except psycopg2.Error as error:
            if not is_about_rows(error):
                raise
            run(self._connection, f"ROLLBACK TO SAVEPOINT {_POINT}")
            run(self._connection, f"RELEASE SAVEPOINT {_POINT}")
            return error
        run(self._connection, f"RELEASE SAVEPOINT {_POINT}")
        return done

    def _met(self, error: psycopg2.Error) -> str:
        """Count a refused row and return its rule. DataError where going on would not be worth it."""
        self._refused += 1
        tried = self._refused + self._taken
        if self._refused >= _HOPELESS and self._refused * 2 > tried:
            raise DataError(
                f"target {self._spec.target} refuses most rows: {self._refused} of {tried} that were tried one by one, "
                f"the last by {rule_of(error)}: {detailed(error)}; change what refuses them, or check the rows before "
                "(`checks`); nothing of this chunk was committed",
                reason="RefusedByWarehouse",
            )
        if self._spec.contract.rows == "freeze":
            raise RowRefusedError(self._spec.stream, rule_of(error), detailed(error))
        return rule_of(error)

    def _set_aside(self, part: stage.StagePlan, seq: int, error: psycopg2.Error, rows: int) -> Counts:
        spec, rule = self._spec, self._met(error)
        insert, delete = stage.set_aside_statements(part.staged_rows, into(spec))
        if spec.contract.rows == "quarantine":
            named = (
                spec.pipeline,
                spec.stream,
                spec.target,
                spec.run,
                seq,
                storable(rule),
                message_text(detailed(error)),
            )
            run(self._connection, insert, named)
        run(self._connection, delete)
        return refused_counts(spec, rows)


def rule_of(error: psycopg2.Error) -> str:
    """Return the rule of a refused row: the column that must have a value, the constraint, or else the code."""
    if error.pgcode == _NOT_NULL and error.diag.column_name:
        return f"required({error.diag.column_name})"
    if error.diag.constraint_name:
        return f"constraint({error.diag.constraint_name})"
    return f"server({error.pgcode})"


def refused_counts(spec: LoadSpec, rows: int) -> Counts:
    """Return what refused rows count as."""
    kept = spec.contract.rows == "quarantine"
    return Counts(quarantined=rows if kept else 0, filtered=0 if kept else rows)


def settled(connection: Connection, made: stage.StagePlan, spec: LoadSpec, seq: int, staged_rows: int) -> Counts:
    """Bring the stage into the target. What is refused, by the server's parser or by the target, is set aside."""
    poison, counts = Poison(connection, spec), Counts()
    merged = poison.tried(lambda: merge(connection, made, spec, staged_rows))
    texts = [column for column in made.sent if not is_native(column)]
    if isinstance(merged, psycopg2.Error) and texts and not made.raw:
        refused = refusals.set_aside(connection, stage.NAME, texts, spec, seq)
        counts, staged_rows = refused_counts(spec, refused), staged_rows - refused
        merged = poison.tried(lambda: merge(connection, made, spec, staged_rows))
    if not isinstance(merged, psycopg2.Error):
        return counts + merged
    if spec.numbered:  # a row hangs together with its children
        raise merged
    return counts + poison.merged(made, seq)
