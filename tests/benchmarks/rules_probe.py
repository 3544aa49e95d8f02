"""CPU seconds of eight rules over every batch of the table `dirty`: by hand and by ours in turn. Prints JSON."""

from __future__ import annotations

import json
import sys
import time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from tests.benchmarks.dataset import CHECKS

from millstream_api.stream import CheckSpec, StreamSpec
from millstream_pipelines.endpoints import open_source
from millstream_pipelines.row_checks import RowChecks
from millstream_pipelines.shaping import Shaper
from millstream_pipelines.sources.base import ReadRequest

_STATUS = pa.array(["new", "paid", "packed", "sent", "closed"])
_STREAM = "public.dirty"


def _by_hand(rows: pa.RecordBatch) -> int:
    column = {name: rows.column(place) for place, name in enumerate(rows.schema.names)}
    since = pa.scalar(1_704_067_200_000_000, pa.int64()).cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
    until = pa.scalar(4_102_444_800_000_000, pa.int64()).cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
    amount = column["amount"]
    conditions = (
        pc.and_(column["id"].is_valid(), column["token"].is_valid()),
        pc.and_(
            pc.greater_equal(amount, pa.scalar(Decimal(0), amount.type)),
            pc.less_equal(amount, pa.scalar(Decimal(100_000), amount.type)),
        ),
        pc.greater_equal(column["quantity"], pa.scalar(0, pa.int32())),
        pc.and_(pc.greater_equal(column["created_at"], since), pc.less_equal(column["created_at"], until)),
        pc.is_in(column["status"], _STATUS),
        pc.match_substring_regex(column["label"], "[0-9]{18}$"),
        pc.equal(pc.utf8_length(column["label"]), 40),
        pc.greater_equal(column["updated_at"], column["created_at"]),
    )
    good = conditions[0]
    for condition in conditions[1:]:
        good = pc.and_(good, condition)
    rows.filter(pc.fill_null(good, False))
    return rows.num_rows - int(good.true_count)


def main() -> None:
    """Print [seconds by hand, seconds by ours, [bad rows by hand, by ours]]."""
    source = open_source(_endpoint(json.loads(sys.argv[1])), {})
    stream = StreamSpec(name=_STREAM, target="raw.rules")
    shaper = Shaper(stream, source.describe(_STREAM).schema, "probe")
    checks = RowChecks([CheckSpec.model_validate(spec) for spec in CHECKS], shaper.schema, "probe")
    seconds, bad = [0.0, 0.0], [0, 0]
    for number, batch in enumerate(source.read(ReadRequest(_STREAM, mode="full"))):
        rows = shaper.apply(batch).rows
        for which in (0, 1) if number % 2 else (1, 0):
            started = time.process_time()
            bad[which] += _by_hand(rows) if which == 0 else len(checks.apply(rows)[1])
            seconds[which] += time.process_time() - started
    source.close()
    print(json.dumps([*seconds, bad]))


def _endpoint(config: dict[str, Any]) -> Any:
    from millstream_api import Endpoint

    return Endpoint(name="probe", type="postgres", config=config)


if __name__ == "__main__":
    main()
