"""A small JSON API to read from: 250 readings, 100 to a page, a bearer token. `python server.py [PORT]`."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

TOKEN = "example-token"  # noqa: S105 - of this example only
PAGE = 100
START = datetime(2026, 1, 1, tzinfo=UTC)
READINGS = [
    {
        "id": number,
        "station": f"S{number % 5}",
        "measured_at": (START + timedelta(minutes=10 * number)).isoformat().replace("+00:00", "Z"),
        "temperature": round(10 + number % 17 * 0.5, 1),
    }
    for number in range(1, 251)
]


class Handler(BaseHTTPRequestHandler):
    """Answers GET /readings?page=N&since=TIME."""

    def do_GET(self) -> None:
        """Return one page of readings measured after `since`."""
        url = urlparse(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"error": "a bearer token is needed"})
        elif url.path != "/readings":
            self._answer(404, {"error": f"no {url.path} here"})
        else:
            found = [item for item in READINGS if str(item["measured_at"]) > query.get("since", "")]
            page = int(query.get("page", "1"))
            chosen = found[(page - 1) * PAGE : page * PAGE]
            self._answer(200, {"data": chosen, "page": page, "total": len(found)})

    def _answer(self, status: int, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Stay silent."""


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8765
    print(f"serving http://127.0.0.1:{port}/readings", flush=True)
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
