"""One request, sent until it is answered: redirects, retries, limits, and responses as our errors."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

from millstream_pipelines.errors import ConfigurationError, DataError, MillstreamError, RetriableError
from millstream_pipelines.sources._rest.config import RestConfig
from millstream_pipelines.sources._rest.pace import TokenBucket, backoff_s, retry_after_s
from millstream_pipelines.sources._rest.secrets import Secrets

if TYPE_CHECKING:
    import httpx

_EXCERPT = 200
_SLOWEST = 20  # a response may take this many times timeoutSeconds in all, however it trickles
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class Request:
    """What to ask. `trusted`: goes to the API's own host, so it carries headers and credentials of the source."""

    method: str
    url: str
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    form: Mapping[str, str] | None = None
    trusted: bool = True


@dataclass(frozen=True)
class Response:
    """What came back, complete. `ignored`: a rule says to take it for a page without records."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    url: str
    ignored: bool = False

    @property
    def text(self) -> str:
        """The body, wrong bytes replaced: for messages and rules."""
        return self.content.decode("utf-8", "replace")


class Failure(Exception):  # noqa: N818 (an outcome that the retry loop handles, no error of the engine)
    """An attempt that may be repeated. `delay_s`: how long the server asks to wait."""

    def __init__(self, message: str, delay_s: float | None = None) -> None:
        super().__init__(message)
        self.delay_s = delay_s


class HttpClient:
    """Sends requests of one source. Holds connections; `close` gives them up."""

    def __init__(self, config: RestConfig, secrets: Secrets, owner: str) -> None:
        self.config, self.secrets, self.owner = config, secrets, owner
        self._bucket = TokenBucket(config.rate_limit)
        self._http: httpx.Client | None = None

    def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            self._http.close()
            self._http = None

    def send(self, request: Request, decode: Any = None) -> tuple[Response, Any]:
        """Return the response and what `decode` makes of it (a ValueError there is an incomplete response).

        Raises RetriableError when every attempt failed or the server asks to wait longer than maxWaitSeconds.
        """
        waited_s, attempt = 0.0, 0
        while True:
            try:
                response = self._followed(request)
                return response, decode(response) if decode and not response.ignored else None
            except Failure as failure:
                error = failure
            except ValueError as problem:
                error = Failure(f"the response is no complete JSON ({problem})")
            asked = error.delay_s
            where = f"{self.owner}: {request.method} {_place(request.url)}"
            if attempt >= self.config.retry.limit:
                raise RetriableError(f"{where}: {self._clean(error)}; {attempt + 1} attempts", delay_s=asked)
            pause_s = backoff_s(self.config.retry, attempt) if asked is None else asked
            if waited_s + pause_s > self.config.max_wait_seconds:
                limit = f"maxWaitSeconds is {self.config.max_wait_seconds:g}"
                raise RetriableError(f"{where}: {self._clean(error)}; wait {pause_s:.0f} s, {limit}", delay_s=pause_s)
            time.sleep(pause_s)
            waited_s += pause_s
            attempt += 1

    def failed(self, request: Request, response: Response, what: str = "") -> MillstreamError:
        """Return the error for a response that a retry does not mend."""
        where = f"{self.owner}: {request.method} {_place(request.url)}"
        status = response.status
        excerpt = self._clean(" ".join(response.text.split()))[:_EXCERPT]
        seen = f"{what or f'status {status}'}: {excerpt!r}" if excerpt else (what or f"status {status}")
        if status in (401, 403):
            keys = self.secrets.keys
            cure = f"check key {keys} of the Secret" if keys else "the API wants credentials: set auth"
            return ConfigurationError(f"{where}: access refused, {seen}; {cure}")
        if status == 404:
            return ConfigurationError(f"{where}: not there, {seen}; check baseUrl and the stream's path")
        if 400 <= status < 500:
            return ConfigurationError(f"{where}: request refused, {seen}; check the stream's params, or add to errors")
        return DataError(f"{where}: {seen}", reason="SourceError")

    def _followed(self, request: Request) -> Response:
        for _ in range(self.config.max_redirects + 1):
            response = self._once(request)
            target = response.headers.get("location")
            if response.status not in _REDIRECTS or not target:
                return self._judged(request, response)
            request = self._redirected(request, response.status, urljoin(response.url, target))
        raise ConfigurationError(
            f"{self.owner}: {request.method} {_place(request.url)}: more than {self.config.max_redirects} redirects "
            "(maxRedirects); check baseUrl and the stream's path"
        )

    def _redirected(self, request: Request, status: int, target: str) -> Request:
        here, there = urlsplit(request.url), urlsplit(target)
        if there.scheme not in ("http", "https") or (here.scheme == "https" and there.scheme == "http"):
            raise ConfigurationError(f"{self.owner}: {_place(request.url)} redirects to '{there.scheme}', refused")
        trusted = request.trusted and same_host(request.url, target)
        # Who is sent elsewhere does not show there what was meant for here.
        headers = request.headers if trusted else {}
        if status in (301, 302, 303) and request.method == "POST":
            return Request("GET", target, {}, headers, trusted=trusted)
        return replace(request, url=target, params={}, headers=headers, trusted=trusted)

    def _once(self, request: Request) -> Response:
        import httpx

        if self._http is None:
            self._http = httpx.Client(timeout=self.config.timeout_seconds, follow_redirects=False)
        self._bucket.take()
        deadline = time.monotonic() + _SLOWEST * self.config.timeout_seconds
        parts: list[bytes] = []
        size = 0
        try:
            with self._http.stream(
                request.method,
                _addressed(request.url, request.params),
                headers=dict(request.headers),
                json=request.json,
                data=dict(request.form) if request.form is not None else None,
            ) as answer:
                for part in answer.iter_bytes():
                    size += len(part)
                    if size > self.config.max_response_bytes:
                        raise ConfigurationError(
                            f"{self.owner}: {_place(request.url)}: the response is larger than maxResponseBytes "
                            f"({self.config.max_response_bytes}); ask for smaller pages"
                        )
                    if time.monotonic() > deadline:
                        raise Failure(f"the response was not complete after {_SLOWEST} × timeoutSeconds")
                    parts.append(part)
                return Response(answer.status_code, answer.headers, b"".join(parts), str(answer.url))
        except httpx.TimeoutException as error:
            limit = f"timeoutSeconds is {self.config.timeout_seconds:g}"
            raise Failure(f"{type(error).__name__}: no answer in time, {limit}") from error
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise ConfigurationError(f"{self.owner}: {_place(request.url)}: {error}; check baseUrl") from error
        except httpx.HTTPError as error:  # refused, reset, closed in the middle, undecodable
            raise Failure(f"{type(error).__name__}: {error}") from error

    def _judged(self, request: Request, response: Response) -> Response:
        for rule in self.config.errors if request.trusted else ():
            if rule.fits(response.status, response.text if rule.body_contains is not None else ""):
                if rule.action == "ignore":
                    return replace(response, ignored=True)
                if rule.action == "fail":
                    raise self.failed(request, response, f"status {response.status}, which errors says to fail on")
                raise Failure(f"status {response.status}", retry_after_s(response.headers))
        if 200 <= response.status < 300:
            return response
        if response.status in _RETRIED or response.status >= 500:
            raise Failure(f"status {response.status}: {response.text[:_EXCERPT]!r}", retry_after_s(response.headers))
        # A token server (a form goes only there) says 400 to wrong credentials.
        if response.status in (401, 403) or (request.form is not None and response.status < 500):
            raise Refused(response)
        raise self.failed(request, response)

    def _clean(self, text: object) -> str:
        return self.secrets.hidden(str(text))


class Refused(Exception):  # noqa: N818 (an outcome: credentials may be renewed once)
    """The API did not accept the credentials."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"status {response.status}")
        self.response = response


def same_host(one: str, other: str) -> bool:
    """Return whether two addresses are on one host and port; https instead of http is the same place."""
    here, there = urlsplit(one), urlsplit(other)
    ports = [part.port or {"http": 80, "https": 443}.get(part.scheme) for part in (here, there)]
    upgraded = here.scheme == "http" and there.scheme == "https" and ports == [80, 443]
    return here.hostname == there.hostname and (ports[0] == ports[1] or upgraded)


def _addressed(url: str, params: Mapping[str, Any]) -> str:
    """Return the address with parameters added; its own stay as they are (httpx would drop them all)."""
    own = {name for name, _ in parse_qsl(urlsplit(url).query, keep_blank_values=True)}
    added = urlencode([(name, value) for name, value in params.items() if name not in own and value is not None])
    return f"{url}{'&' if own else '?'}{added}" if added else url


def _place(url: str) -> str:
    """Return an address without its query, which may hold a key, and without user and password."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


__all__ = ["HttpClient", "Refused", "Request", "Response", "same_host"]
