"""An HTTP API on loopback that does what a test writes: routes are functions, requests are kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Asked:
    """A request as the API saw it."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        """The body as a form."""
        return dict(parse_qsl(self.body.decode()))


@dataclass(frozen=True)
class Answer:
    """A response. `cut`: bytes that are announced and never sent; `stall`: seconds of silence before it."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int = 0
    stall: threading.Event | None = None


Route = Callable[[Asked], Any]


class ScriptedApi:
    """Serves `routes`; a route returns an Answer, or a value that is sent as JSON."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.routes: dict[str, Route] = {}
        self.asked: list[Asked] = []

    def times(self, path: str) -> int:
        """Return how often a path was asked for."""
        return sum(request.path == path for request in self.asked)

    def in_turn(self, path: str, *answers: Any) -> None:
        """Answer a path with one answer after the other; the last is repeated."""
        left = list(answers)
        self.routes[path] = lambda asked: left.pop(0) if len(left) > 1 else left[0]


@contextmanager
def serving() -> Iterator[ScriptedApi]:
    """Run an API on a free port of loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, parts.path, dict(parse_qsl(parts.query)), headers, body)
            api.asked.append(asked)
            route = api.routes.get(parts.path, lambda _: Answer({"error": "no such path"}, 404))
            found = route(asked)
            answer = found if isinstance(found, Answer) else Answer(found)
            if answer.stall is not None:
                answer.stall.wait(20)
            content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content) + answer.cut))
            self.end_headers()
            self.wfile.write(content)
            self.close_connection = bool(answer.cut)

        do_POST = do_GET  # noqa: N815 (the base class names it)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    api = ScriptedApi(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
