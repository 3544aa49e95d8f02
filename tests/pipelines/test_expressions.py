"""Expressions: scalars of one row, bound before the first, failing by row, with no way out of the sandbox."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pyarrow as pa
import pytest

from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.expressions import compiled, condition, evaluate
from millstream_pipelines.schema import Column, Schema

SCHEMA = Schema((Column("a", "text"), Column("N", "integer"), Column("seen", "timestamptz"), Column("b", "text")))
ROWS = pa.RecordBatch.from_arrays(
    [
        pa.array(["1", "x", None]),
        pa.array([1, 2, 2**31 - 1], pa.int32()),
        pa.array([0, None, 1], pa.timestamp("us", "UTC")),
        pa.array(["", "", ""]),
    ],
    schema=SCHEMA.arrow(),
)


@pytest.mark.parametrize(
    ("text", "kind", "values"),
    [
        ("upper(a) || '!'", "text", ["1!", "X!", None]),
        ("sha256('a')", "text", ["ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"] * 3),
        ("n * 2::bigint", "bigint", [2, 4, 2**32 - 2]),
        ("a IN ('1', 'x') -- why not", "boolean", [True, True, None]),
        ("CASE WHEN n > 1 THEN 'many' END", "text", [None, "many", "many"]),
        ("list_transform([n], lambda x: x + 1::bigint)[1]", "bigint", [2, 3, 2**31]),
        ("date_trunc('day', seen)::varchar", "text", ["1970-01-01 00:00:00+00", None, "1970-01-01 00:00:00+00"]),
        ("[a]", "jsonb", ['["1"]', '["x"]', "[null]"]),
        ("{'k': n}", "jsonb", ['{"k":1}', '{"k":2}', '{"k":2147483647}']),
        ("1", "integer", [1, 1, 1]),
        ("NULL", "text", [None, None, None]),
        ("n / 2.0", "double precision", None),
        ("n::decimal(12,2)", "numeric(12,2)", None),
        ("seen", "timestamptz", None),
        ("interval 1 day", "interval", ["1 day", "1 day", "1 day"]),
        (
            "170141183460469231731687303715884105727::hugeint",
            "numeric",
            ["170141183460469231731687303715884105727"] * 3,
        ),
    ],
)
def test_result(text: str, kind: str, values: list[Any] | None) -> None:
    expression = compiled(text, SCHEMA, "column 'c'")
    result = evaluate(expression, ROWS)
    assert expression.type == kind
    assert result.failed is None
    assert len(result.values) == 3
    if values is not None:
        assert result.values.to_pylist() == values


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nope + 1", "known columns: a, N, seen, b"),
        ("(SELECT 1)", "a subquery is not allowed"),
        ("EXISTS (SELECT 1)", "a subquery"),
        ("sum(n)", "no scalar function"),
        ("count(*)", "no scalar function"),
        ("sum(n) OVER ()", "a window function"),
        ("unnest([1, 2])", "no scalar function"),
        ("random()", "not the same"),
        ("now()", "not the same"),
        ("current_setting('threads')", "not the same"),
        ("read_text('/etc/passwd')", "scalar function"),
        ("*", "not allowed"),
        ("columns('a')", "not allowed"),
        ("?", "a parameter"),
        ("1) FROM source_rows WHERE (true", "no SQL expression"),
        ("1) FROM source_rows UNION SELECT (2", "more than one expression"),
        ("1) AS x, (2", "more than one expression"),
        ("at", "reserved word needs double quotes"),
        ("1), (2", "is not allowed|more than one|no SQL"),
        ("1; DROP TABLE t", "no SQL expression"),
        ("1 +", "no SQL expression"),
        ("", "no SQL expression"),
        ("no_such_function(a)", "no_such_function"),
        ("a + seen", "column 'c'"),
    ],
)
def test_what_is_no_scalar_of_the_row_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        compiled(text, SCHEMA, "column 'c'")


@pytest.mark.parametrize(
    ("text", "values", "failed"),
    [
        ("a::integer", [1, None, None], [False, True, False]),
        ("a::integer + a::integer", [2, None, None], [False, True, False]),
        ("n + 1::integer", [2, 3, None], [False, False, True]),
        ("regexp_matches('x', CASE a WHEN 'x' THEN '(' ELSE a END)", [False, None, None], [False, True, False]),
        ("[a::integer]", ["[1]", None, "[null]"], [False, True, False]),
    ],
)
def test_a_failing_row_is_told_from_null(text: str, values: list[Any], failed: list[bool]) -> None:
    result = evaluate(compiled(text, SCHEMA, "c"), ROWS)
    assert result.values.to_pylist() == values
    assert result.failed is not None
    assert result.failed.to_pylist() == failed
    assert result.message


def test_order_is_kept_over_a_large_batch() -> None:
    numbers = pa.array(range(100_000), pa.int32())
    schema = Schema((Column("n", "integer"),))
    rows = pa.RecordBatch.from_arrays([numbers], schema=schema.arrow())
    assert evaluate(compiled("n", schema, "c"), rows).values.equals(numbers)


def test_an_error_that_is_no_rows_fault_is_the_manifests() -> None:
    rows = ROWS.slice(0, 1).set_column(3, "b", pa.array(["("]))
    with pytest.raises(ConfigurationError, match="regexp_matches"):
        evaluate(compiled("regexp_matches(a, b, 'no such option')", SCHEMA, "c"), rows)


def test_a_condition_is_boolean() -> None:
    assert condition("n > 1", SCHEMA, "filter").inputs == ("N",)
    with pytest.raises(ConfigurationError, match="filter: `n` is integer"):
        condition("n", SCHEMA, "filter")


def test_columns_that_differ_in_case_only() -> None:
    schema = Schema((Column("a"), Column("A"), Column("b")))
    assert compiled("upper(b)", schema, "c").inputs == ("b",)
    with pytest.raises(ConfigurationError, match="differ only in case"):
        compiled("upper(a)", schema, "c")


def test_shaping_without_expressions_imports_no_engine() -> None:
    script = """
import sys, pyarrow as pa
from millstream_api.stream import StreamSpec
from millstream_pipelines.batch import Batch
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.shaping import Shaper
spec = StreamSpec(name="s", target="s", columns=[{"name": "a", "type": "integer"}, {"name": "b", "mask": "hash"}])
Shaper(spec, Schema((Column("a"), Column("b"))), "s").apply(Batch(pa.record_batch({"a": ["1", "x"], "b": ["c", "d"]})))
assert "duckdb" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
