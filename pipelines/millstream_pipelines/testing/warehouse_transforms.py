"""The part of WarehouseSuite about transforms: views, tables and merges, published at once."""

# ruff: noqa: S101 (assertions are what a suite is made of)

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from millstream_api.pipeline import TransformSpec
from millstream_pipelines.errors import ConfigurationError, DataError, MillstreamError
from millstream_pipelines.testing.warehouse_case import WarehouseCase


def nothing() -> None:
    """Check nothing."""


class WarehouseTransforms(WarehouseCase):
    """What `materialize` publishes."""

    proves: ClassVar[frozenset[str]] = frozenset({"transforms"})

    @property
    def mart(self) -> str:
        """The test's own transform target."""
        return f"mart_{self.suffix}.totals"

    def made(self, sql: str, materialize: str = "table", checked: Callable[[], None] = nothing, **more: Any) -> int:
        """Materialize into the test's mart."""
        given = {"name": "totals", "target": self.mart, "materialize": materialize, "sql": sql, **more}
        spec = TransformSpec.model_validate(given)
        return self.open().materialize(spec, checked)

    def mart_rows(self, columns: str = "*") -> list[tuple[Any, ...]]:
        """Return what others see in the mart."""
        return self.seen(columns, self.mart)

    def test_a_view_and_its_new_columns(self) -> None:
        assert self.made("SELECT 1 AS a", "view") == 0
        self.made("SELECT 2 AS a, 'x' AS b", "view")
        assert self.mart_rows() == [(2, "x")]
        self.made("SELECT 'y' AS b", "view")
        assert self.mart_rows() == [("y",)]

    @pytest.mark.parametrize("sql", ["SELECT 1 AS a;", "SELECT 1 AS a -- one", "SELECT 1 AS a; -- one\n/* two */ ;\n"])
    @pytest.mark.parametrize("materialize", ["view", "table", "incremental"])
    def test_semicolons_and_comments_at_the_end(self, sql: str, materialize: str) -> None:
        for _ in range(2):
            self.made(sql, materialize, primary_key=["a"])
        assert self.mart_rows() == [(1,)]

    def test_a_table_and_its_new_rows(self) -> None:
        assert self.made("SELECT 1 AS a, 'x' AS b UNION ALL SELECT 2, 'y'") == 2
        assert self.made("SELECT 3 AS a, 'z' AS b") == 1
        assert self.mart_rows() == [(3, "z")]

    def test_a_table_and_its_new_columns(self) -> None:
        self.made("SELECT 1 AS a, 'x' AS b")
        self.made("SELECT 'now text' AS a, 2 AS c")
        assert self.mart_rows("a, c") == [("now text", 2)]
        with pytest.raises(Exception):  # noqa: B017, PT011 (whatever the driver calls a column that is not there)
            self.mart_rows("b")

    def test_a_more_exact_type_is_not_rounded_into_the_old_one(self) -> None:
        self.made("SELECT CAST(1.25 AS decimal(10, 2)) AS a")
        self.made("SELECT CAST(1.2345 AS decimal(10, 4)) AS a")
        assert [str(value) for (value,) in self.mart_rows()] == ["1.2345"]

    def test_others_see_the_old_rows_until_the_commit(self) -> None:
        seen: list[Any] = []
        self.made("SELECT 1 AS a")
        self.made("SELECT 2 AS a", checked=lambda: seen.append(self.mart_rows()))
        assert seen == [[(1,)]]
        assert self.mart_rows() == [(2,)]

    @pytest.mark.parametrize("materialize", ["view", "table", "incremental"])
    def test_a_failed_check_leaves_the_old_result(self, materialize: str) -> None:
        def refuse() -> None:
            raise DataError("check failed")

        self.made("SELECT 1 AS a, 1 AS b", materialize, primary_key=["a"])
        for sql in ("SELECT 1 AS a, 2 AS b", "SELECT 1 AS a, 'x' AS c"):
            with pytest.raises(DataError, match="check failed"):
                self.made(sql, materialize, refuse, primary_key=["a"])
            assert self.mart_rows("a, b") == [(1, 1)]
        self.made("SELECT 1 AS a, 3 AS b", materialize, primary_key=["a"])
        assert self.mart_rows("a, b") == [(1, 3)]

    def test_a_check_sees_the_new_rows(self) -> None:
        warehouse = self.open()
        spec = TransformSpec(name="totals", target=self.mart, materialize="table", sql="SELECT 7 AS a")
        seen: list[object] = []
        ask = f"SELECT max(a) FROM {warehouse.quoted(self.mart)}"
        warehouse.materialize(spec, lambda: seen.append(warehouse.scalar(ask)))
        assert seen == [7]

    def test_incremental_inserts_updates_and_keeps(self) -> None:
        self.made("SELECT 1 AS k, 'a' AS v UNION ALL SELECT 2, 'b'", "incremental", primary_key=["k"])
        rows = self.made("SELECT 2 AS k, 'B' AS v UNION ALL SELECT 3, NULL", "incremental", primary_key=["k"])
        assert rows == 3
        assert self.mart_rows() == [(1, "a"), (2, "B"), (3, None)]

    def test_incremental_reads_its_own_target_and_adds_columns(self) -> None:
        self.made("SELECT 1 AS k", "incremental", primary_key=["k"])
        mart = self.open().quoted(self.mart)
        self.made(f"SELECT max(k) + 1 AS k, 'new' AS v FROM {mart}", "incremental", primary_key=["k"])
        assert self.mart_rows("k, v") == [(1, None), (2, "new")]

    def test_incremental_refuses_two_rows_of_one_key(self) -> None:
        with pytest.raises(DataError):
            self.made("SELECT 1 AS k, 1 AS v UNION ALL SELECT 1, 2", "incremental", primary_key=["k"])

    def test_incremental_needs_its_key_in_the_select(self) -> None:
        with pytest.raises(ConfigurationError, match="'k' of primaryKey"):
            self.made("SELECT 1 AS a", "incremental", primary_key=["k"])

    @pytest.mark.parametrize(("first", "then"), [("view", "table"), ("table", "view"), ("view", "incremental")])
    def test_the_wrong_kind_of_object(self, first: str, then: str) -> None:
        self.made("SELECT 1 AS a", first)
        with pytest.raises(ConfigurationError, match="materialize"):
            self.made("SELECT 2 AS a", then, primary_key=["a"])
        assert self.mart_rows() == [(1,)]

    def test_a_wrong_statement_names_the_transform(self) -> None:
        for sql in ("SELECT no_such_column", "SELECT 1 FROM no_such_table", "SELECT 1 AS a; SELECT 2 AS a"):
            with pytest.raises(MillstreamError, match=r"totals|one SELECT") as caught:
                self.made(sql)
            assert caught.value.exit_code == ConfigurationError.exit_code
