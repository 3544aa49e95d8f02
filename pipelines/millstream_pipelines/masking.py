"""Masks: what a column becomes when its values must not be seen. Applied to quarantined rows as well."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from millstream_pipelines.casting import as_text

Mask = Literal["hash", "redact"]
REDACTED = "***"


def masked(values: pa.Array, mask: Mask, key: bytes) -> pa.StringArray:
    """Return a column as text that hides its values; NULL stays NULL.

    `hash`: HMAC-SHA256 in hex over the value as text (bytes as they are), so that equal values stay equal and only
    the holder of `key` can try guesses. `redact`: the same word for all.
    """
    if mask == "redact":
        return pc.if_else(values.is_valid(), pa.scalar(REDACTED), pa.scalar(None, pa.string()))
    raw = values if pa.types.is_binary(values.type) else pc.cast(_text(values), pa.binary())
    encoded = raw.dictionary_encode()  # a value that repeats is hashed once
    digest = _keyed(key)
    return pa.array([digest(value) for value in encoded.dictionary.to_pylist()], pa.string()).take(encoded.indices)


def _keyed(key: bytes) -> Callable[[bytes], str]:
    """Return HMAC-SHA256 (RFC 2104) for one key.

    The two padded keys are hashed once and copied for each value: 0.8 µs, against 2 µs of `hmac.digest` and 1.5 µs
    of DuckDB's sha256.
    """
    block = (hashlib.sha256(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
    inner, outer = (hashlib.sha256(bytes(byte ^ pad for byte in block)) for pad in (0x36, 0x5C))

    def digest(value: bytes) -> str:
        first, second = inner.copy(), outer.copy()
        first.update(value)
        second.update(first.digest())
        return second.hexdigest()

    return digest


def _text(values: pa.Array) -> pa.StringArray:
    """Return the values as text. What has no text form must not pass as NULL: it hashes as its Python form."""
    text = as_text(values)
    if text.null_count == values.null_count:
        return text
    return pa.array([None if item is None else str(item) for item in values.to_pylist()], pa.string())
