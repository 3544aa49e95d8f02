"""Large ndjson is taken apart by DuckDB: what comes out is what was written, and what the line-by-line reader gives."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from files_reading import batches, rejects, rows

FILLER = '{"filler": "' + "x" * 980 + '"}\n'
FILLER *= 140  # enough that blocks are taken apart


def read(path: Path, content: str, **stream: Any) -> tuple[list[dict[str, Any]], list[tuple[str, Any]]]:
    path.mkdir(exist_ok=True)
    (path / "a.ndjson").write_bytes(content.encode())
    found = batches(path, **stream)
    kept = [{name: value for name, value in row.items() if value is not None} for row in rows(found)]
    return [row for row in kept if "filler" not in row], [(item.rule, item.row) for item in rejects(found)]


NUMBERS = [
    "0", "-0", "0.0", "-0.0", "1.10", "0.250", "100", "1.5", "12.34", "-7.125", "0.1", "0.001", "0.0001", "0.00001",
    "9007199254740993", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "18446744073709551616",
    "123456789012345678901234567890", "123456789012345.6", "12345678901234.5", "0.1234567890123456789",
    "3.141592653589793", "3.14159265358979", "1e5", "1E5", "1e-7", "1e400", "-1.5e+300", "1.0", "100000000000000000000",
    "999999999999999.9", "0.30000000000000004", "4.9e-324", "1e0",
]  # fmt: skip


@pytest.mark.parametrize("space", ["", " ", "\t"])
def test_numbers_keep_every_digit(tmp_path: Path, space: str) -> None:
    lines = "".join(f'{{"a":{space}{n}{space},"n":{{"x":[{n},{space}{n}{space}]}}}}\n' for n in NUMBERS)
    good, bad = read(tmp_path, lines + FILLER)
    assert good == [{"a": n, "n": f'{{"x":[{n},{n}]}}'} for n in NUMBERS]
    assert bad == []


STRINGS = [
    "1.10", ": 0.250,", "[1e5]", '"quoted" 1.0', "back\\slash 2.50", "\\", '\\"', ",]", ", }", ": nan,", "[inf]",
    "é東😀", "\b\f\n\r\t", "\x01\x1f", "\x7f\u2028", "a/b", "\u0000", "", " ", "-0", "null", "\ufffe",
    '{"a": 1.10}', "1.10 5",
]  # fmt: skip


@pytest.mark.parametrize("plain", [True, False])
def test_strings_are_what_they_were(tmp_path: Path, plain: bool) -> None:
    lines = "".join(
        json.dumps({"s": s, s + "k": "1.0", "n": [s, {s: s}]}, ensure_ascii=not plain)[:-1] + ', "d": 1.10}\n'
        for s in STRINGS
    )
    good, bad = read(tmp_path, lines + FILLER)
    assert bad == []
    assert [(row["s"], row[row["s"] + "k"], json.loads(row["n"]), row["d"]) for row in good] == [
        (s, "1.0", [s, {s: s}], "1.10") for s in STRINGS
    ]


LINES = [
    '{"a": 1, "a": 2.50}',
    '{"n": {"x": 1, "x": 2.50}}',
    '{"n": [{"x": {"y": 1, "y": 2}}, 3]}',
    '{"a": 1, "A": 2}',
    '{"": 1}',
    "{}",
    "  ",
    '{"a": null}',
    '{"a": true, "b": false, "c": [true, null]}',
    '{"a": {}, "b": []}',
    '{"a": 1,}',
    '{"a": [1, 2, ]}',
    '{"a": NaN}',
    '{"a": -Infinity}',
    '{"a": [nan]}',
    '{"a": inf}',
    "{1: 2}",
    '{"a": {1.5: 2}}',
    '{"a": 01}',
    '{"a": 1.}',
    '{"a": .5}',
    '{"a": +1}',
    '{"a 5": -}',
    '{"a": 1.5.2}',
    '{"a": [1 2]}',
    '{"a": 1} 5',
    '{"a": 1}{"a": 2}',
    '{"a": 1}, {"a": 2}',
    '{"a": "x 1.10}',
    '{"a": "x" 1.10}',
    '{"a": "\\x 1.10"}',
    '{"a": TRUE}',
    '{"c": [1.0, "E\\"é-f\\7],null]}',
    '{"a": 1.10, "b": "\\1"}',
    '{"a": "\t"}',
    '{"a": "\\ud800"}',
    '{"a": "\\ud83d\\ude00 1.10", "b": 1.10}',
    '{"a": "\\uffff12"}',
    '{"a": "\uffff12"}',
    '{"a": 1.10, "\uffff": 1.10}',
    '{"a": "\\u001f"}',
    "[1.10]",
    "1.10",
    '"a 1.10"',
    "null",
    '{"a": ' + "[" * 600 + "1.10" + "]" * 600 + "}",
    '{"it\'s": 1.10, "a\\"b": 2, "c\\\\": 3}',
    '\ufeff{"a": 1}',
    '{"a": 1}\r',
]


def test_a_block_and_a_line_come_out_alike(tmp_path: Path) -> None:
    for number, line in enumerate(LINES):
        alone = read(tmp_path / f"{number}-alone", line + "\n")
        assert read(tmp_path / f"{number}-block", f"{line}\n{FILLER}") == alone, line


def test_what_is_nested_too_deep_for_a_column_is_set_aside(tmp_path: Path) -> None:
    deep = '{"a": ' + "[" * 600 + "]" * 600 + "}"
    good, bad = read(tmp_path, f'{{"a": 1}}\n{deep}\n{{"a": 2}}\n')
    assert [row["a"] for row in good] == ["1", "2"]
    assert [rule for rule, _ in bad] == ["malformed_row"]


def test_what_is_left_to_the_line_reader_keeps_its_place(tmp_path: Path) -> None:
    lines = [f'{{"n": {n}.0}}' if n % 3 else f'{{"n": {n}, "u": "\\u0001", "late": "x"}}' for n in range(20_000)]
    lines[7] = "{"
    good, bad = read(tmp_path, "\n".join(lines))
    wanted = [n for n in range(20_000) if n != 7]
    assert [row["n"] for row in good] == [f"{n}.0" if n % 3 else str(n) for n in wanted]
    assert [row["_line"] for _, row in bad] == [8]
    assert sum("late" in row for row in good) == len(range(0, 20_000, 3))


def test_random_records_come_out_alike(tmp_path: Path) -> None:
    chance = random.Random(5)
    lines = "".join(_record(chance) + "\n" for _ in range(4_000))
    assert read(tmp_path / "block", lines + FILLER)[0] == _line_by_line(tmp_path, lines)


def _line_by_line(path: Path, lines: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number, start in enumerate(range(0, 4_000, 1_000)):
        part = "\n".join(lines.split("\n")[start : start + 1_000])
        assert len(part) < 120_000, "small enough for the line-by-line reader"
        found += read(path / str(number), part)[0]
    return found


def _record(chance: random.Random) -> str:
    space = chance.choice(["", " "])
    items = ("," + space).join(f'"{chance.choice("abcdef")}":{space}{_value(chance, 0)}' for _ in range(3))
    return f"{{{items}}}"


def _value(chance: random.Random, depth: int) -> str:
    kind = chance.randrange(8 if depth < 2 else 5)
    if kind == 0:
        return chance.choice(["true", "false", "null"])
    if kind in (1, 2):
        whole = str(chance.randrange(10 ** chance.randrange(1, 20)))
        digits = "".join(chance.choices("0123456789", k=chance.randrange(6)))
        power = chance.choice(["", "", "", "e5", "E-3"])
        return f"{chance.choice(['', '-'])}{whole}{'.' + digits if digits else ''}{power}"
    if kind in (3, 4):
        return json.dumps("".join(chance.choices('a,:[]{}"\\ 01.5é-eE\n', k=chance.randrange(8))), ensure_ascii=False)
    if kind in (5, 6):
        return "[" + ",".join(_value(chance, depth + 1) for _ in range(chance.randrange(4))) + "]"
    return "{" + ", ".join(f'"{k}": {_value(chance, depth + 1)}' for k in "xy"[: chance.randrange(3)]) + "}"
