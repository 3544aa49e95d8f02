"""Shaping: columns planned before the first row, rows refused one by one, nothing hidden shown in quarantine."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from millstream_api.stream import StreamSpec
from millstream_pipelines.batch import Batch
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.shaping import Shaped, Shaper

SOURCE = Schema((Column("id", "bigint"), Column("name"), Column("email"), Column("amount", "numeric(10,2)")))
ROWS: dict[str, list[Any]] = {
    "id": ["1", "2", "3"],
    "name": ["ann", "bob", None],
    "email": ["a@x", "b@x", "c@x"],
    "amount": ["1.50", "2", "3.005"],
}


def shaper(source: Schema = SOURCE, **fields: Any) -> Shaper:
    return Shaper(StreamSpec.model_validate({"name": "s", "target": "raw.s", **fields}), source, "stream 's'")


def shape(made: Shaper, rows: dict[str, Any] | None = None) -> Shaped:
    batch = Batch(pa.record_batch(rows or ROWS))
    shaped = made.apply(batch)
    assert shaped.rows.num_rows + len(shaped.rejects) + shaped.filtered == batch.rows_read
    return shaped


@pytest.mark.parametrize(
    ("fields", "columns"),
    [
        ({}, [("id", "bigint"), ("name", "text"), ("email", "text"), ("amount", "numeric(10,2)")]),
        ({"select": ["amount", "id"]}, [("id", "bigint"), ("amount", "numeric(10,2)")]),
        (
            {
                "columns": [
                    {"name": "key", "source": "id", "type": "int4"},
                    {"name": "name", "drop": True},
                    {"name": "twice", "expression": "amount * 2"},
                    {"name": "email", "expression": "lower(email)"},
                ]
            },
            [("key", "integer"), ("email", "text"), ("amount", "numeric(10,2)"), ("twice", "numeric(18,2)")],
        ),
        (
            {"columns": [{"name": "a", "source": "email"}, {"name": "b", "source": "email", "mask": "redact"}]},
            [("id", "bigint"), ("name", "text"), ("a", "text"), ("b", "text"), ("amount", "numeric(10,2)")],
        ),
    ],
)
def test_schema(fields: dict[str, Any], columns: list[tuple[str, str]]) -> None:
    assert [(column.name, column.type) for column in shaper(**fields).schema] == columns


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"select": ["nme"]}, "unknown column in `select` 'nme'; known: .*did you mean 'name'"),
        ({"columns": [{"name": "x", "source": "nme"}]}, "column 'x': unknown source column 'nme'; known: amount"),
        ({"columns": [{"name": "nme", "drop": True}]}, "column 'nme'"),
        ({"columns": [{"name": "id", "type": "integr"}]}, "column 'id': unknown type 'integr'.*'integer'"),
        ({"columns": [{"name": "id", "type": "timestamptz"}]}, "bigint cannot become timestamptz"),
        ({"columns": [{"name": "email", "mask": "hash", "type": "uuid"}]}, "a mask makes text"),
        ({"columns": [{"name": "name", "source": "email"}]}, "made twice: name"),
        ({"columns": [{"name": "x", "expression": "nope"}]}, "column 'x': `nope`"),
        ({"select": ["id"], "columns": [{"name": "e", "source": "email"}]}, "`select` leaves out"),
        ({"select": ["id"], "columns": [{"name": "id", "drop": True}]}, "no column is left"),
        ({"filter": "amount"}, "filter: `amount` is numeric"),
    ],
)
def test_wrong_columns_are_told_before_the_first_row(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        shaper(**fields)


def test_rows_that_fit_go_on() -> None:
    shaped = shape(shaper())
    assert shaped.rows.to_pylist() == [
        {"id": 1, "name": "ann", "email": "a@x", "amount": Decimal("1.50")},
        {"id": 2, "name": "bob", "email": "b@x", "amount": Decimal("2.00")},
    ]
    [reject] = shaped.rejects
    assert reject.rule == "cast(amount)"
    assert reject.message == "column 'amount': '3.005' is no numeric(10,2)"
    assert reject.row == {"id": "3", "name": None, "email": "c@x", "amount": "3.005"}


def test_rules_in_order_with_every_reason() -> None:
    rows = {"id": ["x", None, "3"], "name": ["a\0", "b", "c\0"], "email": [""] * 3, "amount": ["y", "1", "1"]}
    shaped = shape(shaper(primaryKey=["id"]), rows)
    assert [reject.rule for reject in shaped.rejects] == ["cast(id)", "primary_key", "nul_byte"]
    assert shaped.rejects[0].message.count(";") == 2
    assert shaped.rejects[2].row["name"] == {"base64": "YwA="}


def test_filter_comes_first() -> None:
    rows = {**ROWS, "id": ["1", "x", "3"], "name": ["ann", "bob", "bob"]}
    shaped = shape(shaper(filter="id < 3"), rows)
    assert shaped.rows.column("id").to_pylist() == [1]
    assert shaped.filtered == 1
    assert [reject.rule for reject in shaped.rejects] == ["cast(id)"]


def test_expressions_see_described_types_and_fail_by_row() -> None:
    made = shaper(columns=[{"name": "n", "expression": "name::integer + id", "type": "smallint"}])
    shaped = shape(made, {**ROWS, "name": ["5", "bob", "40000"], "amount": ["1"] * 3})
    assert shaped.rows.column("n").to_pylist() == [6]
    assert [reject.rule for reject in shaped.rejects] == ["expression(n)", "cast(n)"]
    assert "'bob'" in shaped.rejects[0].message


@pytest.mark.parametrize(
    ("column", "shown"),
    [
        ({"name": "email", "mask": "redact"}, "***"),
        ({"name": "email", "drop": True}, "***"),
        ({"name": "e", "expression": "lower(email)", "mask": "hash"}, "a@x"),
        ({"name": "email", "expression": "lower(email)", "mask": "hash"}, "***"),
    ],
)
def test_quarantine_hides_what_the_target_hides(column: dict[str, Any], shown: str) -> None:
    shaped = shape(shaper(columns=[column]), {**ROWS, "amount": ["x"] * 3})
    assert {reject.row["email"] for reject in shaped.rejects} == ({"***"} if shown == "***" else set(ROWS["email"]))


def test_messages_hide_it_too() -> None:
    columns = [{"name": "email", "drop": True}, {"name": "n", "expression": "email::integer"}]
    shaped = shape(shaper(columns=columns))
    assert len(shaped.rejects) == 3
    assert not any("@x" in reject.message for reject in shaped.rejects)


def test_unselected_columns_are_not_quarantined() -> None:
    shaped = shape(shaper(select=["id", "amount"]))
    assert shaped.rejects[0].row == {"id": "3", "amount": "3.005"}


def test_hash_in_quarantine_is_the_hash_of_the_target() -> None:
    shaped = shape(shaper(columns=[{"name": "email", "mask": "hash"}]), {**ROWS, "email": ["same"] * 3})
    assert shaped.rejects[0].row["email"] == shaped.rows.column("email")[0].as_py()


def test_the_target_decides_columns_and_types() -> None:
    made = shaper()
    made.bind(Schema((Column("amount", "integer"), Column("id", "text"))))
    shaped = shape(made)
    assert shaped.rows.schema == pa.schema([("amount", pa.int32()), ("id", pa.string())])
    assert shaped.rows.to_pylist() == [{"amount": 2, "id": "2"}]
    assert [reject.rule for reject in shaped.rejects] == ["cast(amount)"] * 2


def test_a_vanished_column_is_null_unless_it_is_needed() -> None:
    rows = {name: values for name, values in ROWS.items() if name not in ("name", "amount")}
    assert shape(shaper(), rows).rows.column("name").null_count == 3
    assert {reject.rule for reject in shape(shaper(primaryKey=["name"]), rows).rejects} == {"primary_key"}
    required = Schema((Column("id", "bigint"), Column("name", nullable=False)))
    assert {reject.rule for reject in shape(shaper(required), rows).rejects} == {"required(name)"}


def test_covers() -> None:
    made = shaper(select=["id"])
    assert made.covers(pa.schema([("name", pa.string()), ("id", pa.int8())]))
    assert not made.covers(pa.schema([("id", pa.int8()), ("new", pa.string())]))


def test_nothing_to_do_copies_nothing() -> None:
    rows = pa.record_batch({"id": [1, 2], "name": ["a", "b"]})
    made = shaper(Schema((Column("id", "bigint"), Column("name"))))
    shaped = made.apply(Batch(rows))
    for column in ("id", "name"):
        assert shaped.rows.column(column).buffers()[-1].address == rows.column(column).buffers()[-1].address


def test_escaped_nul_in_json_and_an_empty_batch() -> None:
    made = shaper(Schema((Column("doc", "jsonb"),)))
    shaped = shape(made, {"doc": ['{"a":"\\u0000"}', '{"a":"\\\\u0000"}', "{"]})
    assert [reject.rule for reject in shaped.rejects] == ["nul_byte", "cast(doc)"]
    assert made.apply(Batch(pa.record_batch({"doc": pa.array([], pa.string())}))).rows.num_rows == 0


def test_a_change_without_its_time_is_refused() -> None:
    fields = {"primaryKey": ["id"], "writeDisposition": "scd2", "scd2": {"effectiveAt": "name"}}
    rows = {**ROWS, "amount": ["1"] * 3}
    shaped = shape(shaper(**fields), rows)
    assert [(reject.rule, reject.row["id"]) for reject in shaped.rejects] == [("effective_at", "3")]
    assert "the time a change took effect" in shaped.rejects[0].message
    assert shape(shaper(), rows).rejects == [], "other streams may have NULL there"


def test_what_a_server_vouches_for_is_looked_at_only_where_it_changes() -> None:
    source = Schema(
        (
            Column("token", "uuid"),
            Column("document", "jsonb"),
            Column("other", "json"),
            Column("amount", "numeric(10,2)"),
            Column("code", "text"),
        )
    )
    made = shaper(source, columns=[{"name": "code", "type": "uuid"}])
    rows = pa.record_batch(
        {
            "token": ["as sent", "as sent", "as sent"],
            "document": ["as sent", "as sent", "as sent"],
            "other": ["1", '"\\u0000"', "2"],
            "amount": ["1.50", "2.00", "NaN"],  # text, since no decimal holds the last one
            "code": ["c4ca4238-a0b9-2382-0dcc-509a6f75849b"] * 3,
        }
    )
    shaped = made.apply(Batch(rows, vouched=True))
    assert shaped.rows.to_pylist() == [
        {
            "token": "as sent",
            "document": "as sent",
            "other": "1",
            "amount": Decimal("1.50"),
            "code": "c4ca4238-a0b9-2382-0dcc-509a6f75849b",
        }
    ]
    assert [reject.rule for reject in shaped.rejects] == ["nul_byte", "cast(amount)"]
    doubted = made.apply(Batch(rows))
    assert (doubted.rows.num_rows, {item.rule for item in doubted.rejects}) == (0, {"cast(token)"})
