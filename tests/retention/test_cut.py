"""A table that a policy waits for is made with partitions by its first load; what does not allow that is refused."""

from __future__ import annotations

import pytest

from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.warehouses._postgres.tables import create_statements

SCHEMA = Schema((Column("at", "timestamptz"), Column("id", "bigint"), Column("name", "text")))


def test_the_statements() -> None:
    assert create_statements("raw.t", SCHEMA, ("at", "id"), "at") == [
        (
            'CREATE TABLE IF NOT EXISTS "raw"."t" ("at" timestamptz NOT NULL, "id" bigint NOT NULL, "name" text, '
            'PRIMARY KEY ("at", "id")) PARTITION BY RANGE ("at")'
        ),
        "UPDATE _millstream.partitioned SET kind = 'timestamptz' WHERE table_name = 'raw.t'",
    ]
    assert (
        "kind = 'integer' WHERE table_name = 'public.t' AND kind <> ALL" in create_statements("t", SCHEMA, (), "id")[1]
    )
    assert create_statements("raw.t", SCHEMA, ())[0].endswith('"name" text)')


@pytest.mark.parametrize(
    ("column", "key", "words"),
    [
        ("when", (), "column 'when' .* which the stream does not have; it has: at, id, name"),
        ("name", (), "column 'name' .* is of type text; it takes timestamptz, .* set the type under `columns`"),
        ("at", ("id",), r"add 'at' to the stream's primaryKey \(id\)"),
    ],
)
def test_what_cannot_be_cut(column: str, key: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        create_statements("raw.t", SCHEMA, key, column)
