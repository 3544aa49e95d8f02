"""One file over http(s). No seeking and no retries here: what was cut short is read again by the next attempt."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx

from millstream_pipelines.errors import ConfigurationError, RetriableError
from millstream_pipelines.sources._files.config import FilesConfig
from millstream_pipelines.sources._files.entries import FileEntry, changed

# Real sites redirect once or twice (to https, to a mirror, to a signed link); more is a loop.
_MAX_REDIRECTS = 5

# The tag of a file whose server gives neither ETag nor Last-Modified: it cannot be told whether it has changed.
UNTAGGED = "unknown"


class HttpFile:
    """The file at a URL. Its name is the last part of the path; a login may stand in the URL."""

    def __init__(self, config: FilesConfig, owner: str) -> None:
        parts = urlsplit(config.url)
        self.shown = parts._replace(netloc=parts.netloc.rsplit("@", 1)[-1], query="", fragment="").geturl()
        self._url, self._owner = config.url, owner
        self._name = unquote(parts.path).rsplit("/", 1)[-1] or "index"
        self._client = httpx.Client(
            follow_redirects=True,
            max_redirects=_MAX_REDIRECTS,
            timeout=httpx.Timeout(config.timeout_seconds, connect=min(config.timeout_seconds, 10)),
            headers={"Accept-Encoding": "identity", "User-Agent": "millstream"},
        )

    def entries(self) -> list[FileEntry]:
        """Return the one file. A GET that is given up after the headers: not every server answers HEAD alike."""
        response = self._get()
        response.close()
        return [self._entry(response)]

    def open(self, entry: FileEntry) -> io.RawIOBase:
        """Return the body as it comes."""
        response = self._get()
        if self._entry(response).etag != entry.etag:
            response.close()
            raise changed(self._owner, entry.name, self.shown)
        return _Body(response, self)

    def check_unchanged(self, entry: FileEntry) -> None:
        """Do nothing: one response is one version of the file."""

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Translate httpx's errors into ours."""
        try:
            yield
        except httpx.TooManyRedirects as error:
            raise ConfigurationError(
                f"{self._owner}: url '{self.shown}' redirects more than {_MAX_REDIRECTS} times; "
                "use the final address (a login page that redirects to itself does this too)"
            ) from error
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise ConfigurationError(f"{self._owner}: url '{self.shown}' cannot be requested: {error}") from error
        except httpx.TimeoutException as error:
            raise RetriableError(
                f"{self._owner}: url '{self.shown}': no answer within timeoutSeconds", reason="Timeout"
            ) from error
        except httpx.HTTPError as error:
            raise RetriableError(f"{self._owner}: url '{self.shown}': {error or type(error).__name__}") from error

    def cut_short(self, came: int, expected: int) -> RetriableError:
        """Return the error for a body that ends early."""
        return RetriableError(
            f"{self._owner}: url '{self.shown}': the response was cut short, {came} of {expected} bytes came",
            reason="Truncated",
        )

    def _get(self) -> httpx.Response:
        with self.explained():
            response = self._client.send(self._client.build_request("GET", self._url), stream=True)
        if response.status_code == httpx.codes.OK:
            if self._url.startswith("https:") and response.url.scheme != "https":
                response.close()
                raise ConfigurationError(f"{self._owner}: url '{self.shown}' redirects to plain http; refused")
            return response
        response.close()
        raise self._refusal(response)

    def _refusal(self, response: httpx.Response) -> ConfigurationError | RetriableError:
        status = f"{response.status_code} {response.reason_phrase}".strip()
        what = f"{self._owner}: url '{self.shown}' answers {status}"
        if response.status_code in (401, 403, 407):
            return ConfigurationError(f"{what}; the address needs a login or a new signature", reason="AccessDenied")
        if response.status_code in (408, 425, 429) or response.status_code >= 500:
            return RetriableError(what, delay_s=_delay_s(response.headers.get("Retry-After")))
        return ConfigurationError(f"{what}; check the address")

    def _entry(self, response: httpx.Response) -> FileEntry:
        headers = response.headers
        length = headers.get("Content-Length")
        modified = headers.get("Last-Modified")
        tag = headers.get("ETag") or (f"{modified}/{length}" if modified else UNTAGGED)
        return FileEntry(self._name, tag, int(length) if length and length.isdigit() else None)


class _Body(io.RawIOBase):
    """A response body as a file that can be read once, forwards; it knows when bytes are missing."""

    def __init__(self, response: httpx.Response, file: HttpFile) -> None:
        super().__init__()
        self._response, self._file = response, file
        self._chunks = response.iter_raw(1 << 20)
        self._held = b""
        self._came = 0
        length = response.headers.get("Content-Length", "")
        self._expected = int(length) if length.isdigit() else None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._held:
            self._held = self._next()
        chunk, self._held = self._held[: len(buffer)], self._held[len(buffer) :]
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        if not self.closed:
            self._response.close()
        super().close()

    def _next(self) -> bytes:
        try:
            with self._file.explained():
                chunk = next(self._chunks, b"")
        except RetriableError as error:
            if isinstance(error.__cause__, httpx.RemoteProtocolError) and self._expected is not None:
                raise self._file.cut_short(self._came, self._expected) from error
            raise
        self._came += len(chunk)
        if not chunk and self._expected is not None and self._came != self._expected:
            raise self._file.cut_short(self._came, self._expected)
        return chunk


def _delay_s(header: str | None) -> float | None:
    """Return the seconds of a Retry-After header, which holds seconds or a date."""
    if header is None:
        return None
    if header.strip().isdigit():
        return float(header)
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None
