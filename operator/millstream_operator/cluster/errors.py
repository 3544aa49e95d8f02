"""Errors of the API server, grouped by what the caller should do.

ApiError
├── TemporaryApiError   try again later (network, 429, 5xx)
│   ├── ConflictError   409: look again first
│   ├── ForbiddenError  403: a right or quota is missing; someone may grant it
│   └── GoneError       410: list again
└── PermanentApiError   the same request can never succeed (400, 422): the object is wrong
    └── NotFoundError   404: what was meant is not there (any more)
LeaseLostError               we are no longer the leader: end the process
"""

from __future__ import annotations


class ApiError(Exception):
    """A request to the API server failed."""

    def __init__(self, message: str, status: int = 0, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


class TemporaryApiError(ApiError):
    """May succeed later."""


class ConflictError(TemporaryApiError):
    """Someone else was first."""


class ForbiddenError(TemporaryApiError):
    """We may not do this, or a quota is used up."""


class GoneError(TemporaryApiError):
    """The resource version is too old to watch from."""


class PermanentApiError(ApiError):
    """Cannot succeed as it is."""


class NotFoundError(PermanentApiError):
    """There is no such object."""


class LeaseLostError(Exception):
    """Another replica may be the leader now; nothing may be written any more."""


_BY_STATUS: dict[int, type[ApiError]] = {
    400: PermanentApiError,
    403: ForbiddenError,
    404: NotFoundError,
    405: PermanentApiError,
    409: ConflictError,
    410: GoneError,
    413: PermanentApiError,
    415: PermanentApiError,
    422: PermanentApiError,
}


# What a server-side apply is told when a value has the wrong form, say a quantity of "lots": a 500, though repeating it
# never helps.
_UNCONVERTIBLE = "unable to convert unstructured object"


def from_status(status: int, message: str, retry_after_s: float = 0.0) -> ApiError:
    """Return the error for an HTTP status."""
    if status == 500 and _UNCONVERTIBLE in message:
        return PermanentApiError(message, status)
    return _BY_STATUS.get(status, TemporaryApiError)(message, status, retry_after_s)
