"""What the pattern for plain JSON vouches for is JSON; what it leaves is looked at one by one."""

from __future__ import annotations

import json
import random

import pyarrow as pa
import pytest

from millstream_pipelines.plain_json import plain_json
from millstream_pipelines.stored_text import valid


@pytest.mark.parametrize(
    "text",
    [
        "null", " true ", "-0", "0.50", '""', '"é東😀"', '"\\u00e9\\n\\/"', "[]", "{ }", '[1, {"a": 2, "x": null}]',
        '{"a": {"b": 1}, "": [ ]}', '"a:[]{},\\""',
    ],
)  # fmt: skip
def test_vouched_for(text: str) -> None:
    assert plain_json(pa.array([text])).to_pylist() == [True]


@pytest.mark.parametrize(
    "text",
    [
        "", "nul", "NaN", "01", "1.", ".5", "+1", "-", "[1,]", "[,1]", "{,}", '{"a":}', '{"a" 1}', "{1:2}", "{a:1}",
        "'a'", '"\n"', '"\x01"', '"\\x"', '"\\u12"', '"a', "[1", "1 2", "[1]]", "[1 2]", "tru e", "\ufeff1", '{"a":1}x',
    ],
)  # fmt: skip
def test_no_json(text: str) -> None:
    assert plain_json(pa.array([text])).to_pylist() == [False]
    assert valid(pa.array([text]), "jsonb").to_pylist() == [None]


@pytest.mark.parametrize("text", ["1e5", '"\\ud83d\\ude00"', "[[[1]]]", f'"{"x" * 20_000}"', f"[{'1,' * 9_000}1]"])
def test_left_to_be_looked_at(text: str) -> None:
    assert plain_json(pa.array([text])).to_pylist() == [False]
    assert valid(pa.array([text, None]), "jsonb").to_pylist() == [text, None]


def test_damaged_documents_are_never_vouched_for() -> None:
    chance = random.Random(3)
    texts = []
    for _ in range(20_000):
        text = list(json.dumps({"a": [1.5, 'x\\"é'], "c": None}, ensure_ascii=chance.random() < 0.5))
        for _ in range(chance.randrange(1, 4)):
            place = chance.randrange(len(text))
            text[place : place + chance.randrange(2)] = chance.choice('{}[]:,"\\0123.-+eE nul')
        texts.append("".join(text))
    vouched = plain_json(pa.array(texts)).to_pylist()
    assert 1_000 < sum(vouched) < 19_000
    for text, sure in zip(texts, vouched, strict=True):
        if sure:
            json.loads(text, parse_constant=lambda word: pytest.fail(word))
