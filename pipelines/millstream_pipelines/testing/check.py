"""RowCheckSuite and SetCheckSuite: what every check must do. Subclass one, name your check, run pytest.

    class TestEven(RowCheckSuite):
        entry_point = "even"  # a check's `type` in a manifest
        check = Even
        config = {"column": "n"}
        rows = pa.record_batch({"n": [1, 2, None]})
        passing = [False, True, True]

    class TestHasRows(SetCheckSuite):
        entry_point = "has_rows"
        check = HasRows
        config = {"min": 1}
        good = ["CREATE TABLE t (n integer)", "INSERT INTO t VALUES (1)"]
        bad = ["CREATE TABLE t (n integer)"]

A set check is tried on DuckDB; give the fixture `database` another warehouse's to try it there as well.
"""

# ruff: noqa: S101 (assertions are what a suite is made of)

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pyarrow as pa
import pytest

from millstream_api.stream import CheckSpec
from millstream_pipelines import registry
from millstream_pipelines.checks.base import RowCheck, SetCheck
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.queries import TableQueries
from millstream_pipelines.row_checks import BoundSetCheck, RowChecks
from millstream_pipelines.schema import schema_of

OWNER = "stream 'under-test'"


class CheckSuite:
    """What both kinds have in common."""

    entry_point: ClassVar[str]
    """The name of its entry point: a check's `type` in a manifest."""
    check: ClassVar[type[Any]]
    """The plug-in class."""
    config: ClassVar[Mapping[str, Any]]
    """A valid configuration, as a manifest would hold it."""
    bad_config: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """What the message must say → what to put over `config` so that it is refused."""

    def built(self, **changes: Any) -> Any:
        """Return the check as the runner makes it."""
        return self.check(registry.configured(self.check.Config, {**self.config, **changes}, {}, OWNER))

    def spec(self, **changes: Any) -> CheckSpec:
        """Return the check as a manifest names it."""
        return CheckSpec.model_validate({"type": self.entry_point, **self.config, **changes})

    def test_the_entry_point_is_this_class(self) -> None:
        assert registry.component("checks", self.entry_point, OWNER) is self.check

    def test_every_field_says_what_it_means(self) -> None:
        fields = self.check.Config.model_fields
        assert not [name for name, item in fields.items() if not item.description]

    def test_an_unknown_field_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="no_such_field"):
            self.built(no_such_field=1)

    def test_bad_configurations_are_refused(self) -> None:
        for words, changes in self.bad_config.items():
            with pytest.raises(ConfigurationError) as caught:
                self.built(**changes)
            assert words in str(caught.value)


class RowCheckSuite(CheckSuite):
    """The conformance suite of row checks."""

    rows: ClassVar[Any]
    """A record batch with rows that pass and rows that do not."""
    passing: ClassVar[Sequence[bool]]
    """Which of them pass."""

    def test_the_class_follows_the_protocol(self) -> None:
        check = self.built()
        assert isinstance(check, RowCheck)
        assert not isinstance(check, SetCheck)
        assert check.label
        assert check.message()

    def test_the_rows_that_pass(self) -> None:
        assert self.built().passes(self.rows).to_pylist() == list(self.passing)

    def test_a_slice_passes_as_its_rows_do(self) -> None:
        check = self.built()
        for start in range(len(self.passing)):
            assert check.passes(self.rows.slice(start)).to_pylist() == list(self.passing[start:])

    def test_an_empty_batch_has_no_answers(self) -> None:
        answers = self.built().passes(self.rows.slice(0, 0))
        assert answers.type == pa.bool_()
        assert len(answers) == 0

    def test_null_gets_an_answer(self) -> None:
        nothing = [pa.nulls(3, item.type) for item in self.rows.schema]
        answers = self.built().passes(pa.RecordBatch.from_arrays(nothing, schema=self.rows.schema))
        assert len(answers) == 3
        assert answers.null_count == 0

    def test_refused_rows_are_counted_and_set_aside(self) -> None:
        checks = RowChecks([self.spec()], schema_of(self.rows.schema), OWNER)
        kept, rejects = checks.apply(self.rows)
        refused = list(self.passing).count(False)
        assert kept.num_rows == len(self.passing) - refused
        assert len(rejects) == refused == checks.results()[0].failed_rows

    def test_an_absent_column_is_told_before_the_first_row(self) -> None:
        without = schema_of(pa.schema([("quite_another", pa.string())]))
        if self.built().columns():
            with pytest.raises(ConfigurationError, match="quite_another"):
                RowChecks([self.spec()], without, OWNER)


@dataclass(frozen=True)
class Database:
    """Where a set check is tried: `execute` prepares tables, `queries` is what the check is given."""

    execute: Callable[[str], Any]
    queries: TableQueries


class PlainQueries:
    """TableQueries over a function that runs SQL and returns the rows."""

    def __init__(self, dialect: Literal["postgres", "duckdb"], run: Callable[[str], Sequence[Sequence[Any]]]) -> None:
        self.dialect = dialect
        self._run = run

    def identifier(self, name: str) -> str:
        """Quote a name."""
        return '"' + name.replace('"', '""') + '"'

    def quoted(self, table: str) -> str:
        """Quote `schema.table`."""
        return ".".join(self.identifier(part) for part in table.split("."))

    def scalar(self, sql: str) -> object:
        """Return the only value."""
        [[value]] = self._run(sql)
        return value


class SetCheckSuite(CheckSuite):
    """The conformance suite of set checks. The table under test is `t`."""

    good: ClassVar[Sequence[str]]
    """SQL that makes tables which satisfy the check."""
    bad: ClassVar[Sequence[str]]
    """SQL that makes tables which do not."""
    failed_rows: ClassVar[int | None] = None
    """How many rows of `bad` fail, exactly."""
    finding: ClassVar[str] = ""
    """What the message about `bad` says."""

    @pytest.fixture
    def database(self) -> Iterator[Database]:
        """Return an empty database."""
        import duckdb

        with duckdb.connect(":memory:") as connection:
            queries = PlainQueries("duckdb", lambda sql: connection.execute(sql).fetchall())
            yield Database(connection.execute, queries)

    def bound(self, **changes: Any) -> BoundSetCheck:
        """Return the check as the runner evaluates it."""
        return BoundSetCheck(self.spec(**changes), self.built(**changes))

    def test_the_class_follows_the_protocol(self) -> None:
        check = self.built()
        assert isinstance(check, SetCheck)
        assert not isinstance(check, RowCheck)
        assert check.label

    def test_good_tables_pass(self, database: Database) -> None:
        for statement in self.good:
            database.execute(statement)
        result = self.bound().evaluate(database.queries, "t")
        assert (result.outcome, result.failed_rows) == ("passed", 0), result.message
        assert result.message

    def test_bad_tables_fail(self, database: Database) -> None:
        for statement in self.bad:
            database.execute(statement)
        result = self.bound().evaluate(database.queries, "t")
        assert result.outcome == "failed"
        assert self.finding in result.message
        if self.failed_rows is not None:
            assert result.failed_rows == self.failed_rows

    def test_an_absent_table_is_never_passed(self, database: Database) -> None:
        assert self.bound().evaluate(database.queries, "no_such_table").outcome == "errored"
