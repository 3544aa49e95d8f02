"""csv: no value is changed; bad rows are set aside, good ones go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from files_reading import batches, described, opened, rejects, rows
from millstream_pipelines.errors import ConfigurationError, DataError
from millstream_pipelines.inference import infer_text
from millstream_pipelines.sources._files.csv import never_closed
from millstream_pipelines.sources.base import ReadRequest


def read(tmp_path: Path, content: bytes, **stream: Any) -> Any:
    (tmp_path / "a.csv").write_bytes(content)
    found = batches(tmp_path, **stream)
    return rows(found), [(item.rule, item.row) for item in rejects(found)]


def test_every_value_stays_the_text_it_was(tmp_path: Path) -> None:
    content = b'a,b\n007,1.10\n 1 ,"x, ""y""\nz"\n\xf0\x9f\x98\x80,NULL\nnul\x00byte,1e400\n'
    good, bad = read(tmp_path, content)
    assert [list(row.values()) for row in good] == [
        ["007", "1.10"],
        [" 1 ", 'x, "y"\nz'],
        ["😀", "NULL"],
        ["nul\x00byte", "1e400"],
    ]
    assert bad == []


def test_null_is_what_nulls_says_and_a_quoted_text_never_is(tmp_path: Path) -> None:
    content = b'a,b\n,NA\n"","NA"\n'
    assert [list(row.values()) for row in read(tmp_path, content)[0]] == [[None, "NA"], ["", "NA"]]
    assert [list(row.values()) for row in read(tmp_path, content, nulls=["", "NA"])[0]] == [[None, None], ["", "NA"]]
    assert [list(row.values()) for row in read(tmp_path, content, nulls=["NA"])[0]] == [["", None], ["", "NA"]]
    quoted = read(tmp_path, content, nulls=["", "NA"], quotedNulls=True)[0]
    assert [list(row.values()) for row in quoted] == [[None, None], [None, None]]


def test_rows_with_another_number_of_fields_are_set_aside(tmp_path: Path) -> None:
    good, bad = read(tmp_path, b"a,b\n1,2\n3\n4,5,6\n7,8\n")
    assert [row["a"] for row in good] == ["1", "7"]
    assert bad == [
        ("malformed_row", {"_raw": "3", "_file": "a.csv", "_row": 3}),
        ("malformed_row", {"_raw": "4,5,6", "_file": "a.csv", "_row": 4}),
    ]


def test_only_malformed_rows(tmp_path: Path) -> None:
    good, bad = read(tmp_path, b"a,b\n1\n2\n")
    assert (good, len(bad)) == ([], 2)


def test_undecodable_rows_are_set_aside_alone(tmp_path: Path) -> None:
    good, bad = read(tmp_path, b"a,b\n1,x\n2,caf\xe9\n\xff\xfe\n3,caf\xc3\xa9\n")
    assert good == [{"a": "1", "b": "x"}, {"a": "3", "b": "café"}]
    assert sorted(bad, key=lambda item: item[0]) == [
        ("encoding", {"a": "2", "b": "caf\\xe9", "_file": "a.csv"}),
        ("malformed_row", {"_raw": "\\xff\\xfe", "_file": "a.csv", "_row": 4}),
    ]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-8-sig", "utf-16-le"])
def test_other_encodings(tmp_path: Path, encoding: str) -> None:
    text = "naïve,b\n" + "é,ü\n" * 200_000
    assert read(tmp_path, text.encode(encoding), encoding=encoding) == ([{"naïve": "é", "b": "ü"}] * 200_000, [])


@pytest.mark.parametrize("shift", range(1, 6))
def test_a_character_cut_by_a_block_leaves_the_rows_whole(tmp_path: Path, shift: int) -> None:
    content = "n" * shift + ",b\n" + "x,€\n" * 600_000
    (tmp_path / "a.csv").write_text(content, encoding="utf-8")
    found = batches(tmp_path)
    assert sum(batch.data.num_rows for batch in found) == 600_000
    assert {value for batch in found for value in batch.data.column("b").unique().to_pylist()} == {"€"}
    assert rejects(found) == []


def test_bytes_that_an_encoding_lacks_are_set_aside(tmp_path: Path) -> None:
    good, bad = read(tmp_path, b"a\n\x80\n\x81\n", encoding="cp1252")
    assert good == [{"a": "€"}]
    assert bad == [("encoding", {"a": "\\x81", "_file": "a.csv"})]


def test_a_byte_order_mark_is_no_part_of_the_name(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbfa\n1\n")[0] == [{"a": "1"}]


def test_undecodable_column_names_ask_for_the_encoding(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="set `encoding`"):
        read(tmp_path, "a\n1\n".encode("utf-16"))


@pytest.mark.parametrize("content", [b"", b"a,b", b"a,b\n", b"\xef\xbb\xbf", b"\n\n"])
def test_no_rows_is_nothing(tmp_path: Path, content: bytes) -> None:
    assert read(tmp_path, content) == ([], [])


def test_a_last_row_without_line_end_counts(tmp_path: Path) -> None:
    assert read(tmp_path, b"a\r\n1\r\n2")[0] == [{"a": "1"}, {"a": "2"}]


def test_duplicate_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'a\.csv'.* has 2 columns named 'x'"):
        read(tmp_path, b"x,y,x\n1,2,3\n")


def test_files_without_header(tmp_path: Path) -> None:
    assert read(tmp_path, b"1;2\n", header=False, delimiter=";")[0] == [{"column_1": "1", "column_2": "2"}]
    assert read(tmp_path, b"1,2\n", header=False, columns=["a", "b"])[0] == [{"a": "1", "b": "2"}]


def test_unnamed_columns_get_a_name(tmp_path: Path) -> None:
    assert read(tmp_path, b",b\n1,2\n")[0] == [{"column_1": "1", "b": "2"}]


def test_a_quote_that_never_closes_is_set_aside_with_all_it_swallowed(tmp_path: Path) -> None:
    good, bad = read(tmp_path, b'a,b\n1,2\n3,"4\n5,6\n7,8\n')
    assert good == [{"a": "1", "b": "2"}]
    assert bad == [("malformed_row", {"_raw": '3,"4\n5,6\n7,8\n', "_file": "a.csv"})]


def test_a_last_value_that_is_a_line_end_is_closed(tmp_path: Path) -> None:
    assert read(tmp_path, b'a,b\n1,"\n"\n') == ([{"a": "1", "b": "\n"}], [])
    assert read(tmp_path, b'a\n"x"\n"\n"') == ([{"a": "x"}, {"a": "\n"}], [])


@pytest.mark.parametrize(
    ("tail", "final", "unclosed"),
    [
        (b'1,"abc\n', "abc\n", True),
        (b'1,"abc"\n', "abc", False),
        (b'1,5" pipe\n', '5" pipe', False),
        (b'1,""\n', "", False),
        (b'1,"\n', "\n", True),
        (b'1,""""\n', '"', False),
        (b'1,"a""\n', 'a"\n', True),
        (b'"\n', "\n", True),
    ],
)
def test_never_closed(tail: bytes, final: str, unclosed: bool) -> None:
    assert never_closed(tail, final, '"', ",") is unclosed


