"""Source `rest`: lists of JSON records over HTTP. Paging, credentials, waiting and typing are in `_rest/`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import BaseModel

from millstream_pipelines.batch import MAX_BATCH_BYTES, MAX_BATCH_ROWS, Batch, Position
from millstream_pipelines.errors import ConfigurationError, DataError, unknown_value
from millstream_pipelines.schema import Schema
from millstream_pipelines.sources._rest.auth import Authorized
from millstream_pipelines.sources._rest.body import at_path, has_path, parsed
from millstream_pipelines.sources._rest.client import HttpClient, Request, Response
from millstream_pipelines.sources._rest.config import NoPaging, RestConfig, RestStream
from millstream_pipelines.sources._rest.paging import Page, Pager
from millstream_pipelines.sources._rest.records import Record, batch_of, listed, schema_of
from millstream_pipelines.sources._rest.secrets import Secrets
from millstream_pipelines.sources._rest.since import Since
from millstream_pipelines.sources._rest.stretch import Stretch
from millstream_pipelines.sources.base import Feature, ReadRequest, StreamInfo

_SAMPLE = 1_000  # records of the first page whose values decide the types
_GATHERED_BYTES = MAX_BATCH_BYTES // 8  # of response text: parsed, it takes some eight times as much


class RestSource:
    """JSON over HTTP."""

    name: ClassVar[str] = "rest"
    features: ClassVar[frozenset[Feature]] = frozenset({"range"})
    Config: ClassVar[type[BaseModel]] = RestConfig

    def __init__(self, config: BaseModel, owner: str) -> None:
        self._config = RestConfig.model_validate(config)
        self._owner = owner
        self._client = HttpClient(self._config, Secrets(self._config, owner), owner)
        self._api = Authorized(self._client)
        self._schemas: dict[str, Schema] = {}
        self._last: Since | None = None

    def streams(self) -> list[StreamInfo]:
        """Return every stream; asks each for its first page."""
        return [StreamInfo(stream.name, self._schema(stream)) for stream in self._config.streams]

    def describe(self, stream: str, columns: tuple[str, ...] = ()) -> StreamInfo:
        """Return one stream with the columns and types of its first page, which is asked for once."""
        schema = self._schema(self._stream(stream))
        if not schema.columns:
            raise DataError(
                f"{self._owner}: stream '{stream}' has no records now, so its columns are not known; name them "
                "under the stream's `columns`",
                reason="EmptyStream",
            )
        return StreamInfo(stream, _kept(schema, columns))

    def read(self, request: ReadRequest) -> Iterator[Batch]:
        """Yield the records; in mode incremental those that the API counts as new since the position."""
        stream = self._stream(request.stream)
        schema = self._schema(stream)
        stretch = self._stretch(stream, schema, request)
        since = None if stretch else self._since(stream, request)
        self._last = since
        records: list[Record] = []
        size = 0
        position: Position | None = None
        held: Batch | None = None
        for page, weight in self._pages(stream, (stretch or since)):
            page = stretch.kept(page) if stretch else page
            if records and (len(records) + len(page) > self._config.batch_rows or size + weight > _GATHERED_BYTES):
                schema, batches = self._batches(stream, schema, records, request.columns, position)
                for batch in batches:
                    if held is not None:
                        yield held
                    held = batch
                records, size = [], 0
            if since is not None:
                since.follow(page)
                position = since.position(at_end=False)
            records, size = records + page, size + weight
        schema, batches = self._batches(stream, schema, records, request.columns, None)
        for batch in batches:
            if held is not None:
                yield held
            held = batch
        if held is not None:
            yield Batch(held.data, since.position(at_end=True) if since else None, held.rejects)

    def guarantee(self, request: ReadRequest) -> tuple[Literal["exact", "repeats"], str]:
        """Return repeats: no API says exactly what it counts as new."""
        if request.range is not None:
            stream = self._stream(request.stream)
            self._stretch(stream, self._schema(stream), request)  # refused before the first interval
            return "repeats", "an API gives no snapshot; only records whose cursor lies in the interval are taken"
        if request.mode == "full":
            return "repeats", "an API gives no snapshot: what changes while pages are read can shift between them"
        return "repeats", "an API answers `since` with the last value again, or with more; keys tell repeats apart"

    def doubts(self, request: ReadRequest) -> list[str]:
        """Return what looked wrong about the cursor in the read that has just ended."""
        return self._last.doubts() if self._last is not None else []

    def why_incomplete(self, request: ReadRequest) -> str | None:
        """Return None where a listing is one response, or is said to be complete."""
        stream = self._stream(request.stream)
        if stream.complete or isinstance(stream.pagination, NoPaging):
            return None
        return (
            "an API gives no snapshot, and what changes while pages are read can shift a record out of all of them; "
            "where that cannot be, say `complete: true` in the source's stream"
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _stream(self, name: str) -> RestStream:
        for stream in self._config.streams:
            if stream.name == name:
                return stream
        raise unknown_value(self._owner, "stream", name, [stream.name for stream in self._config.streams])

    def _since(self, stream: RestStream, request: ReadRequest) -> Since | None:
        if request.mode == "full":
            return None
        where = f"{self._owner}: stream '{stream.name}'"
        if stream.incremental is None:
            raise ConfigurationError(f"{where}: mode incremental needs `incremental` in the stream's config")
        if request.cursor_field not in (None, stream.incremental.field):
            raise ConfigurationError(
                f"{where}: cursor.field is '{request.cursor_field}', and the source's incremental.field is "
                f"'{stream.incremental.field}'; make them equal"
            )
        return Since(stream.incremental, where, request.position, request.lag)

    def _stretch(self, stream: RestStream, schema: Schema, request: ReadRequest) -> Stretch | None:
        if request.range is None:
            return None
        where = f"{self._owner}: stream '{stream.name}'"
        how = stream.incremental
        if how is None or how.until_param is None:
            raise ConfigurationError(
                f"{where}: a backfill needs `incremental` with `untilParam`, the API's parameter for the end of an "
                "interval"
            )
        self._since(stream, request)  # refuses another cursor than the config's
        column = schema.get(how.field)
        return Stretch(how, where, column.type if column else "", request.range)

    def _schema(self, stream: RestStream) -> Schema:
        if stream.name not in self._schemas:
            since = Since(stream.incremental, stream.name, None, None) if stream.incremental else None
            page, _ = next(self._pages(stream, since, bounded=True), ([], 0))
            schema = schema_of(stream, page[:_SAMPLE])
            if not schema.columns:
                return schema
            self._schemas[stream.name] = schema
        return self._schemas[stream.name]

    def _pages(
        self, stream: RestStream, since: Since | Stretch | None, bounded: bool = False
    ) -> Iterator[tuple[list[Record], int]]:
        """Yield the records of each page and the size of its response. `bounded`: the first page only."""
        where = f"{self._owner}: stream '{stream.name}'"
        pager = Pager(stream, where)
        fixed = {**stream.params, **(since.params() if since else {})}
        page: Page | None = pager.first()
        while page is not None:
            response, body = self._api.send(self._request(stream, page, fixed), lambda got: parsed(got.content))
            records = [] if response.ignored else self._records(stream, response, body, where)
            yield records, len(response.content)
            page = None if bounded else pager.next(page, response, body, len(records))

    def _request(self, stream: RestStream, page: Page, fixed: dict[str, Any]) -> Request:
        url = page.url or f"{self._config.base_url.rstrip('/')}/{stream.path.lstrip('/')}".rstrip("/")
        params = {} if page.url else {key: _sent(value) for key, value in {**fixed, **page.params}.items()}
        json = stream.body
        if stream.params_in == "body":
            json, params = {**(stream.body or {}), **fixed, **page.params}, {}
        return Request(stream.method, url, params, {"Accept": "application/json", **stream.headers}, json)

    def _records(self, stream: RestStream, response: Response, body: Any, where: str) -> list[Record]:
        error = at_path(body, stream.error_path) if stream.error_path else None
        if error:
            shown = self._client.secrets.hidden(str(error))[:200]
            raise DataError(
                f"{where}: the API reports an error at '{stream.error_path}': {shown}", reason="SourceError"
            )
        if stream.record_path and body is not None and not has_path(body, stream.record_path):
            there = ", ".join(list(body)[:20]) if isinstance(body, dict) else type(body).__name__
            raise DataError(f"{where}: recordPath '{stream.record_path}' is not in the response, which has: {there}")
        return listed(at_path(body, stream.record_path))

    def _batches(
        self,
        stream: RestStream,
        schema: Schema,
        records: list[Record],
        wanted: tuple[str, ...],
        position: Position | None,
    ) -> tuple[Schema, list[Batch]]:
        """Return the schema, with columns met for the first time, and the batches; the last holds the position."""
        if not records:
            return schema, []
        new = [column for column in schema_of(stream, records) if schema.get(column.name) is None]
        schema = schema.with_columns([*schema.columns, *new]) if new else schema
        kept = _kept(schema, wanted)
        parts = [batch_of(records[at : at + MAX_BATCH_ROWS], kept) for at in range(0, len(records), MAX_BATCH_ROWS)]
        last = len(parts) - 1
        return schema, [
            Batch(data, position if number == last else None, rejects) for number, (data, rejects) in enumerate(parts)
        ]


def _kept(schema: Schema, columns: tuple[str, ...]) -> Schema:
    kept = [column for column in schema if column.name in columns]
    return schema.with_columns(kept) if kept else schema  # a batch without columns would have no rows


def _sent(value: Any) -> Any:
    """Return a parameter as JSON spells it: true, not True."""
    return str(value).lower() if isinstance(value, bool) else value


__all__ = ["RestSource"]
