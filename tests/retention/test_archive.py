"""An archive holds what the table held, value by value; one that does not is refused and says what differs."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from millstream_pipelines.errors import DataError
from millstream_pipelines.retention import archive as archives
from millstream_pipelines.retention.archive import archive
from millstream_pipelines.retention.manifest import manifests, read
from millstream_pipelines.retention.readback import ReadBack, untouched
from millstream_pipelines.retention.restored_rows import copied_in
from millstream_pipelines.retention.sessions import Sessions
from millstream_pipelines.warehouses._postgres.connection import connect
from retention.archives import EVERY_TYPE, OWNER, ROWS, config_of, folder_store, whole
from servers.plugin import any_postgres_database, newest_postgres_server, postgres_server
from servers.postgres import Postgres

__all__ = ["any_postgres_database", "newest_postgres_server", "postgres_server"]


@pytest.fixture
def every(any_postgres_database: Postgres) -> Postgres:
    """A database with a table of every type."""
    any_postgres_database.execute(EVERY_TYPE)
    any_postgres_database.execute(ROWS)
    return any_postgres_database


def test_every_type_is_archived_exactly(every: Postgres, tmp_path: Path) -> None:
    store = folder_store(tmp_path)
    made = archive(config_of(every), OWNER, store, whole("raw.every"))
    assert manifests(store, "raw.every") == [made.key]
    assert read(store, made.key) == made
    assert made.content.rows == 4
    assert made.content.columns["id"].least == "-9223372036854775808"
    assert (made.content.columns["v"].greatest, made.content.columns["jb"].greatest) == ("é", None)
    (item,) = made.objects
    schema = pq.read_schema(tmp_path / item.key)
    forms = {field.name: str(field.type) for field in schema}
    assert forms["u"] == "extension<arrow.uuid>"
    assert forms["price"] == "decimal128(12, 2)"
    assert (forms["any_number"], forms["jb"], forms["ints"], forms["ts"]) == ("string", "string", "string", "string")
    assert schema.field("ints").metadata[b"millstream.type"] == b"integer[]"


def test_edges_of_texts_that_stand_for_a_value_are_no_content(every: Postgres, tmp_path: Path) -> None:
    made = archive(config_of(every), OWNER, folder_store(tmp_path), whole("raw.every"))
    document = json.loads((tmp_path / made.key).read_text())
    document["content"]["columns"]["jb"] |= {"min": '"é"', "max": "{}"}  # as archives of before have them
    (tmp_path / made.key).write_text(json.dumps(document))
    assert read(folder_store(tmp_path), made.key).content == made.content


def test_every_type_comes_back_exactly(every: Postgres, tmp_path: Path) -> None:
    manifest = archive(config_of(every), OWNER, folder_store(tmp_path), whole("raw.every"))
    every.execute("CREATE TABLE raw.back (LIKE raw.every INCLUDING ALL)")
    rows = pq.read_table(tmp_path / manifest.objects[0].key).to_batches()
    with closing(connect(config_of(every), OWNER)) as connection:
        assert copied_in(connection, "raw.back", manifest.columns, rows) == 4
        connection.commit()
    same = "SELECT count(*) FROM (SELECT t::text FROM raw.every t EXCEPT ALL SELECT t::text FROM raw.back t) d"
    assert every.execute(same) == [(0,)]


def test_a_table_without_rows_has_an_archive(every: Postgres, tmp_path: Path) -> None:
    every.execute("DELETE FROM raw.every")
    made = archive(config_of(every), OWNER, folder_store(tmp_path), whole("raw.every"))
    assert (made.content.rows, made.objects) == (0, ())


def test_floats_are_spelled_alike_by_both_engines(any_postgres_database: Postgres, tmp_path: Path) -> None:
    any_postgres_database.execute("SELECT setseed(0.5)")
    any_postgres_database.execute(
        "CREATE TABLE f AS SELECT now() AS at, (random() - 0.5) * power(10::float8, (random() * 600 - 300)::int) AS x, "
        "((random() - 0.5) * power(10::float8, (random() * 60 - 30)::int))::real AS y FROM generate_series(1, 20000)"
    )
    assert archive(config_of(any_postgres_database), OWNER, folder_store(tmp_path), whole("f")).content.rows == 20000


def test_fractions_without_a_digit_before_the_point_are_spelled_alike_by_both_engines(
    any_postgres_database: Postgres, tmp_path: Path
) -> None:
    any_postgres_database.execute(
        "CREATE TABLE f (at timestamptz, rate numeric(4,4), tiny numeric(1,1), wide numeric(38,38)); "
        "INSERT INTO f VALUES (now(), 0.05, 0, -0.1), (now(), -0.05, -0.9, 1e-38), (now(), 0, NULL, 0)"
    )
    made = archive(config_of(any_postgres_database), OWNER, folder_store(tmp_path), whole("f"))
    assert (made.content.columns["rate"].least, made.content.columns["tiny"].greatest) == ("-0.0500", "0.0")


def test_large_tables_become_several_files(
    any_postgres_database: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millstream_pipelines.retention.export._FILE_BYTES", 100_000)
    monkeypatch.setattr("millstream_pipelines.retention.export._ROW_GROUP_BYTES", 200_000)
    any_postgres_database.execute(
        "CREATE TABLE t AS SELECT now() AS at, g AS id, md5(g::text) AS m FROM generate_series(1, 20000) g"
    )
    made = archive(config_of(any_postgres_database), OWNER, folder_store(tmp_path), whole("t"))
    assert len(made.objects) == 3
    files = [str(tmp_path / item.key) for item in made.objects]
    assert duckdb.sql(f"SELECT count(*), sum(id) FROM read_parquet({files})").fetchall() == [(20000, 200010000)]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def _change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _swap(path: Path) -> None:
    pq.write_table(pa.table({"at": [1]}), path)


DAMAGE: list[tuple[Callable[[Path], None], str]] = [
    (Path.unlink, "is gone"),
    (_cut, "bytes with SHA-256"),
    (_change, "SHA-256"),
    (_swap, "SHA-256"),
]


@pytest.mark.parametrize(("damage", "words"), DAMAGE)
def test_a_damaged_object_is_found_before_the_manifest(
    damage: Callable[[Path], None], words: str, every: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(place: str) -> None:
        if place == "exported":
            damage(next(tmp_path.rglob("*.parquet")))

    monkeypatch.setattr(archives, "reached", meanwhile)
    with pytest.raises(DataError, match=words) as refused:
        archive(config_of(every), OWNER, folder_store(tmp_path), whole("raw.every"))
    assert refused.value.reason == "ArchiveMismatch"
    assert not list(tmp_path.rglob("_manifest.json"))


@pytest.mark.parametrize(("damage", "words"), DAMAGE)
def test_a_damaged_object_is_found_before_the_drop(
    damage: Callable[[Path], None], words: str, every: Postgres, tmp_path: Path
) -> None:
    store = folder_store(tmp_path)
    manifest = archive(config_of(every), OWNER, store, whole("raw.every"))
    untouched(store, manifest)
    damage(next(tmp_path.rglob("*.parquet")))
    with pytest.raises(DataError, match=words):
        untouched(store, manifest)


def test_other_rows_are_told_apart_by_content(every: Postgres, tmp_path: Path) -> None:
    store = folder_store(tmp_path)
    manifest = archive(config_of(every), OWNER, store, whole("raw.every"))
    every.execute("UPDATE raw.every SET t = 'other' WHERE id = 1")
    other = archive(config_of(every), OWNER, store, whole("raw.every"))
    with Sessions(config_of(every), OWNER) as sessions:
        reading = ReadBack(store, manifest.columns, "raw.every", sessions.engine)
        reading.add(other.objects[0])
        with pytest.raises(DataError, match=r"content hash: .*column 't': 3 values, +to .*(?s:.)+ to other"):
            reading.compare(manifest.content)


def test_the_manifest_says_all_that_is_needed(every: Postgres, tmp_path: Path) -> None:
    manifest = archive(
        config_of(every), OWNER, folder_store(tmp_path), whole("raw.every", low="2013-01-01 05:00:00+00")
    )
    document = json.loads((tmp_path / manifest.key).read_text())
    assert manifest.key.startswith("raw.every/from=2013-01-01T05-00-00Z/")
    assert document["content"]["columns"]["price"] == {"nulls": 1, "min": "-0.01", "max": "99.99"}
    assert [item["type"] for item in document["columns"]][:3] == ["timestamptz", "bigint", "smallint"]