def test_a_row_longer_than_a_block_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="quote that is never closed"):
        read(tmp_path, b'a,b\n1,"' + b"x" * (10 << 20) + b'"\n')


def test_long_values_pass(tmp_path: Path) -> None:
    good, _ = read(tmp_path, b"a,b\n" + (b"x" * 100_000 + b",y\n") * 200)
    assert {len(row["a"]) for row in good} == {100_000}
    assert len(good) == 200


def test_a_wrong_delimiter_is_not_a_million_rejects(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="check `delimiter`"):
        read(tmp_path, b"a;b\n" + b"1,2\n" * 100_002)


def test_batches_hold_at_most_the_rows_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"a\n" + b"1\n" * 250_000)
    sizes = [batch.data.num_rows for batch in batches(tmp_path)]
    assert sum(sizes) == 250_000
    assert max(sizes) <= 100_000


def test_timestamp_format_makes_iso_text_and_leaves_the_rest(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("t,n\n31/12/2023 23:59,1\n" + "01/02/2024 10:00,2\n,3\nlater,4\n")
    stream = {"timestampFormat": "%d/%m/%Y %H:%M", "inferRows": 2}
    assert described(tmp_path, **stream) == {"t": "timestamp", "n": "bigint"}
    seen = [row["t"] for row in rows(batches(tmp_path, **stream))]
    assert seen == ["2023-12-31 23:59:00", "2024-02-01 10:00:00", None, "later"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", "-2", "0"], "bigint"),
        (["007"], "text"),
        (["+1"], "text"),
        (["-0"], "double precision"),
        (["1", str(2**63)], "numeric"),
        ([str(-(2**63)), str(2**63 - 1)], "bigint"),
        (["1.10", "2"], "numeric"),
        (["1e5", "2.5"], "double precision"),
        (["1e5", "0.12345678901234567"], "numeric"),
        (["1e400"], "numeric"),
        (["true", "false"], "boolean"),
        (["TRUE", "t"], "text"),
        (["2024-02-29"], "date"),
        (["2023-02-29"], "text"),
        (["2024-02-29 10:00", "2024-02-29T10:00:00.123456"], "timestamp"),
        (["2024-02-29T10:00:00Z", "2024-02-29 10:00:00+05:30"], "timestamptz"),
        (["2024-02-29T10:00:00Z", "2024-02-29T10:00:00"], "text"),
        (["2024-02-29T10:00:00.123456789Z"], "text"),
        (["٣"], "text"),
        (["", "1"], "text"),
        ([], "text"),
    ],
)
def test_inferred_types_keep_every_value(values: list[str], expected: str) -> None:
    assert infer_text(values) == expected


def test_columns_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with opened(tmp_path) as source:
        assert rows(list(source.read(ReadRequest("a", columns=("b",))))) == [{"b": "2"}]
