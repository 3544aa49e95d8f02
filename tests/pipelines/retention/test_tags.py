"""A stream says of its target what it is; a policy chooses tables by that."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from millstream_api.retentionpolicy import RetainedTable
from millstream_api.stream import StreamSpec
from postgres_pair import Pair, done, pair
from retention.policies import carried_out, spec
from servers.plugin import postgres_database, postgres_server

__all__ = ["pair", "postgres_database", "postgres_server"]

PARTS = """
CREATE SCHEMA raw;
CREATE TABLE raw.t (id int, at date) PARTITION BY RANGE (at);
CREATE TABLE raw.t_1 PARTITION OF raw.t FOR VALUES FROM ('2013-01-01') TO ('2013-02-01');
CREATE TABLE raw.u (LIKE raw.t) PARTITION BY RANGE (at);
"""


def tags(pair: Pair) -> list[tuple[Any, ...]]:
    return pair.warehouse.execute("SELECT table_name, tag, pipeline, stream FROM _millstream.tags ORDER BY 1, 2")


def chosen(pair: Pair, *tables: dict[str, Any]) -> list[str]:
    report = carried_out(pair.warehouse, spec(tables=list(tables)), dryRun=True)
    assert report.exit_code == 0, report.message
    assert report.retention is not None
    return [table.name for table in report.retention.tables]


@pytest.mark.parametrize("how", [{}, {"filter": "true"}], ids=["undecoded", "batches"])
def test_a_policy_chooses_what_a_stream_has_tagged(how: dict[str, Any], pair: Pair) -> None:
    pair.warehouse.execute(PARTS)
    pair.source.execute("CREATE TABLE t AS SELECT n AS id, date '2013-01-05' AS at FROM generate_series(1, 9) n")
    assert done(pair.run(tags=["events", "pii"], mode="full", **how)) == (9, 9, 0)
    assert tags(pair) == [
        ("raw.t", "events", "test/paths", "public.t"), ("raw.t", "pii", "test/paths", "public.t"),
    ]  # fmt: skip
    assert chosen(pair, {"tag": "pii"}) == ["raw.t"]
    assert chosen(pair, {"tag": "pii", "schema": "raw", "pattern": "t*"}) == ["raw.t"]
    assert chosen(pair, {"tag": "pii", "pattern": "u*"}) == []
    assert chosen(pair, {"tag": "pii", "schema": "public"}) == []
    assert chosen(pair, {"tag": "other"}) == []
    assert chosen(pair, {"tag": "events"}, {"name": "raw.t"}, {"name": "raw.u"}) == ["raw.t", "raw.u"]
    pair.run(tags=["events"])
    assert chosen(pair, {"tag": "pii"}) == []
    pair.run(tags=[])
    assert tags(pair) == []


def test_tags_follow_the_target(pair: Pair) -> None:
    pair.source.execute("CREATE TABLE t AS SELECT 1 AS id")
    done(pair.run(tags=["x"], target="old"))
    done(pair.run(target="new"))
    assert [row[:2] for row in tags(pair)] == [("public.new", "x")]


@pytest.mark.parametrize(("entry", "good"), [
    ({"tag": "a-b.c_1"}, True), ({"tag": "a", "schema": "raw", "pattern": "e_*"}, True), ({"name": "t"}, True),
    ({"name": "t", "tag": "a"}, False), ({}, False), ({"tag": "-a"}, False), ({"tag": "it's"}, False),
])  # fmt: skip
def test_what_a_selector_may_say(entry: dict[str, Any], good: bool) -> None:
    if good:
        assert RetainedTable.model_validate(entry)
        return
    with pytest.raises(ValidationError):
        RetainedTable.model_validate(entry)


def test_a_tag_is_a_word() -> None:
    with pytest.raises(ValidationError):
        StreamSpec.model_validate({"name": "s", "target": "t", "tags": ["two words"]})
