"""Masks hide values and keep what they promise to keep."""

from __future__ import annotations

import hmac
from typing import Any

import pyarrow as pa
import pytest

from millstream_pipelines.masking import masked


@pytest.mark.parametrize("key", [b"", b"k", b"k" * 64, b"k" * 65])
def test_hash_is_hmac_sha256(key: bytes) -> None:
    expected = hmac.digest(key, b"a@b", "sha256").hex()
    assert masked(pa.array(["a@b", None, "a@b"]), "hash", key).to_pylist() == [expected, None, expected]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([7]),
        pa.array(["7"]),
        pa.array([b"7"]),
        pa.array(["7"]).dictionary_encode(),
        pa.array(["7"], pa.large_string()),
    ],
)
def test_hash_is_of_the_text_form(values: Any) -> None:
    assert masked(values, "hash", b"k").to_pylist() == [hmac.digest(b"k", b"7", "sha256").hex()]


def test_redact_keeps_null_only() -> None:
    assert masked(pa.array([1, None, 3]), "redact", b"").to_pylist() == ["***", None, "***"]


def test_a_value_without_text_form_is_hashed_all_the_same() -> None:
    assert masked(pa.array([[float("nan")], None]), "hash", b"").null_count == 1
