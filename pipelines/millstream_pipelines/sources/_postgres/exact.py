"""From what the driver hands over to what a batch stores, without losing a value.

The driver adds the distance between PostgreSQL's epoch and Unix's without looking for overflow: `infinity`, and
timestamps behind the year 294246, come out as times before any that PostgreSQL has. They are found by that. A column
that holds such a value, a `24:00:00`, or a numeric NaN goes as text in that batch: nothing is changed, and the cast
to the target's type decides about the one row.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from millstream_pipelines.schema import Column

_EPOCH_US = 946_684_800_000_000  # 2000-01-01 in µs since 1970
_EPOCH_DAYS = 10_957
_EARLIEST_US = -211_000_000_000_000_000  # 4714 BC, where PostgreSQL's timestamps and dates begin
_EARLIEST_DAY = -2_450_000
_MIDNIGHT_US = 86_400_000_000


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
        return _dates(array)
    if pa.types.is_time(target) and (pc.max(array.view(pa.int64())).as_py() or 0) >= _MIDNIGHT_US:
        at_midnight = pc.equal(array.view(pa.int64()), _MIDNIGHT_US)
        return pc.if_else(at_midnight, "24:00:00", _blanked(array, at_midnight).cast(pa.string()))
    return array if array.type == target else pc.cast(array, target)


def _timestamps(array: Any, target: Any) -> Any:
    numbers = array.view(pa.int64())
    lowest = pc.min(numbers).as_py()
    if lowest is None or lowest >= _EARLIEST_US:
        return array
    wrapped = pc.less(numbers, _EARLIEST_US)
    text = _blanked(array, wrapped).cast(pa.string())
    zone = "+00" if target.tz else ""
    return _spelled(text, numbers, wrapped, _EPOCH_US, 64, lambda value: _far_timestamp(value) + zone)


def _dates(array: Any) -> Any:
    numbers = array.view(pa.int32())
    lowest = pc.min(numbers).as_py()
    if lowest is None or lowest >= _EARLIEST_DAY:
        return array
    wrapped = pc.less(numbers, _EARLIEST_DAY)
    text = _blanked(array, wrapped).cast(pa.string())
    return _spelled(text, numbers, wrapped, _EPOCH_DAYS, 32, lambda days: _far_timestamp(days * _MIDNIGHT_US)[:-16])


def _blanked(array: Any, where: Any) -> Any:
    return pc.if_else(where, pa.scalar(None, array.type), array)


def _spelled(text: Any, numbers: Any, wrapped: Any, epoch: int, bits: int, far: Any) -> Any:
    """Put the values that wrapped around back in as PostgreSQL spells them."""
    top, size = 2 ** (bits - 1), 2**bits
    words = []
    for number in pc.filter(numbers, wrapped).to_pylist():
        value = (number - epoch + top) % size - top  # as the server sent it: counted from 2000
        words.append("infinity" if value == top - 1 else "-infinity" if value == -top else far(value))
    return pc.replace_with_mask(text, pc.fill_null(wrapped, False), pa.array(words, pa.string()))


def _far_timestamp(value: int) -> str:
    """Return µs since 2000 as a date and time; Python's calendar ends at 9999, and repeats itself every 400 years."""
    from datetime import datetime, timedelta

    cycles, rest = divmod(value, 146_097 * _MIDNIGHT_US)
    moment = datetime(2000, 1, 1) + timedelta(microseconds=rest)
    return f"{moment.year + 400 * cycles}-{moment:%m-%d %H:%M:%S.%f}"


__all__ = ["exact"]
