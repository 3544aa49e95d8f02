"""What the tests of a warehouse start from: a table and a pipeline of their own, rows to write, a way to look."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from millstream_pipelines.batch import Reject
from millstream_pipelines.registry import configured
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.warehouses.base import Counts, LoadSpec, StreamLoad, Warehouse

OWNER = "Warehouse 'under-test'"
PEOPLE = Schema((Column("id", "bigint"), Column("name", "text"), Column("rev", "bigint")))


class WarehouseCase:
    """What a test of a warehouse starts from. Class attributes, the fixture `config` and `query` are yours to set."""

    warehouse: ClassVar[type[Any]]
    """The plug-in class."""
    failed_query_ends_transaction: ClassVar[bool] = False
    """True for a warehouse without savepoints: after a query that fails while it runs, the commit is refused."""

    @pytest.fixture
    def config(self) -> Mapping[str, Any]:
        """Return a valid configuration, as a manifest would hold it."""
        raise NotImplementedError("override the fixture `config`")

    @pytest.fixture
    def secret(self) -> Mapping[str, str]:
        """Return the Secret's values; none of them may ever appear in a message."""
        return {}

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query, run through another connection than the warehouse's."""
        raise NotImplementedError("override `query`")

    def execute(self, sql: str) -> None:
        """Run a statement through that other connection, and commit it. Only for tables of the user's own making."""
        raise NotImplementedError("override `execute`")

    @pytest.fixture(autouse=True)
    def _prepare(self, config: Mapping[str, Any], secret: Mapping[str, str]) -> Iterator[None]:
        self.config_seen, self.secret_seen = config, secret
        self._opened: list[Warehouse] = []
        self.suffix = uuid.uuid4().hex[:12]
        self.open().probe()
        yield
        for warehouse in self._opened:
            warehouse.close()

    def open(self) -> Warehouse:
        """Open the warehouse as the runner does; it is closed after the test."""
        made: Warehouse = self.warehouse(
            configured(self.warehouse.Config, self.config_seen, self.secret_seen, OWNER), OWNER
        )
        self._opened.append(made)
        return made

    @property
    def table(self) -> str:
        """The test's own table."""
        return f"suite_{self.suffix}.people"

    def spec(self, **changes: Any) -> LoadSpec:
        """Return a load into the test's own table."""
        given: dict[str, Any] = {
            "pipeline": f"suite/{self.suffix}", "stream": "people", "run": "run-1", "holder": "pod-1",
            "target": self.table, "mode": "incremental", "disposition": "append",
        }  # fmt: skip
        return LoadSpec(**{**given, **changes})

    def merging(self, **changes: Any) -> LoadSpec:
        """Return a load that merges by `id`."""
        return self.spec(**{"disposition": "merge", "primary_key": ("id",), **changes})

    @property
    def features(self) -> frozenset[str]:
        """What the warehouse declares beyond loading rows."""
        return frozenset(getattr(self.warehouse, "features", ()))

    def keyed(self, *names: str) -> dict[str, Any]:
        """Return what makes a load merge by a key; nothing where the warehouse does not merge."""
        return {"disposition": "merge", "primary_key": names} if "merge" in self.features else {}

    def either(self, **changes: Any) -> LoadSpec:
        """Return a load that merges by `id`, or appends where the warehouse does not merge."""
        return self.spec(**{**self.keyed("id"), **changes})

    def loaded(self, load: StreamLoad, *rows: tuple[Any, ...], position: Any = None, schema: Schema = PEOPLE) -> Counts:
        """Shape, write, settle and commit."""
        write(load, *rows, schema=load.shape(schema))
        counts = load.settle()
        load.commit(position)
        return counts

    def seen(self, columns: str = "id, name", table: str | None = None) -> list[tuple[Any, ...]]:
        """Return what others see in the test's table, in the order of the first column."""
        return self.query(f"SELECT {columns} FROM {self.open().quoted(table or self.table)} ORDER BY 1")

    def metadata(self, columns: str, table: str, condition: str = "true") -> list[tuple[Any, ...]]:
        """Return what others see of this test's pipeline in `_millstream`."""
        where = f"pipeline = 'suite/{self.suffix}' AND {condition}"
        return self.query(f"SELECT {columns} FROM _millstream.{table} WHERE {where}")


def batch(schema: Schema, *rows: tuple[Any, ...]) -> pa.RecordBatch:
    """Return rows as a batch of that schema."""
    arrow = schema.arrow()
    return pa.RecordBatch.from_arrays(
        [pa.array([row[place] for row in rows], item.type) for place, item in enumerate(arrow)], schema=arrow
    )


def write(load: StreamLoad, *rows: tuple[Any, ...], schema: Schema = PEOPLE, rejects: tuple[Reject, ...] = ()) -> None:
    """Write rows and rejects with the counts that belong to them."""
    counts = Counts(read=len(rows) + len(rejects), quarantined=len(rejects), bytes_read=len(rows))
    load.write(batch(schema, *rows), rejects, counts)


def totals(counts: Counts) -> tuple[int, ...]:
    """Return read, loaded, quarantined, duplicate, filtered."""
    return (counts.read, counts.loaded, counts.quarantined, counts.duplicate, counts.filtered)
