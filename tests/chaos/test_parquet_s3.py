"""Runners into Parquet files on a real S3 server, killed, asleep and twinned: every row is there once.

The folder is played by `test_faults.py`; here the commit is a conditional PUT and files are multipart uploads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chaos.attempts import Warm
from chaos.bench import Bench, Tally
from chaos.cases import BATCH_ROWS, named
from chaos.proxy import Direction, Proxy
from chaos.seeds import seed
from millstream_pipelines.errors import RetriableError
from millstream_pipelines.testing.warehouse_case import PEOPLE, write
from millstream_pipelines.warehouses.base import LoadSpec
from millstream_pipelines.warehouses.parquet import ParquetWarehouse
from parquet_case import asked
from servers.plugin import postgres_server, s3_server
from servers.postgres import Postgres
from servers.s3 import S3

__all__ = ["postgres_server", "s3_server"]

CASES = 2
SEED = seed()


def test_no_row_is_lost_or_doubled_on_s3(
    postgres_server: Postgres, s3_server: S3, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = {
        "url": f"s3://{s3_server.create_bucket()}", "endpoint": s3_server.endpoint,
        "accessKeyId": s3_server.access_key, "secretAccessKey": s3_server.secret_key,
    }  # fmt: skip
    tally = Tally()
    with Warm(tmp_path / "warm", BATCH_ROWS) as warm:
        for number in range(SEED, SEED + CASES):
            case = named(f"parquet-{number}")
            with postgres_server.fresh_database() as database:
                place = {**lake, "url": f"{lake['url']}/{number}"}
                bench = Bench(case, database, warm, tmp_path / str(number), 0.2, lake=place)
                try:
                    tally += bench.play()
                except AssertionError as error:
                    raise AssertionError(f"MILLSTREAM_TEST_SEED={SEED}\n{case}\n{error}") from error
    with capsys.disabled():
        print(f"\nMILLSTREAM_TEST_SEED={SEED}: {dict(tally.faults)} in {tally.attempts} attempts")
    assert tally.cases == CASES
    assert sum(tally.faults.values()) >= CASES


ROWS = ((1, "a", 1), (2, "b", 2), (3, None, None))


def _loaded(config: dict[str, Any], table: str, holder: str) -> bool:
    """Load ROWS unless an attempt before has; return whether there was one that did."""
    spec = LoadSpec("chaos/p", "s", "run-1", holder, table, "incremental", "append")
    warehouse = ParquetWarehouse(ParquetWarehouse.Config(**config), "test")
    try:
        load = warehouse.load(spec)
        before = load.position is not None
        if not before:
            write(load, *ROWS, schema=load.shape(PEOPLE))
            load.commit({"at": 3})
    finally:
        warehouse.close()
    return before


@pytest.mark.parametrize(("direction", "most"), [("down", 3500), ("up", 9000)])
def test_requests_and_answers_that_are_lost_lose_and_double_nothing(
    s3_server: S3, direction: Direction, most: int
) -> None:
    login = {"accessKeyId": s3_server.access_key, "secretAccessKey": s3_server.secret_key}
    place = {"url": f"s3://{s3_server.create_bucket()}", "endpoint": s3_server.endpoint, **login}
    spoiled = 0
    for after in range(most // 12, most, most // 12):
        table = f"raw.after_{after}"
        proxy = Proxy(s3_server.host, s3_server.port, "reset", direction, after)
        try:
            _loaded({**place, "endpoint": f"http://127.0.0.1:{proxy.port}"}, table, "pod-1")
        except RetriableError:
            pass
        finally:
            proxy.close()
        spoiled += proxy.spoiled
        _loaded(place, table, "pod-2")
        quoted = ".".join(f'"{part}"' for part in table.split("."))
        assert asked(place, f"SELECT id, name, rev FROM {quoted} ORDER BY id") == list(ROWS), after
        ledger = asked(place, f"SELECT seq, read, loaded FROM _millstream.ledger WHERE target = '{table}'")
        assert ledger == [(1, 3, 3)], after
    assert spoiled >= 8
