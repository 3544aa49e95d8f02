"""A bucket (S3 and what speaks it, GCS) through obstore: a client from a url and a login, and its errors as ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

from obstore import exceptions as refused
from obstore.store import GCSStore, S3Store

from millstream_pipelines.errors import ConfigurationError, RetriableError
from millstream_pipelines.storage_login import StorageLogin

# How servers that answer neither 401 nor 403 say it; obstore gives the answer as text.
_LOGIN_REFUSED = re.compile(
    "InvalidAccessKeyId|SignatureDoesNotMatch|AccessDenied|UserNotFound|ExpiredToken|InvalidToken"
)
# Without keys the client asks the machine's metadata service for some.
_NO_LOGIN = re.compile(r"latest/api/token|169\.254\.|metadata\.google\.internal|/computeMetadata/")
# Answers that a repeat does not change; 408, 409, 416 (the object became shorter) and 429 a repeat does.
_OUR_FAULT = re.compile(r"non-2xx status code: (?!408|409|416|429)4\d\d")

# How obstore says 403 and 401 where it gives no error of its own for them.
_DENIED = ("lacked the necessary privileges", "lacked valid authentication credentials")

_LOGIN = {
    "s3": "accessKeyId and secretAccessKey (or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)",
    "gs": "serviceAccountKey",
}


class MissingError(Exception):
    """There is no object of that name."""


class Bucket:
    """The bucket and prefix of a url. `rights`: what the identity must be allowed to do, for messages.

    Nothing is reached yet. Raises ConfigurationError when no client can be made.
    """

    def __init__(self, login: StorageLogin, owner: str, rights: str) -> None:
        parts = urlsplit(login.url)
        self.scheme, self.name = parts.scheme.lower(), parts.netloc.rsplit("@", 1)[-1]
        self.prefix = unquote(parts.path).strip("/")
        self.shown = f"{self.scheme}://{self.name}/{self.prefix}"
        self._owner, self._rights, self._anonymous = owner, rights, login.anonymous
        self._secrets = [*login.s3_login().values()]
        if not self.name:
            raise ConfigurationError(
                f"{owner}: url '{self.shown}' names no bucket; write {self.scheme}://bucket/prefix"
            )
        try:
            self.store = (_s3 if self.scheme == "s3" else _gcs)(self.name, login)
        except (refused.BaseError, ValueError, TypeError) as error:
            raise ConfigurationError(
                f"{owner}: no client can be made for url '{self.shown}'; check endpoint, region and the Secret's keys "
                f"{_LOGIN[self.scheme]} ({type(error).__name__})"
            ) from None  # its text may hold what it was given

    @contextmanager
    def explained(self, name: str = "", doing: str = "read") -> Iterator[None]:
        """Translate obstore's errors into ours, by what the reader of the message can do.

        MissingError, and obstore's own errors of a broken condition (PreconditionError, AlreadyExistsError), are the
        caller's to explain.
        """
        what = f"file '{name}' under '{self.shown}'" if name else f"url '{self.shown}'"
        try:
            yield
        except (refused.PermissionDeniedError, refused.UnauthenticatedError) as error:
            raise self._denied(what) from error
        except (refused.PreconditionError, refused.AlreadyExistsError):
            raise
        except (refused.NotFoundError, FileNotFoundError) as error:
            if _LOGIN_REFUSED.search(str(error)):
                raise self._denied(what) from error
            if "NoSuchBucket" in str(error) or (not name and "NoSuchKey" not in str(error) and not self.prefix):
                raise ConfigurationError(
                    f"{self._owner}: bucket '{self.name}' of {what} does not exist; check url, endpoint and region"
                ) from error
            raise MissingError from error
        except (refused.BaseError, OSError) as error:  # OSError: what a writer or reader of obstore's gives for all
            raise self._unclear(what, str(error), doing) from error

    def _denied(self, what: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self._owner}: access to {what} was denied; check the Secret's keys {_LOGIN[self.scheme]} "
            f"and what that identity may {self._rights}",
            reason="AccessDenied",
        )

    def _unclear(self, what: str, text: str, doing: str) -> ConfigurationError | RetriableError:
        """Return the error for what obstore only gives as text, without any secret in it."""
        for secret in self._secrets:
            text = text.replace(secret, "…")
        is_refused = _LOGIN_REFUSED.search(text) or any(words in text for words in _DENIED)
        text = " ".join(text.split("\n\nDebug source:")[0].split())[:300]
        if is_refused:
            return self._denied(what)
        if "NoSuchBucket" in text:
            return ConfigurationError(f"{self._owner}: the bucket of {what} does not exist; check url and endpoint")
        if _NO_LOGIN.search(text) and self._anonymous:
            return ConfigurationError(
                f"{self._owner}: {what} cannot be {doing} by nobody: leave `anonymous` out, and give the Secret's keys "
                f"{_LOGIN[self.scheme]}, or a workload identity",
                reason="AccessDenied",
            )
        if _NO_LOGIN.search(text):
            return ConfigurationError(
                f"{self._owner}: no credentials for {what}; give the Secret's keys {_LOGIN[self.scheme]}, "
                "a workload identity, or `anonymous: true` for a public bucket",
                reason="AccessDenied",
            )
        if _OUR_FAULT.search(text):
            return ConfigurationError(f"{self._owner}: the server refuses {what}: {text}")
        return RetriableError(f"{self._owner}: {what} cannot be {doing}: {text}")


def _s3(bucket: str, login: StorageLogin) -> S3Store:
    options: dict[str, Any] = {**login.s3_login(), **_client(login)}
    if login.region or login.endpoint:
        options["region"] = login.region or "us-east-1"
    if login.endpoint:
        options["endpoint"] = login.endpoint
    path_style = login.path_style if login.path_style is not None else bool(login.endpoint)
    return S3Store(bucket, virtual_hosted_style_request=not path_style, **options)


def _gcs(bucket: str, login: StorageLogin) -> GCSStore:
    key = login.service_account_key
    options: dict[str, Any] = {"service_account_key": key.get_secret_value()} if key else {}
    if login.endpoint:
        options["base_url"] = login.endpoint
    return GCSStore(bucket, **options, **_client(login))


def _client(login: StorageLogin) -> dict[str, Any]:
    """Return time limits: a stall ends a request, three repeats end our patience; the run's own retry comes after."""
    http = login.allow_http if login.allow_http is not None else (login.endpoint or "").startswith("http://")
    patience = timedelta(seconds=login.timeout_seconds)
    return {
        **({"skip_signature": True} if login.anonymous else {}),
        "client_options": {
            "allow_http": http,
            "connect_timeout": min(patience, timedelta(seconds=10)),
            "read_timeout": patience,
            "timeout": 5 * patience,
        },
        "retry_config": {"max_retries": 3, "retry_timeout": 2 * patience},
    }
