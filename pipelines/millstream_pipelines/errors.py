"""The engine's errors, grouped by what the caller should do.

MillstreamError
├── RetriableError       a retry may succeed: server away, connection lost, rate limit        exit 75
│   └── SupersededError  another attempt has taken the stream over; this one must stop        exit 75
├── DataError            the data are wrong: a check failed, a contract was broken            exit 65
│   └── RowRefusedError  one row breaks a contract that lets none through                     exit 65
└── ConfigurationError   a manifest or a Secret must change; a retry never helps              exit 78

A message says what failed, on which object, the value seen, what is accepted and what to do next.
It never contains a secret.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable

from millstream_api import ExitCode


class MillstreamError(Exception):
    """Base of all; `reason` is the CamelCase reason in the RunReport."""

    exit_code: ExitCode = ExitCode.CONFIGURATION
    reason = "Failed"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason


class RetriableError(MillstreamError):
    """A retry may succeed. `delay_s`: seconds the other side asked us to wait, if it did."""

    exit_code = ExitCode.RETRIABLE
    reason = "Unreachable"

    def __init__(self, message: str, *, delay_s: float | None = None, reason: str | None = None) -> None:
        super().__init__(message, reason=reason)
        self.delay_s = delay_s


class SupersededError(RetriableError):
    """Another attempt holds the stream's lease; nothing of this attempt was committed after that."""

    reason = "Superseded"


class DataError(MillstreamError):
    """The data do not satisfy a check or a contract. A retry reads the same data."""

    exit_code = ExitCode.CHECKS_FAILED
    reason = "ChecksFailed"


class RowRefusedError(DataError):
    """A row breaks `rule` and the contract lets none through; `why` says how."""

    reason = "ContractBroken"

    def __init__(self, stream: str, rule: str, why: str) -> None:
        super().__init__(
            f"stream '{stream}': a row breaks {rule} and contract.rows is 'freeze': {why}; nothing of this chunk was "
            "committed"
        )
        self.rule, self.why = rule, why


class ConfigurationError(MillstreamError):
    """A manifest or a Secret must change."""

    exit_code = ExitCode.CONFIGURATION
    reason = "InvalidConfiguration"


def unknown_value(owner: str, what: str, seen: str, known: Iterable[str]) -> ConfigurationError:
    """Return the error for a value outside a closed set: it lists the set and the nearest member."""
    names = sorted(known)
    near = difflib.get_close_matches(seen, names, n=1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    return ConfigurationError(f"{owner}: unknown {what} '{seen}'; known: {', '.join(names) or 'none'}{hint}")


def as_millstream(error: Exception) -> MillstreamError:
    """Return an error as one of ours; what nobody foresaw is logged whole and may be retried."""
    if isinstance(error, MillstreamError):
        return error
    logging.getLogger(__name__).exception("unexpected error")
    return RetriableError(
        f"unexpected {type(error).__name__}: {error}; please report it with the log of this pod", reason="InternalError"
    )
