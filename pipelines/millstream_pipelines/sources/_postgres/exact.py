"""From what the driver hands over to what a batch stores, without losing a value.

The driver adds the distance between PostgreSQL's epoch and Unix's without looking for overflow: `infinity`, and
timestamps behind the year 294246, come out as times before any that PostgreSQL has. They are found by that. Infinity
becomes what `moments` says; a column with such a far timestamp, or a numeric NaN, goes as text in that batch: nothing
is changed, and the cast to the target's type decides about the one row.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from millstream_pipelines import moments
from millstream_pipelines.schema import Column

_EPOCH_DAYS = 10_957  # from 1970 to 2000
_EPOCH_US = _EPOCH_DAYS * moments.DAY_US
_EARLIEST_US = -211_000_000_000_000_000  # 4714 BC, where PostgreSQL's timestamps and dates begin
_EARLIEST_DAY = -2_450_000


def exact(array: Any, column: Column) -> Any:
    """Return the array in its column's storage type, or as text where that type cannot hold a value of it."""
    target = column.arrow().type
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    if pa.types.is_decimal(target):
        try:
            return pc.cast(array, target)
        except pa.ArrowInvalid:  # NaN
            return array
    if pa.types.is_timestamp(target):
        return _timestamps(array, target)
    if pa.types.is_date32(target):
        numbers = array.view(pa.int32())
        lowest = pc.min(numbers).as_py()
        wraps = lowest is not None and lowest < _EARLIEST_DAY
        return _infinite(numbers, 32, _EPOCH_DAYS, moments.INFINITE_DAYS).view(target) if wraps else array
    return array if array.type == target else pc.cast(array, target)


def _infinite(numbers: Any, bits: int, epoch: int, infinite: int) -> Any:
    """Put infinity, which has wrapped around, where it belongs."""
    lowest = -(2 ** (bits - 1))
    for wrapped, meant in ((lowest + epoch - 1, infinite), (lowest + epoch, -infinite)):
        numbers = pc.if_else(pc.equal(numbers, wrapped), pa.scalar(meant, numbers.type), numbers)
    return numbers


def _timestamps(array: Any, target: Any) -> Any:
    numbers = array.view(pa.int64())
    lowest = pc.min(numbers).as_py()
    if lowest is None or lowest >= _EARLIEST_US:
        return array
    numbers = _infinite(numbers, 64, _EPOCH_US, moments.INFINITE_US)
    far = pc.and_(pc.less(numbers, _EARLIEST_US), pc.not_equal(numbers, -moments.INFINITE_US))
    if not far.true_count:
        return numbers.view(target)
    text = moments.spelled(pc.if_else(far, pa.scalar(None, pa.int64()), numbers).view(target))
    zone = "+00" if target.tz else ""
    words = [_far_timestamp(number) + zone for number in pc.filter(numbers, far).to_pylist() if number is not None]
    return pc.replace_with_mask(text, pc.fill_null(far, False), pa.array(words, pa.string()))


def _far_timestamp(number: int) -> str:
    """Return a timestamp that wrapped around; Python's calendar ends at 9999, and repeats itself every 400 years."""
    from datetime import datetime, timedelta

    cycles, rest = divmod(number - _EPOCH_US + 2**64, 146_097 * moments.DAY_US)  # as the server sent it, from 2000
    moment = datetime(2000, 1, 1) + timedelta(microseconds=rest)
    return f"{moment.year + 400 * cycles}-{moment:%m-%d %H:%M:%S.%f}"


__all__ = ["exact"]
