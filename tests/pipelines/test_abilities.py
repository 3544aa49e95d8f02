"""What a warehouse cannot do is refused with the field's name, never ignored."""

from __future__ import annotations

from typing import Any

import pytest

from millstream_api.stream import StreamSpec
from millstream_pipelines.abilities import require_abilities
from millstream_pipelines.errors import ConfigurationError

STREAM = {
    "name": "people",
    "target": "raw.people",
    "primaryKey": ["id"],
    "writeDisposition": "merge",
    "mode": "incremental",
}


class Plain:
    """A warehouse that can do nothing further."""

    dialect = "plain"
    features = frozenset({"merge"})


class Able(Plain):
    """One that can."""

    features = frozenset({"merge", "scd2", "deletes", "tags"})


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"writeDisposition": "scd2"}, "writeDisposition 'scd2'"),
        ({"deletes": {"column": "gone"}}, "`deletes`"),
        ({"tags": ["pii"]}, "`tags`"),
        ({"deletes": {"reconcileEvery": "24h"}}, "`deletes`"),
    ],
)
def test_refused_by_name(asked: dict[str, Any], field: str) -> None:
    stream = StreamSpec.model_validate(STREAM | asked)
    with pytest.raises(ConfigurationError, match=f"'people': {field} .* type 'plain'"):
        require_abilities(stream, Plain())  # type: ignore[arg-type]
    assert require_abilities(stream, Able()) is None  # type: ignore[func-returns-value, arg-type]


def test_plain_loading_asks_for_nothing() -> None:
    assert require_abilities(StreamSpec.model_validate(STREAM), Plain()) is None  # type: ignore[func-returns-value, arg-type]
