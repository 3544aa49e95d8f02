"""Object storage (S3 and what speaks it, GCS) through obstore: listing, and ranged reads bound to an ETag.

Ranges rather than one long download: a failed request is repeated by itself, seeking costs nothing, and `If-Match` on
each of them refuses a file that is overwritten while it is read.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import obstore
from obstore import exceptions as refused
from obstore.store import GCSStore, S3Store

from millstream_pipelines.errors import ConfigurationError, RetriableError
from millstream_pipelines.sources._files.config import FilesConfig
from millstream_pipelines.sources._files.entries import FileEntry, changed

# One request's worth of a sequential read: a guess between latency (larger) and memory (smaller).
_RANGE_BYTES = 4 * 1024 * 1024

# Begins the tag of an object whose store gives no ETag: time and size stand in, and ranges cannot be bound to it.
_NO_ETAG = "modified:"

# How servers that answer neither 401 nor 403 say it; obstore gives the answer as text.
_LOGIN_REFUSED = re.compile(
    "InvalidAccessKeyId|SignatureDoesNotMatch|AccessDenied|UserNotFound|ExpiredToken|InvalidToken"
)
# Without keys the client asks the machine's metadata service for some.
_NO_LOGIN = re.compile(r"latest/api/token|169\.254\.|metadata\.google\.internal")
# Answers that a repeat does not change; 408, 416 (the object became shorter) and 429 a repeat does.
_OUR_FAULT = re.compile(r"non-2xx status code: (?!408|416|429)4\d\d")

_LOGIN = {
    "s3": "accessKeyId and secretAccessKey (or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)",
    "gs": "serviceAccountKey",
}


class ObjectFiles:
    """Objects below a prefix, or one object."""

    def __init__(self, config: FilesConfig, owner: str) -> None:
        parts = urlsplit(config.url)
        self._scheme, self._bucket, self._owner = parts.scheme.lower(), parts.netloc.rsplit("@", 1)[-1], owner
        self._prefix = unquote(parts.path).strip("/")
        self._is_object = False
        self.shown = f"{self._scheme}://{self._bucket}/{self._prefix}"
        self._secrets = [*config.s3_login().values()]
        if not self._bucket:
            raise ConfigurationError(
                f"{owner}: url '{self.shown}' names no bucket; write {self._scheme}://bucket/prefix"
            )
        try:
            self._store = (_s3 if self._scheme == "s3" else _gcs)(self._bucket, config)
        except (refused.BaseError, ValueError, TypeError) as error:
            raise ConfigurationError(
                f"{owner}: no client can be made for url '{self.shown}'; check endpoint, region and the Secret's keys "
                f"{_LOGIN[self._scheme]} ({type(error).__name__})"
            ) from None  # its text may hold what it was given

    def entries(self) -> list[FileEntry]:
        """Return the objects below the prefix; the object itself when the url is one."""
        found: list[FileEntry] = []
        with self._explained():
            for chunk in obstore.list(self._store, prefix=self._prefix or None, chunk_size=1000):
                found.extend(self._entry(meta) for meta in chunk if not meta["path"].endswith("/"))
        if not found and self._prefix:
            try:
                with self._explained():
                    found.append(self._entry(obstore.head(self._store, self._prefix)))
                self._is_object = True
            except _MissingError:
                return []
        return sorted(found, key=lambda entry: entry.name)

    def open(self, entry: FileEntry) -> io.RawIOBase:
        """Return a seekable reader; nothing is requested until the first read."""
        return _RangedReader(self, entry)

    def check_unchanged(self, entry: FileEntry) -> None:
        """Ask for the object's ETag once more."""
        try:
            with self._explained(entry.name):
                same = self._entry(obstore.head(self._store, self._path(entry.name))).etag == entry.etag
        except _MissingError:
            same = False
        if not same:
            raise changed(self._owner, entry.name, self.shown)

    def close(self) -> None:
        """Connections are obstore's; they end with the store."""

    def read_range(self, entry: FileEntry, start: int, end: int) -> bytes:
        """Return bytes start…end of an object, provided that it is still the one that was listed."""
        options: dict[str, Any] = {"range": (start, end)}
        if not entry.etag.startswith(_NO_ETAG):
            options["if_match"] = entry.etag
        try:
            with self._explained(entry.name):
                found = bytes(obstore.get(self._store, self._path(entry.name), options=cast(Any, options)).bytes())
        except _MissingError as error:
            raise RetriableError(f"{self._owner}: file '{entry.name}' under '{self.shown}' has vanished") from error
        if len(found) != end - start:
            raise RetriableError(
                f"{self._owner}: file '{entry.name}' under '{self.shown}': {len(found)} of {end - start} bytes came"
            )
        return found

    def _path(self, name: str) -> str:
        return self._prefix if self._is_object or not self._prefix else f"{self._prefix}/{name}"

    def _entry(self, meta: Any) -> FileEntry:
        path = str(meta["path"])
        name = path.removeprefix(f"{self._prefix}/") if path != self._prefix else path.rsplit("/", 1)[-1]
        tag = meta["e_tag"] or f"{_NO_ETAG}{meta['last_modified'].isoformat()}-{meta['size']}"
        return FileEntry(name, tag, meta["size"])

    @contextmanager
    def _explained(self, name: str = "") -> Iterator[None]:
        """Translate obstore's errors into ours, by what the reader of the message can do."""
        what = f"file '{name}' under '{self.shown}'" if name else f"url '{self.shown}'"
        try:
            yield
        except (refused.PermissionDeniedError, refused.UnauthenticatedError) as error:
            raise self._denied(what) from error
        except refused.PreconditionError as error:
            raise changed(self._owner, name, self.shown) from error
        except (refused.NotFoundError, FileNotFoundError) as error:
            if "NoSuchBucket" in str(error) or (not name and "NoSuchKey" not in str(error) and not self._prefix):
                raise ConfigurationError(
                    f"{self._owner}: bucket '{self._bucket}' of {what} does not exist; check url, endpoint and region"
                ) from error
            raise _MissingError from error
        except refused.BaseError as error:
            raise self._unclear(what, str(error)) from error

    def _denied(self, what: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self._owner}: access to {what} was denied; check the Secret's keys {_LOGIN[self._scheme]} "
            "and what that identity may read and list",
            reason="AccessDenied",
        )

    def _unclear(self, what: str, text: str) -> ConfigurationError | RetriableError:
        """Return the error for what obstore only gives as text, without any secret in it."""
        for secret in self._secrets:
            text = text.replace(secret, "…")
        text = " ".join(text.split("\n\nDebug source:")[0].split())[:300]
        if _LOGIN_REFUSED.search(text):
            return self._denied(what)
        if "NoSuchBucket" in text:
            return ConfigurationError(f"{self._owner}: the bucket of {what} does not exist; check url and endpoint")
        if _NO_LOGIN.search(text):
            return ConfigurationError(
                f"{self._owner}: no credentials for {what}; give the Secret's keys {_LOGIN[self._scheme]}, "
                "a workload identity, or `anonymous: true` for a public bucket",
                reason="AccessDenied",
            )
        if _OUR_FAULT.search(text):
            return ConfigurationError(f"{self._owner}: the server refuses {what}: {text}")
        return RetriableError(f"{self._owner}: {what} cannot be read: {text}")


