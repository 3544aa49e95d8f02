"""The files source on disk: the suite, which files are new, where reading goes on, packed files."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from files_reading import batches, described, opened, rejects, rows
from millstream_pipelines.errors import ConfigurationError, DataError, RetriableError
from millstream_pipelines.sources.base import ReadRequest
from millstream_pipelines.sources.files import FilesSource
from millstream_pipelines.testing.source import SourceSuite


class TestFiles(SourceSuite):
    source = FilesSource
    stream = "people"
    row_count = 25
    bad_config = {  # noqa: RUF012
        "batchRows": {"batchRows": 0},
        "format": {"streams": [{"name": "people", "format": "xls"}]},
        "encoding": {"streams": [{"name": "people", "encoding": "klingon"}]},
        "columns": {"streams": [{"name": "people", "columns": ["a"]}]},
        "recordPath": {"streams": [{"name": "people", "format": "csv", "recordPath": "a"}]},
        "streams": {"streams": [{"name": "a"}, {"name": "a"}]},
        "endpoint": {"endpoint": "s3.example:9000 "},
        "scheme": {"url": "ftp://host/x"},
    }

    @pytest.fixture
    def config(self, tmp_path: Path) -> dict[str, Any]:
        """Every format; bad rows of both kinds; empty files between."""
        (tmp_path / "people_1.csv").write_bytes(b"id,name\n1,a\n2,b\n3\n4,caf\xe9\n5,e\n6,f,g\n7,h\n")
        (tmp_path / "people_2.csv").write_bytes(b"")
        (tmp_path / "people_3.ndjson").write_text("".join(f'{{"id": {n}, "more": [{n}]}}\n' for n in range(5)) + "{\n")
        (tmp_path / "people_4.json").write_text(json.dumps([{"id": n} for n in range(4)] + [7]))
        (tmp_path / "people_5.csv").write_bytes(b"id,name\n")
        (tmp_path / "people_6.tsv").write_bytes(b"id\tname\n1\ta\n2\tb\n")
        with zipfile.ZipFile(tmp_path / "people_7.zip", "w") as archive:
            archive.writestr("b.csv", "id\n1\n2\n")
            archive.writestr("a.csv", "id,late\n1,x\n2,y\n")
        (tmp_path / "other.csv").write_text("id\n1\n")
        (tmp_path / "people_8.csv").write_bytes(b"\r\n\r\n" + b"id\n1\n")
        return {"url": str(tmp_path), "batchRows": 2, "streams": [{"name": "people", "glob": "people*"}]}


class TestParquetFiles(SourceSuite):
    source = FilesSource
    stream = "points"
    row_count = 20

    @pytest.fixture
    def config(self, tmp_path: Path) -> dict[str, Any]:
        """Row groups of three rows, batches of two: positions inside and between groups."""
        for name in ("points.a.parquet", "points.b.parquet"):
            table = pa.table({"id": pa.array(range(10), pa.int32()), "label": [f"{name}{n}" for n in range(10)]})
            pa.parquet.write_table(table, tmp_path / name, row_group_size=3)
        return {"url": f"file://{tmp_path}", "batchRows": 2, "streams": [{"name": "points", "glob": "points.*"}]}


def test_each_file_name_is_a_stream_when_none_is_configured(tmp_path: Path) -> None:
    (tmp_path / "flights.csv.gz").write_bytes(gzip.compress(b"a\n1\n"))
    (tmp_path / "2024").mkdir()
    (tmp_path / "2024" / "flights.csv").write_text("a\n2\n")
    for name in ("planes.parquet.crc", "notes.txt", "_SUCCESS", ".hidden.csv"):
        (tmp_path / name).write_text("x")
    with opened(tmp_path) as source:
        assert [info.name for info in source.streams()] == ["flights"]
        assert sorted(row["a"] for row in rows(list(source.read(ReadRequest("flights"))))) == ["1", "2"]


def test_the_url_may_be_one_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    assert rows(batches(tmp_path / "a.csv")) == [{"a": "1"}]


def test_full_gives_no_positions_and_reads_no_batch_ahead(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.csv").write_text("x\n1\n")
    assert [batch.position for batch in batches(tmp_path, mode="full")] == [None, None, None]
    with opened(tmp_path, streams=[{"name": "s"}]) as source:
        reading = iter(source.read(ReadRequest("s", mode="full")))
        assert next(reading).data.to_pylist() == [{"x": "1"}]
        (tmp_path / "b.csv").write_text("x\n2\n")
        with pytest.raises(RetriableError, match=r"b\.csv"):
            list(reading)


def test_incremental_reads_new_files_only(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("x\n1\n")
    position = batches(tmp_path)[-1].position
    assert batches(tmp_path, position) == []
    (tmp_path / "a.csv").write_text("x\n2\n")
    again = batches(tmp_path, position)
    assert rows(again) == [{"x": "2"}]
    assert batches(tmp_path, again[-1].position) == []


def test_a_changed_file_is_read_again_whole(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    position = batches(tmp_path)[-1].position
    (tmp_path / "a.csv").write_text("x\n1\n2\n")
    assert rows(batches(tmp_path, position)) == [{"x": "1"}, {"x": "2"}]


def test_an_empty_new_file_moves_the_position(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n")
    (only,) = batches(tmp_path)
    assert only.rows_read == 0
    assert batches(tmp_path, only.position) == []


def test_a_begun_file_is_finished_before_an_earlier_name(tmp_path: Path) -> None:
    """Otherwise a second stop, in the earlier file, would forget how far the begun one was."""
    (tmp_path / "b.csv").write_text("x\n1\n2\n3\n")
    config = {"streams": [{"name": "s"}], "batchRows": 1}
    with opened(tmp_path, **config) as source:
        position = next(iter(source.read(ReadRequest("s", mode="incremental")))).position
    (tmp_path / "a.csv").write_text("x\n4\n5\n")
    seen = []
    for _ in range(4):
        with opened(tmp_path, **config) as source:
            batch = next(iter(source.read(ReadRequest("s", mode="incremental", position=position))))
        position = json.loads(json.dumps(batch.position))
        seen += rows([batch])
    assert [row["x"] for row in seen] == ["2", "3", "4", "5"]


def test_a_file_that_changes_while_it_is_read_is_retriable(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    with opened(tmp_path, streams=[{"name": "s"}], batchRows=1) as source:
        source.describe("s")
        (tmp_path / "a.csv").write_text("x\n" + "1\n" * 1000)
        reader = iter(source.read(ReadRequest("s")))
        next(reader)
        (tmp_path / "a.csv").write_text("x\n2\n")
        with pytest.raises(RetriableError, match=r"'a\.csv'.*changed"):
            list(reader)


def test_no_match_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "planes.csv").write_text("x\n")
    with pytest.raises(ConfigurationError, match=r"no file matches 'fl\*' under .*; 1 files are there.*'planes\.csv'"):
        described(tmp_path, glob="fl*")
    with pytest.raises(ConfigurationError, match="no file matches"):
        batches(tmp_path, glob="fl*", mode="full")
    assert batches(tmp_path, glob="fl*") == []


def test_a_missing_folder_and_a_forbidden_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        batches(tmp_path / "nowhere")


def test_columns_may_vanish_and_appear(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,gone\n1,x\n")
    (tmp_path / "b.csv").write_text("id,new\n2,y\n")
    assert rows(batches(tmp_path)) == [{"id": "1", "gone": "x"}, {"id": "2", "new": "y"}]
    assert list(described(tmp_path)) == ["id", "gone", "new"]


@pytest.mark.parametrize("kind", ["gzip", "zstd", "zip"])
@pytest.mark.parametrize("name", ["a.csv", "a.csv.packed"])
def test_packing_is_seen_from_the_first_bytes(tmp_path: Path, kind: str, name: str) -> None:
    packed(tmp_path / name, kind, b"x\n1\n" * 1000)
    read = batches(tmp_path, format="csv")
    assert len(rows(read)) == 1999
    assert rows(batches(tmp_path, format="csv", compression=kind)) == rows(read)


@pytest.mark.parametrize("kind", ["gzip", "zstd", "zip"])
def test_a_file_cut_short_says_so(tmp_path: Path, kind: str) -> None:
    packed(tmp_path / "a.csv", kind, "".join(f"{n},{n * n}\n" for n in range(100_000)).encode())
    whole = (tmp_path / "a.csv").read_bytes()
    (tmp_path / "a.csv").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"'a\.csv'.*damaged or cut short"):
        batches(tmp_path, format="csv")


def test_parquet_inside_packing_is_spooled(tmp_path: Path) -> None:
    pa.parquet.write_table(pa.table({"x": [1, 2]}), tmp_path / "p")
    packed(tmp_path / "a.parquet.gz", "gzip", (tmp_path / "p").read_bytes())
    packed(tmp_path / "b.parquet.zip", "zip", (tmp_path / "p").read_bytes())
    (tmp_path / "p").unlink()
    assert rows(batches(tmp_path)) == [{"x": 1}, {"x": 2}] * 2


def test_spooling_is_bounded(tmp_path: Path) -> None:
    packed(tmp_path / "a.parquet.gz", "gzip", bytes(3 << 20))
    with opened(tmp_path, spoolMegabytes=1) as source, pytest.raises(ConfigurationError, match="spoolMegabytes"):
        source.streams()


def test_an_unknown_format_asks_for_it(tmp_path: Path) -> None:
    (tmp_path / "a.dat").write_text("x\n1\n")
    with pytest.raises(ConfigurationError, match=r"'a\.dat' does not tell its format"):
        batches(tmp_path)


def test_a_damaged_file_does_not_hide_the_good_ones_before(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    (tmp_path / "b.parquet").write_text("no parquet")
    (tmp_path / "c.csv").write_text("x\n2\n")
    with opened(tmp_path, streams=[{"name": "s"}]) as source, pytest.raises(DataError, match=r"'b\.parquet'"):
        list(source.read(ReadRequest("s", mode="incremental")))
    (tmp_path / "b.parquet").unlink()
    assert rejects(batches(tmp_path)) == []


def packed(path: Path, kind: str, content: bytes) -> None:
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("inner", content)
    else:
        with pa.CompressedOutputStream(str(path), kind) as out:
            out.write(content)
