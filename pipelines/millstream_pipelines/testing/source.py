"""SourceSuite: what every source must do. Subclass it, name your source and a stream, run pytest.

    class TestMemory(SourceSuite):
        source = MemorySource
        stream = "people"
        row_count = 5

        @pytest.fixture
        def config(self) -> dict[str, Any]:
            return {"batchRows": 2, "streams": {"people": {"rows": [{"id": n} for n in range(5)]}}}

Give the stream several batches (small batch sizes, pages or files): the places between them are what is tested.
"""

# ruff: noqa: S101 (assertions are what a suite is made of)

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from millstream_pipelines.batch import MAX_BATCH_BYTES, MAX_BATCH_ROWS, Batch
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.registry import configured
from millstream_pipelines.schema import arrow_type
from millstream_pipelines.sources.base import FixesSlices, Range, ReadRequest, Slice, Source, features_of

OWNER = "source 'under-test'"


class SourceSuite:
    """The conformance suite of sources. Class attributes and the fixture `config` are yours to set."""

    source: ClassVar[type[Any]]
    """The plug-in class."""
    stream: ClassVar[str]
    """A stream of `config` that holds at least two batches."""
    row_count: ClassVar[int]
    """Rows in that stream, those that cannot be parsed included."""
    incremental: ClassVar[bool] = True
    """False for a source that cannot go on from a position."""
    cursor_field: ClassVar[str | None] = None
    """The cursor, for sources that need one."""
    ranges: ClassVar[tuple[Range, ...]] = ()
    """For feature `range`: stretches of the cursor, in order and without gaps, that hold every row that parses."""
    bad_config: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Field → what to put over `config`, so that it is refused with that field named."""

    @pytest.fixture
    def config(self) -> Mapping[str, Any]:
        """Return a valid configuration, as a manifest would hold it."""
        raise NotImplementedError("override the fixture `config`")

    @pytest.fixture
    def secret(self) -> Mapping[str, str]:
        """Return the Secret's values; none of them may ever appear in a message."""
        return {}

    @contextmanager
    def opened(self, config: Mapping[str, Any], secret: Mapping[str, str]) -> Iterator[Source]:
        """Open the source as the runner does, and close it."""
        source = self.source(configured(self.source.Config, config, secret, OWNER), OWNER)
        try:
            yield source
        finally:
            source.close()

    def request(self, **changes: Any) -> ReadRequest:
        """Return a read of the stream under test."""
        return ReadRequest(**{"stream": self.stream, "cursor_field": self.cursor_field, **changes})

    def check_count(self, batches: list[Batch]) -> None:
        """Assert that all rows came, the refused included."""
        read = sum(batch.rows_read for batch in batches)
        assert read == self.row_count, f"{read} rows read, {self.row_count} are there"

    def test_the_class_follows_the_protocol(self, config: Mapping[str, Any], secret: Mapping[str, str]) -> None:
        with self.opened(config, secret) as source:
            assert isinstance(source, Source)
        fields = self.source.Config.model_fields
        assert not [name for name, item in fields.items() if not item.description], "every field says what it means"

    def test_streams_and_describe_agree(self, config: Mapping[str, Any], secret: Mapping[str, str]) -> None:
        with self.opened(config, secret) as source:
            found = {info.name: info.schema for info in source.streams()}
            assert self.stream in found
            assert source.describe(self.stream).name == self.stream
            assert source.describe(self.stream).schema == found[self.stream]
            assert len(found[self.stream]), "a stream has columns"

    def test_batches_hold_what_describe_says(self, config: Mapping[str, Any], secret: Mapping[str, str]) -> None:
        with self.opened(config, secret) as source:
            schema = source.describe(self.stream).schema
            seen: set[str] = set()
            for batch in source.read(self.request()):
                seen |= set(batch.data.schema.names)
                for item in batch.data.schema:
                    column = schema.get(item.name)
                    accepted = (pa.string(), arrow_type(column.type)) if column else (item.type,)
                    assert item.type in accepted, f"'{item.name}' is {item.type}, described as {column}"
            assert seen >= set(schema.names)

    def test_unknown_stream_lists_the_known(self, config: Mapping[str, Any], secret: Mapping[str, str]) -> None:
        with self.opened(config, secret) as source:
            with pytest.raises(ConfigurationError, match=self.stream):
                source.describe("no_such_stream")
            with pytest.raises(ConfigurationError, match=self.stream):
                list(source.read(self.request(stream="no_such_stream")))

    def test_full_read_is_complete_and_bounded(self, config: Mapping[str, Any], secret: Mapping[str, str]) -> None:
        with self.opened(config, secret) as source:
            batches = list(source.read(self.request()))
        self.check_count(batches)
        for batch in batches:
            assert batch.data.num_rows <= MAX_BATCH_ROWS
            assert batch.data.nbytes <= 2 * MAX_BATCH_BYTES

    def test_full_read_repeats_itself(self, config: Mapping[str, Any], secret: Mapping[str, str]) -> None:
        with self.opened(config, secret) as source:
            assert rows_of(source.read(self.request())) == rows_of(source.read(self.request()))

    def test_a_column_can_be_asked_for(self, config: Mapping[str, Any], secret: Mapping[str, str]) -> None:
        with self.opened(config, secret) as source:
            name = source.describe(self.stream).schema.names[0]
            assert name in source.describe(self.stream, (name,)).schema.names
            batches = list(source.read(self.request(columns=(name,))))
        self.check_count(batches)
        assert any(name in batch.data.schema.names for batch in batches)

    def test_each_position_yields_exactly_the_rest(self, config: Mapping[str, Any], secret: Mapping[str, str]) -> None:
        if not self.incremental:
            pytest.skip("the source has no incremental mode")
        request = self.request(mode="incremental")
        with self.opened(config, secret) as source:
            batches = list(source.read(request))
            promise, why = source.guarantee(request)
        assert promise in ("exact", "repeats")
        assert why, "a guarantee gives its reason"
        self.check_count(batches)
        assert any(batch.position is not None for batch in batches), "an incremental read yields positions"
        for number, batch in enumerate(batches):
            if batch.position is None:
                continue
            position = json.loads(json.dumps(batch.position))
            with self.opened(config, secret) as source:
                rest = rows_of(source.read(self.request(mode="incremental", position=position)))
            expected = rows_of(batches[number + 1 :])
            assert not expected - rest, f"rows lost behind position {position}"
            assert promise == "repeats" or rest == expected, f"rows repeated behind position {position}"

    def test_ranges_are_disjoint_and_together_whole(self, config: Mapping[str, Any], secret: Mapping[str, str]) -> None:
        with self.opened(config, secret) as source:
            assert bool(self.ranges) == ("range" in features_of(source)), "say `ranges` where the feature is there"
            if self.ranges:
                found: Counter[str] = Counter()
                for stretch in self.ranges:
                    found += parsed_rows(source.read(self.request(mode="incremental", range=stretch)))
                assert found == parsed_rows(source.read(self.request()))
                behind = Range(self.ranges[-1].end, self.ranges[-1].end)
                assert not parsed_rows(source.read(self.request(mode="incremental", range=behind)))

    def test_slices_are_disjoint_and_together_whole(self, config: Mapping[str, Any], secret: Mapping[str, str]) -> None:
        with self.opened(config, secret) as source:
            assert features_of(source) <= {"range", "slice"}
            if "slice" not in features_of(source):
                return
            fixed = source.fix_slices(self.request()) if isinstance(source, FixesSlices) else None
            fixed = json.loads(json.dumps(fixed))
            whole = rows_of(source.read(self.request()))
            for count in (1, 3):
                found: Counter[str] = Counter()
                for index in range(count):
                    with self.opened(config, secret) as other:
                        found += rows_of(other.read(self.request(slice=Slice(index, count, fixed))))
                assert found == whole

    def test_close_twice_and_in_mid_read(self, config: Mapping[str, Any], secret: Mapping[str, str]) -> None:
        with self.opened(config, secret) as source:
            reader = iter(source.read(self.request()))
            next(reader)
            source.close()
            source.close()

    def test_wrong_configuration_names_the_field(self, config: Mapping[str, Any], secret: Mapping[str, str]) -> None:
        for field, change in {**self.bad_config, "noSuchField": {"noSuchField": 1}}.items():
            with pytest.raises(ConfigurationError) as caught, self.opened({**config, **change}, secret):
                pass
            assert field in str(caught.value)
            assert OWNER in str(caught.value)
            assert not [key for key, value in secret.items() if value in str(caught.value)], "a secret was shown"


def parsed_rows(batches: Iterator[Batch]) -> Counter[str]:
    """Return every row that could be parsed."""
    return rows_of([replace(batch, rejects=[]) for batch in batches])


def rows_of(batches: Iterator[Batch] | list[Batch]) -> Counter[str]:
    """Return every row, parsed or refused, as JSON text with its number of occurrences. Order has no meaning."""
    found: Counter[str] = Counter()
    for batch in batches:
        found.update(json.dumps(row, default=repr, sort_keys=True) for row in batch.data.to_pylist())
        found.update(json.dumps([item.rule, item.row], default=repr, sort_keys=True) for item in batch.rejects)
    return found
