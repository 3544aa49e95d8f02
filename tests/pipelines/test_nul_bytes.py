"""NUL in text, plain and escaped in JSON."""

from __future__ import annotations

import pyarrow as pa
import pytest

from millstream_pipelines.nul_bytes import rows_with_nul


@pytest.mark.parametrize(
    ("values", "json", "hits"),
    [
        (["ab", None, ""], False, None),
        (["a\0b", None, "x"], False, [True, False, False]),
        (["\\u0000"], False, None),
        ([r'"a\u0000"', r'"a\\u0000"', r'"a\\\u0000"', r"\u0000", None], True, [True, False, True, True, False]),
        ([r'"a\\u0000"'], True, None),
    ],
)
def test_rows_with_nul(values: list[str | None], json: bool, hits: list[bool] | None) -> None:
    found = rows_with_nul(pa.array(values, pa.string()), json=json)
    assert (None if found is None else found.to_pylist()) == hits


def test_only_the_slice_counts() -> None:
    text = pa.array(["\0", "b", "c\0"])
    assert rows_with_nul(text.slice(1, 1)) is None
    assert rows_with_nul(text.slice(1)).to_pylist() == [False, True]
