"""What a URL, path or DSN is: which source reads it, with what configuration, and what of it is secret."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from millstream_pipelines.errors import ConfigurationError, RetriableError

if TYPE_CHECKING:
    import httpx

_FILE_ENDINGS = re.compile(r"\.(csv|tsv|json|ndjson|jsonl|parquet)(\.(gz|zst|zip))?$|\.zip$", re.IGNORECASE)
_DATABASES = ("postgres", "postgresql")
_STORES = ("s3", "gs")


@dataclass(frozen=True)
class Recognized:
    """A source type, its configuration and secret, a name, and how to show it without the secret."""

    type: str
    name: str
    shown: str
    config: Mapping[str, Any]
    secret: Mapping[str, str] = field(default_factory=dict)
    local: Path | None = None

    def written(self, folder: Path) -> dict[str, Any]:
        """Return the configuration for a manifest in `folder`: a local path becomes relative to it."""
        if self.local is None:
            return dict(self.config)
        relative = os.path.relpath(self.local, folder.resolve())
        return {**self.config, "url": relative if relative.startswith(".") else f"./{relative}"}


def recognize(text: str) -> Recognized:
    """Return what `text` is. ConfigurationError lists what is accepted."""
    parts = urlsplit(text)
    scheme = parts.scheme.lower()
    if scheme in _DATABASES:
        return _database(text)
    if scheme in _STORES or (scheme in ("http", "https") and _FILE_ENDINGS.search(parts.path)):
        return Recognized("files", _name(parts.path or parts.netloc), text, {"url": text})
    if scheme in ("http", "https"):
        return _api(text)
    if scheme in ("", "file"):
        path = Path(unquote(parts.path) if scheme else text).expanduser().resolve()
        if not path.exists():
            raise ConfigurationError(f"new: {path} does not exist; give a file, a folder or a URL")
        return Recognized("files", _name(path.name), str(path), {"url": str(path)}, local=path)
    raise ConfigurationError(
        f"new: scheme '{scheme}' is not known; accepted: a path, file, http, https, s3, gs, postgresql"
    )


def _database(text: str) -> Recognized:
    parts = urlsplit(text)
    query = dict(parse_qsl(parts.query))
    config: dict[str, Any] = {
        "host": query.pop("host", None) or parts.hostname or "localhost",
        "port": parts.port,
        "database": unquote(parts.path.lstrip("/")) or unquote(parts.username or "postgres"),
        "user": unquote(parts.username) if parts.username else None,
        "sslmode": query.pop("sslmode", None),
        "options": query or None,
    }
    secret = {"password": unquote(parts.password)} if parts.password else {}
    shown = f"postgresql://{config['host']}/{config['database']}"
    kept = {key: value for key, value in config.items() if value is not None}
    return Recognized("postgres", _name(config["database"]), shown, kept, secret)


def _api(text: str) -> Recognized:
    """Ask once, to see where the records are and how the next page is named."""
    parts = urlsplit(text)
    path = PurePosixPath(parts.path or "/")
    response = _fetched(text)
    if "json" not in response.headers.get("content-type", "json"):
        return Recognized("files", _name(path.name), text, {"url": text})
    try:
        document = response.json()
    except ValueError as error:
        raise ConfigurationError(f"new: {text} answers with no JSON ({error}); give a file or a JSON API") from None
    stream: dict[str, Any] = {"name": _name(path.name or parts.hostname or "records").replace("-", "_")}
    stream["path"] = str(path)
    if parts.query:
        stream["params"] = dict(parse_qsl(parts.query))
    record_path = _record_path(document)
    if record_path:
        stream["recordPath"] = record_path
    if "next" in response.links:
        stream["pagination"] = {"type": "link"}
    elif isinstance(document, dict) and str(document.get("next", "")).startswith("http"):
        stream["pagination"] = {"type": "link", "path": "next"}
    config = {"baseUrl": f"{parts.scheme}://{parts.netloc}", "streams": [stream]}
    return Recognized("rest", _name(path.name or parts.hostname or "api"), text, config)


def _fetched(url: str) -> httpx.Response:
    import httpx

    try:
        response = httpx.get(url, timeout=30, follow_redirects=True)
    except httpx.HTTPError as error:
        raise RetriableError(f"new: {url} does not answer: {error}") from None
    if response.is_success:
        return response
    cure = "write the DataSource by hand and give its secret" if response.status_code in (401, 403) else "check the URL"
    raise ConfigurationError(f"new: {url} answers {response.status_code} {response.reason_phrase}; {cure}")


def _record_path(document: Any, depth: int = 3) -> str:
    """Return the path of the longest list of objects, "" for the document itself."""
    found: dict[str, int] = {}

    def visit(value: Any, path: str, left: int) -> None:
        if isinstance(value, list) and all(isinstance(item, dict) for item in value):
            found[path] = len(value)
        elif isinstance(value, dict) and left:
            for key, inner in value.items():
                visit(inner, f"{path}.{key}" if path else key, left - 1)

    visit(document, "", depth)
    return max(found, key=lambda path: (found[path], -len(path)), default="")


def _name(text: str) -> str:
    """Return a name that Kubernetes accepts: `Flights 2013.csv.zip` → `flights-2013`."""
    stem = _FILE_ENDINGS.sub("", PurePosixPath(unquote(text).rstrip("/")).name)
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:63] or "source"
