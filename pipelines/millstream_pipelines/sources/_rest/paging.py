"""Paging: from one page's response to the parameters or address of the next. Pages that never end are noticed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

from millstream_pipelines.errors import DataError
from millstream_pipelines.sources._rest.body import at_path
from millstream_pipelines.sources._rest.client import Response, same_host
from millstream_pipelines.sources._rest.config import (
    CursorPaging,
    LinkPaging,
    OffsetPaging,
    PagePaging,
    RestStream,
)

_LINK = re.compile(r'<([^>]*)>((?:\s*;\s*[\w*!-]+\s*(?:=\s*(?:"[^"]*"|[^\s";,]+))?)*)')


@dataclass(frozen=True)
class Page:
    """Where a page is: parameters beside the stream's own, or an address that has them all."""

    params: Mapping[str, Any] = field(default_factory=dict)
    url: str | None = None


class Pager:
    """Goes from page to page of one read."""

    def __init__(self, stream: RestStream, where: str) -> None:
        self._stream, self._how, self._where = stream, stream.pagination, where
        self._seen: set[bytes] = set()
        self._pages = 0
        self._rows = 0

    def first(self) -> Page:
        """Return the first page."""
        if isinstance(self._how, OffsetPaging):
            return Page(self._offset(0))
        if isinstance(self._how, PagePaging):
            return Page(self._numbered(self._how.start_page))
        return Page()

    def next(self, page: Page, response: Response, body: Any, records: int) -> Page | None:
        """Return the page after this one, None at the end; DataError when pages repeat or exceed maxPages."""
        self._pages += 1
        self._rows += records
        following = None if response.ignored else self._following(response, body, records)
        if following is not None and self._stream.max_pages is not None and self._pages >= self._stream.max_pages:
            raise DataError(
                f"{self._where}: there are more pages than maxPages ({self._stream.max_pages}); raise it, or read less "
                "with params",
                reason="EndlessPages",
            )
        return following

    def _following(self, response: Response, body: Any, records: int) -> Page | None:
        how = self._how
        if isinstance(how, LinkPaging):
            return self._linked(response, at_path(body, how.path) if how.path else _header_link(response))
        if isinstance(how, CursorPaging):
            token = at_path(body, how.cursor_path)
            over = how.has_more_path is not None and not at_path(body, how.has_more_path)
            if over or token is None or token == "":
                return None
            self._once(str(token).encode(), f"cursor {str(token)[:100]!r}")
            return Page({how.param: token if isinstance(token, (str, int)) else str(token)})
        if not isinstance(how, (OffsetPaging, PagePaging)) or records == 0:
            return None
        total_path = how.total_path if isinstance(how, OffsetPaging) else how.total_pages_path
        total = at_path(body, total_path) if total_path else None
        done = self._rows if isinstance(how, OffsetPaging) else self._pages
        if total is not None and done >= int(total):
            return None
        # A server that does not know the parameter, or stays on its last page, sends the same body again.
        self._once(response.content, f"page {self._pages}, with {records} records")
        if isinstance(how, OffsetPaging):
            return Page(self._offset(self._rows))
        return Page(self._numbered(how.start_page + self._pages))

    def _linked(self, response: Response, link: Any) -> Page | None:
        if not link:
            return None
        url = urljoin(response.url, str(link))
        if not same_host(response.url, url):
            raise DataError(f"{self._where}: the next link leads to another host: {url[:100]!r}; nothing is sent there")
        if response.url.startswith("https:") and url.startswith("http:"):
            raise DataError(f"{self._where}: the next link leaves https: {url[:100]!r}")
        self._once(url.encode(), f"next link {url[:100]!r}")
        return Page(url=url)

    def _once(self, key: bytes, what: str) -> None:
        digest = hashlib.blake2b(key, digest_size=16).digest()
        if digest in self._seen:
            raise DataError(
                f"{self._where}: the API gave the same {what} twice: the pages would never end; check pagination",
                reason="EndlessPages",
            )
        self._seen.add(digest)

    def _offset(self, rows: int) -> dict[str, Any]:
        assert isinstance(self._how, OffsetPaging)  # noqa: S101 (narrows the type)
        sized = {self._how.limit_param: self._how.limit} if self._how.limit_param else {}
        return {**sized, self._how.offset_param: rows}

    def _numbered(self, number: int) -> dict[str, Any]:
        assert isinstance(self._how, PagePaging)  # noqa: S101 (narrows the type)
        sized = {self._how.size_param: self._how.size} if self._how.size_param else {}
        return {**sized, self._how.page_param: number}


def _header_link(response: Response) -> str | None:
    """Return the target of rel=next in the header Link (RFC 8288)."""
    for target, parameters in _LINK.findall(response.headers.get("link", "")):
        relation = re.search(r';\s*rel\s*=\s*(?:"([^"]*)"|([^\s;,"]+))', parameters, re.I)
        if relation is not None and "next" in (relation[1] or relation[2] or "").lower().split():
            return str(target)
    return None


__all__ = ["Page", "Pager"]