class _MissingError(Exception):
    """There is no object of that name."""


class _RangedReader(io.RawIOBase):
    """An object as a seekable file. Sequential reads fetch `_RANGE_BYTES`; a larger read is one request."""

    def __init__(self, files: ObjectFiles, entry: FileEntry) -> None:
        super().__init__()
        self._files, self._entry = files, entry
        self._size = entry.size or 0
        self._at = self._held_at = 0
        self._held = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        chunk = self.read(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def read(self, size: int | None = -1) -> bytes:
        end = self._size if size is None or size < 0 else min(self._size, self._at + size)
        if self._at >= end:
            return b""
        inside = self._held_at <= self._at and end <= self._held_at + len(self._held)
        if not inside:
            until = min(self._size, max(end, self._at + _RANGE_BYTES))
            self._held, self._held_at = self._files.read_range(self._entry, self._at, until), self._at
        chunk = self._held[self._at - self._held_at : end - self._held_at]
        self._at = end
        return chunk


def _s3(bucket: str, config: FilesConfig) -> S3Store:
    options: dict[str, Any] = {**config.s3_login(), **_client(config)}
    if config.region or config.endpoint:
        options["region"] = config.region or "us-east-1"
    if config.endpoint:
        options["endpoint"] = config.endpoint
    path_style = config.path_style if config.path_style is not None else bool(config.endpoint)
    return S3Store(bucket, virtual_hosted_style_request=not path_style, **options)


def _gcs(bucket: str, config: FilesConfig) -> GCSStore:
    key = config.service_account_key
    options: dict[str, Any] = {"service_account_key": key.get_secret_value()} if key else {}
    if config.endpoint:
        options["base_url"] = config.endpoint
    return GCSStore(bucket, **options, **_client(config))


def _client(config: FilesConfig) -> dict[str, Any]:
    """Return time limits: a stall ends a request, three repeats end our patience; the run's own retry comes after."""
    http = config.allow_http if config.allow_http is not None else (config.endpoint or "").startswith("http://")
    patience = timedelta(seconds=config.timeout_seconds)
    return {
        **({"skip_signature": True} if config.anonymous else {}),
        "client_options": {
            "allow_http": http,
            "connect_timeout": min(patience, timedelta(seconds=10)),
            "read_timeout": patience,
            "timeout": 5 * patience,
        },
        "retry_config": {"max_retries": 3, "retry_timeout": 2 * patience},
    }
