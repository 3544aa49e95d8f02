"""Blocks of ndjson in one pass: Arrow reads them in the types that earlier rows suggest, nested values too.

All or nothing: what is not exactly of these types, or not one object per line, is left to the readers that take any
JSON. Arrow's reader is strict about JSON, keys given twice and keys it was not told of; what it is not strict about is
looked for beforehand. Numbers that may have a fraction are put into quotes, since they have to stay as written.
"""

from __future__ import annotations

import re
from array import array
from itertools import accumulate

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as arrow_json

from millstream_pipelines.nested_layout import Layout
from millstream_pipelines.own_lines import with_lines

# Behind a key, never inside a string of a line that is JSON: there the key's quotes would have backslashes.
_KEYED = r'([^\\]"(?:{})"\s*:\s*)(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)'
_QUOTED = r'\1"\2"'
_MINUS_ZERO = re.compile(rb"-0\s*[,}\]]")  # an int64 has none


def typed(block: bytes, layout: Layout, nested: frozenset[str]) -> pa.RecordBatch | None:
    """Return the rows of a block of whole lines with their lines, or None; `nested`: columns of JSON text otherwise."""
    lines = _lines(block)
    if lines is None or _MINUS_ZERO.search(block):
        return None
    text = lines.buffers()[2]
    if layout.quoted:
        pattern = _KEYED.format("|".join(map(re.escape, sorted(layout.quoted))))
        whole = pa.array([block], pa.binary()).view(pa.string())
        text = pc.replace_substring_regex(whole, pattern, _QUOTED)[0].as_buffer()
    try:
        table = arrow_json.read_json(
            pa.BufferReader(text),
            arrow_json.ReadOptions(use_threads=False, block_size=text.size + 1),
            arrow_json.ParseOptions(explicit_schema=layout.schema, unexpected_field_behavior="error"),
        )
    except pa.ArrowInvalid:
        return None
    if table.num_rows != len(lines):
        return None
    (rows,) = table.combine_chunks().to_batches()
    return with_lines(rows, lines, nested)


def _lines(block: bytes) -> pa.StringArray | None:
    """Return the lines, each with its end; None unless all are braces around something.

    A value that goes on in another line, or a `null`, of which Arrow would make a row, then cannot be in a block with
    as many values as lines.
    """
    pieces = block.splitlines(keepends=True)
    bounded = block.count(b"}\n{") + block.count(b"}\r\n{") == len(pieces) - 1
    if not bounded or not block.startswith(b"{") or not block.endswith((b"}", b"}\r")):
        return None
    ends = array("i", accumulate(map(len, pieces), initial=0))
    return pa.StringArray.from_buffers(len(pieces), pa.py_buffer(ends), pa.py_buffer(block))
