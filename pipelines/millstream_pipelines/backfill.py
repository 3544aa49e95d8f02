"""A backfill of one stream: a window of its cursor loaded again, interval by interval, beside the forward load.

Each interval is one transaction with its ledger row; an attempt goes on behind those that its run has committed. The
forward load's position is not touched. Append deletes an interval's rows and inserts them again, so its window must end
where the forward load has passed; merge lets the row with the larger cursor win, whoever read it.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Any

from millstream_pipelines.batch import Position
from millstream_pipelines.bounds import Kind, kind_of, next_value, spelled, value
from millstream_pipelines.column_plan import plan_columns
from millstream_pipelines.deferred_shaping import DeferredShaper as Shaper
from millstream_pipelines.errors import ConfigurationError, MillstreamError
from millstream_pipelines.intervals import Intervals, cut
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.sources.base import CursorOrdered, ReadRequest, features_of
from millstream_pipelines.stream_run import StreamRun
from millstream_pipelines.warehouses.backfilling import BackfillLoad
from millstream_pipelines.warehouses.base import LoadSpec, StreamLoad, abilities_of
from millstream_pipelines.warehouses.fitting import widens


class BackfillRun(StreamRun):
    """See `StreamRun`."""

    def _decide(self, schema: Schema) -> Schema:
        window, stream, where = self.options.window, self.stream, self._where
        if window is None:
            raise ConfigurationError(f"{where}: it needs a window")
        self._refuse_disposition()
        field = stream.cursor.field if stream.cursor else ""
        column = schema.get(field)
        if column is None:
            raise ConfigurationError(f"{where}: there is no cursor '{field}'; columns: {', '.join(schema.names)}")
        kind = kind_of(column.type)
        if kind is None:
            raise ConfigurationError(
                f"{where}: cursor '{field}' is {column.type}, which cannot be cut into intervals; accepted: whole "
                "numbers, date, timestamp, timestamptz (a source's config may declare or cast a column's type)"
            )
        self._kind: Kind = kind
        self._cursor: Column = column
        self._column = self._target_column(schema)
        self._intervals: Intervals = cut(window, kind, where)
        self.result.intervals_total = len(self._intervals.ranges)
        return schema

    @property
    def _where(self) -> str:
        return f"stream '{self.stream.name}': backfill"

    @property
    def _is_whole(self) -> bool:
        return True

    def _refuse_disposition(self) -> None:
        stream, where = self.stream, self._where
        if stream.mode == "full" or stream.write_disposition not in ("append", "merge"):
            what = "mode full" if stream.mode == "full" else f"writeDisposition {stream.write_disposition}"
            raise ConfigurationError(
                f"{where}: {what} has no window; it is for mode incremental with append or merge. Name the streams "
                "that have one (`streams`, --stream), or run this stream as usual"
            )
        if stream.cursor is None:
            raise ConfigurationError(f"{where}: it needs the stream's cursor.field, whose window is loaded")
        if "range" not in features_of(self.source):
            raise ConfigurationError(
                f"{where}: its source cannot read a stretch of a cursor; run it with fullRefresh, or with a `filter`"
            )
        if "backfill" not in abilities_of(self.warehouse):
            raise ConfigurationError(f"{where}: its warehouse cannot load intervals; run it with fullRefresh")
        if stream.nested.lists == "tables":
            raise ConfigurationError(
                f"{where}: nested.lists 'tables' is not built for a window, since rows that the forward load has made "
                "newer would lose their children; run it with fullRefresh"
            )
        if stream.deletes.column is not None:
            raise ConfigurationError(
                f"{where}: with `deletes.column` a row that the forward load takes out meanwhile could come back; "
                "run it with fullRefresh"
            )
        if stream.write_disposition == "append" and not isinstance(self.source, CursorOrdered):
            raise ConfigurationError(
                f"{where}: rows that are appended are deleted and inserted again, which needs a source whose forward "
                "load goes on by the cursor alone, and this one's may bring an older row later; use writeDisposition "
                "merge with a primaryKey"
            )

    def _target_column(self, schema: Schema) -> str:
        """Return the target's name of the cursor; its values there must be those at the source."""
        field = self._cursor.name
        for output in plan_columns(self.stream, schema, self._where).outputs:
            if output.source == field and output.mask is None:
                return output.column.name
        raise ConfigurationError(
            f"{self._where}: the cursor '{field}' does not reach {self.stream.target} as it is, so its rows there "
            "cannot be found; take it under `columns` (another name will do) without mask and expression"
        )

    def _load_spec(self) -> LoadSpec:
        return replace(super()._load_spec(), cursor_field=self._column, window=self._intervals.identity)

    def _request(self, position: Position | None) -> ReadRequest:
        first = self._intervals.ranges[0]
        return replace(super()._request(None), mode="incremental", lag=None, range=first)

    def _load(self, load: StreamLoad, request: ReadRequest, shaper: Shaper, described: Schema) -> None:
        if not isinstance(load, BackfillLoad):
            raise MillstreamError("a warehouse with feature `backfill` returns a BackfillLoad for a window")
        self._require_same_values(load.shape(shaper.schema))
        if self.stream.write_disposition == "append":
            self._require_own_rows(load)
            self._require_passed(load.forward_position)
        done, ranges = load.done(), self._intervals.ranges
        for number, stretch in enumerate(ranges, 1):
            if (stretch.start, stretch.end) not in done:
                what = f"interval {number} of {len(ranges)}: {stretch.start} .. {stretch.end}"
                self.progress.stage(self.stream.name, "load", what)
                load.interval(stretch.start, stretch.end)
                super()._load(load, replace(request, range=stretch), shaper, described)
            self.result.intervals_done += 1

    def _commit(self, load: StreamLoad, position: Position | None) -> None:
        super()._commit(load, None)

    def _require_same_values(self, target: Schema) -> None:
        """A cast may move a row out of its interval: it would stay beside its new self, or lose to an older one."""
        there = target.get(self._column)
        if there is None or (
            there.type != self._cursor.type
            and (kind_of(there.type) != self._kind or not widens(self._cursor.type, there.type))
        ):
            seen = f"is {there.type}" if there else "is left out by the contract"
            raise ConfigurationError(
                f"{self._where}: the cursor '{self._cursor.name}' is {self._cursor.type} at the source, and column "
                f"'{self._column}' of {self.stream.target} {seen}; give the column the source's type"
            )

    def _require_own_rows(self, load: BackfillLoad) -> None:
        other = load.others()
        if other is not None:
            raise ConfigurationError(
                f"{self._where}: {self.stream.target} also holds rows of {other}, and appended rows are deleted by the "
                "cursor alone; use writeDisposition merge, or a target of its own"
            )

    def _require_passed(self, position: Position | None) -> None:
        """The forward load may add rows behind its position at any moment; what is below never comes again."""
        cure = "end the window there, run the pipeline first, or use writeDisposition merge"
        if position is None:
            raise ConfigurationError(
                f"{self._where}: the forward load of this stream has not committed a position yet, and with append a "
                f"window must end where it has passed; {cure}"
            )
        assert isinstance(self.source, CursorOrdered), "refused before"  # noqa: S101
        reached = self.source.reached(position, self._cursor.name)
        if self._intervals.end > self._first_open(reached):
            raise ConfigurationError(
                f"{self._where}: the window ends at {spelled(self._intervals.end)}, and the forward load has passed "
                f"{self._cursor.name} = {reached} only; with append it may add rows behind that at any moment; {cure}"
            )

    def _first_open(self, reached: str) -> Any:
        """Return the first bound behind which the forward load may still add rows."""
        try:
            if self._kind != "number":
                return next_value(value(self._kind, reached))
            whole = int(Decimal(reached).to_integral_value("ROUND_FLOOR"))
        except (ValueError, InvalidOperation, OverflowError):
            raise ConfigurationError(
                f"{self._where}: the forward load's position '{reached}' is no {self._cursor.type}; with append a "
                "window must end where it has passed; run the pipeline once more"
            ) from None
        return whole if self._cursor.type.startswith("numeric") else next_value(whole)
