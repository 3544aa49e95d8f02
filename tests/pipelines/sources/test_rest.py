"""The source `rest`: the suite, every way of paging, incremental reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, ClassVar

import pytest

from millstream_pipelines.errors import ConfigurationError, DataError
from millstream_pipelines.sources.base import Range, ReadRequest
from millstream_pipelines.sources.rest import RestSource
from millstream_pipelines.testing.source import SourceSuite
from rest_reading import batches, rows, source
from scripted_api import Answer, Asked, ScriptedApi, serving

ITEMS = [{"id": n, "at": f"2026-01-01T00:00:{n // 2:02}Z", "tags": ["a", {"n": n}]} for n in range(25)]


@pytest.fixture
def api() -> Iterator[ScriptedApi]:
    """Return an API on loopback without routes."""
    with serving() as running:
        yield running


def paged(asked: Asked) -> Any:
    """Seven records a page, by offset, from `since` on."""
    since, until = asked.query.get("since", ""), asked.query.get("until", "9")
    found = [item for item in ITEMS if since <= str(item["at"]) < until]
    skip = int(asked.query.get("offset", 0))
    return {"data": {"items": found[skip : skip + 7]}, "total": len(found)}


class TestSuite(SourceSuite):
    """The shared conformance suite, over pages in order of a cursor whose values repeat across pages."""

    source = RestSource
    stream = "items"
    row_count = 25
    cursor_field = "at"
    ranges = (
        Range("2025-12-31T00:00:00+00:00", "2026-01-01T00:00:03+00:00"),
        Range("2026-01-01T00:00:03+00:00", "2026-01-01T00:00:03.500000+00:00"),
        Range("2026-01-01T00:00:03.500000+00:00", "2026-01-02T00:00:00+00:00"),
    )
    bad_config: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "baseUrl": {"baseUrl": "ftp://x"},
        "auth": {"auth": {"type": "magic"}},
        "rateLimit": {"rateLimit": {"requestsPerSecond": 0}},
        "status": {"errors": [{"status": ["5xx"], "action": "retry"}]},
    }

    @pytest.fixture
    def config(self, api: ScriptedApi) -> dict[str, Any]:
        api.routes["/v1/items"] = paged
        stream = {
            "name": "items",
            "path": "items",
            "recordPath": "data.items",
            "primaryKey": ["id"],
            "pagination": {"type": "offset", "limit": 7},
            "incremental": {"param": "since", "untilParam": "until", "field": "at", "ordered": True},
            "columns": {"at": "timestamptz"},
        }
        return {"baseUrl": f"{api.url}/v1/", "auth": {"type": "bearer"}, "batchRows": 7, "streams": [stream]}

    @pytest.fixture
    def secret(self) -> dict[str, str]:
        return {"token": "t0ken-73", "unrelated": "0ther-91"}


def test_pages_by_link_in_the_header(api: ScriptedApi) -> None:
    links = f'<{api.url}/first>; rel="first", <{api.url}/items?page=2>; title="a, b"; rel="last next"'
    api.routes["/items"] = lambda asked: (
        [{"id": 2}] if asked.query.get("page") else Answer([{"id": 1}], headers={"Link": links})
    )
    auth = {"type": "apiKey", "in": "query"}
    assert rows(api, {"apiKey": "k"}, stream={"pagination": {"type": "link"}}, auth=auth) == [{"id": 1}, {"id": 2}]
    assert api.asked[-1].query == {"page": "2", "X-API-Key": "k"}


def test_pages_by_link_in_the_body(api: ScriptedApi) -> None:
    api.routes["/items"] = lambda asked: (
        {"items": [{"id": 2}], "links": {"next": None}}
        if asked.query.get("after") == "1"
        else {"items": [{"id": 1}], "links": {"next": "items?after=1"}}
    )
    stream = {"recordPath": "items", "pagination": {"type": "link", "path": "links.next"}, "params": {"size": 1}}
    assert rows(api, stream=stream) == [{"id": 1}, {"id": 2}]


def test_a_link_to_another_host_is_not_followed(api: ScriptedApi) -> None:
    api.routes["/items"] = lambda _: {"items": [{"id": 1}], "next": "http://elsewhere.invalid/steal"}
    with pytest.raises(DataError, match="leads to another host"):
        rows(api, stream={"recordPath": "items", "pagination": {"type": "link", "path": "next"}})


def test_pages_by_cursor(api: ScriptedApi) -> None:
    pages = {None: ([1, 2], "x"), "x": ([3], "y"), "y": ([], "z"), "z": ([4], "")}

    def route(asked: Asked) -> Any:
        items, following = pages[asked.query.get("cursor")]
        return {"data": [{"id": item} for item in items], "meta": {"next": following}}

    api.routes["/items"] = route
    paging = {"type": "cursor", "cursorPath": "meta.next", "param": "cursor"}
    assert [row["id"] for row in rows(api, stream={"recordPath": "data", "pagination": paging})] == [1, 2, 3, 4]


def test_pages_by_cursor_in_the_body_of_a_post(api: ScriptedApi) -> None:
    def route(asked: Asked) -> Any:
        first = b'"cursor"' not in asked.body
        return {"added": [{"id": 1 if first else 2}], "next_cursor": "c1" if first else "c2", "has_more": first}

    api.routes["/items"] = route
    paging = {"type": "cursor", "cursorPath": "next_cursor", "param": "cursor", "hasMorePath": "has_more"}
    stream = {"method": "POST", "paramsIn": "body", "body": {"count": 1}, "recordPath": "added", "pagination": paging}
    assert rows(api, stream=stream) == [{"id": 1}, {"id": 2}]
    assert api.asked[-1].body == b'{"count":1,"cursor":"c1"}'


@pytest.mark.parametrize("total", [None, "total"])
def test_pages_by_offset_go_on_behind_a_short_page(api: ScriptedApi, total: str | None) -> None:
    """The server caps pages at 7 although 10 are asked for: a short page is no end."""
    api.routes["/items"] = paged
    stream = {"recordPath": "data.items", "pagination": {"type": "offset", "limit": 10, "totalPath": total}}
    assert [row["id"] for row in rows(api, stream=stream)] == list(range(25))
    assert api.times("/items") == (1 + 4 if total else 1 + 5)


def test_pages_by_number(api: ScriptedApi) -> None:
    api.routes["/items"] = lambda asked: [{"id": 10 * int(asked.query["p"]) + n} for n in range(2)][
        : 2 * (asked.query["p"] < "3")
    ]
    paging = {"type": "page", "pageParam": "p", "startPage": 0, "sizeParam": "n", "size": 2}
    assert [row["id"] for row in rows(api, stream={"pagination": paging})] == [0, 1, 10, 11, 20, 21]
    assert api.asked[-1].query == {"p": "3", "n": "2"}


@pytest.mark.parametrize(
    ("pagination", "what"),
    [
        ({"type": "cursor", "cursorPath": "next", "param": "c"}, "cursor 'same'"),
        ({"type": "link", "path": "link"}, "next link"),
        ({"type": "offset"}, "page 2"),
        ({"type": "page"}, "page 2"),
    ],
)
def test_endless_pages_are_noticed(api: ScriptedApi, pagination: dict[str, Any], what: str) -> None:
    api.routes["/items"] = lambda _: {"data": [{"id": 1}], "next": "same", "link": "/items?again"}
    with pytest.raises(DataError, match=f"the same {what}.* twice: the pages would never end"):
        rows(api, stream={"recordPath": "data", "pagination": pagination})
    assert api.times("/items") < 5


def test_more_pages_than_allowed_fail_and_are_not_cut_off(api: ScriptedApi) -> None:
    api.routes["/items"] = paged
    stream = {"recordPath": "data.items", "pagination": {"type": "offset", "limit": 7}, "maxPages": 2}
    with pytest.raises(DataError, match=r"more pages than maxPages \(2\)"):
        rows(api, stream=stream)


def incremental(**how: Any) -> dict[str, Any]:
    paging = {"type": "offset", "limit": 7}
    return {"recordPath": "data.items", "pagination": paging, "incremental": {"param": "since", "field": "at", **how}}


def test_without_order_the_position_comes_at_the_end(api: ScriptedApi) -> None:
    api.routes["/items"] = paged
    found = batches(api, stream=incremental(), batchRows=7, request={"mode": "incremental"})
    assert [batch.position for batch in found] == [None, None, None, {"cursor": "2026-01-01T00:00:12.000000+00:00"}]
    api.asked.clear()
    request = {"mode": "incremental", "position": found[-1].position, "lag": timedelta(seconds=2)}
    again = rows(api, stream=incremental(), request=request)
    assert api.asked[-1].query["since"] == "2026-01-01T00:00:10Z"
    assert [row["id"] for row in again] == [20, 21, 22, 23, 24]


def test_order_that_is_promised_and_not_kept_is_an_error(api: ScriptedApi) -> None:
    api.routes["/items"] = lambda asked: {
        "data": {"items": [ITEMS[4], ITEMS[0]] if "offset" not in asked.query else []}
    }
    stream = {**incremental(ordered=True), "pagination": {"type": "none"}}
    with pytest.raises(DataError, match=r"not in order; set incremental\.ordered: false"):
        batches(api, stream=stream, request={"mode": "incremental"})


@pytest.mark.parametrize(
    ("how", "seen", "sent"),
    [
        ("iso", "2026-01-02T03:04:05.678901+02:00", "2026-01-02T01:04:05.678901Z"),
        ("date", "2026-01-02T03:04:05Z", "2026-01-02"),
        ("epoch", 1767323045.9, "1767323045"),
        ("epoch_ms", 1767323045123, "1767323045123"),
        ("epoch_ms", "2026-01-02T03:04:05.123999Z", "1767323045123"),
        ("raw", "9", "9"),
        ("raw", "token-b", "token-b"),
        ("raw", 12345678901234567890, "12345678901234567890"),
    ],
)
def test_the_cursor_is_spelled_as_the_api_wants_it(api: ScriptedApi, how: str, seen: Any, sent: str) -> None:
    api.routes["/items"] = lambda _: [{"at": seen}, {"at": None}, {}]
    stream = {"incremental": {"param": "since", "field": "at", "format": how, "initial": "start"}}
    (batch,) = batches(api, stream=stream, request={"mode": "incremental", "cursor_field": "at"})
    assert {request.query["since"] for request in api.asked} == {"start"}
    batches(api, stream=stream, request={"mode": "incremental", "position": batch.position})
    assert api.asked[-1].query["since"] == sent


@pytest.mark.parametrize(
    ("how", "type_name", "stretch", "sent"),
    [
        ("iso", "timestamptz", ("2026-01-02T00:00:00.5+00:00", "2026-01-03T00:00:00.5+00:00"), (
            "2026-01-01T23:59:59Z", "2026-01-03T00:00:01Z")),
        ("iso", "date", ("2026-01-02", "2026-01-03"), ("2026-01-01T23:59:59Z", "2026-01-03T00:00:00Z")),
        ("date", "timestamptz", ("2026-01-02T06:00:00+00:00", "2026-01-02T12:00:00+00:00"), (
            "2026-01-01", "2026-01-03")),
        ("epoch", "bigint", ("100", "200"), ("99", "200")),
        ("epoch_ms", "timestamptz", ("1970-01-01T00:00:01+00:00", "1970-01-01T00:00:02+00:00"), ("999", "2000")),
        ("raw", "bigint", ("100", "200"), ("99", "200")),
    ],
)  # fmt: skip
def test_a_stretch_is_asked_for_with_room_at_its_ends(
    api: ScriptedApi, how: str, type_name: str, stretch: tuple[str, str], sent: tuple[str, str]
) -> None:
    api.routes["/items"] = lambda _: []
    cursor = {"param": "since", "untilParam": "until", "field": "at", "format": how}
    stream = {"incremental": cursor, "columns": {"at": type_name}}
    assert not rows(api, stream=stream, request={"mode": "incremental", "range": Range(*stretch)})
    query = api.asked[-1].query
    assert (query["since"], query["until"]) == sent


def test_a_stretch_that_cannot_be_asked_for_is_refused(api: ScriptedApi) -> None:
    api.routes["/items"] = lambda _: [{"at": "2026-01-02T00:00:00Z"}]
    request = {"mode": "incremental", "range": Range("2026-01-01", "2026-01-02")}
    with pytest.raises(ConfigurationError, match="untilParam"):
        rows(api, stream={"incremental": {"param": "since", "field": "at"}}, request=request)
    cursor = {"param": "since", "untilParam": "until", "field": "at"}
    with pytest.raises(ConfigurationError, match="field 'at' is text"):
        rows(api, stream={"incremental": cursor}, request=request)
    with pytest.raises(DataError, match="'2026-01-02T00:00:00Z', which is no number"):
        rows(api, stream={"incremental": cursor, "columns": {"at": "bigint"}},
             request={**request, "range": Range("1", "2")})  # fmt: skip


def test_a_field_that_is_no_cursor_says_so(api: ScriptedApi) -> None:
    api.routes["/items"] = lambda _: [{"at": "yesterday"}]
    stream = {"incremental": {"param": "since", "field": "at"}}
    with pytest.raises(DataError, match="'yesterday', which is no cursor of format iso"):
        batches(api, stream=stream, request={"mode": "incremental"})
    with pytest.raises(ConfigurationError, match=r"cursor.field is 'id', and the source's incremental.field is 'at'"):
        batches(api, stream=stream, request={"mode": "incremental", "cursor_field": "id"})
    with pytest.raises(ConfigurationError, match="needs `incremental`"):
        batches(api, request={"mode": "incremental"})


def test_an_api_repeats_and_the_guarantee_says_so(api: ScriptedApi) -> None:
    promise, why = source(api).guarantee(ReadRequest("items", "incremental"))
    assert promise == "repeats"
    assert "keys" in why
