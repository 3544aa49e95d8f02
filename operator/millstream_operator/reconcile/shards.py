"""What the shards of a run told, as one report. The shard that publishes reports the whole run; until then, sums."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from millstream_api import RunReport, StreamReport

_SEEN = ("read", "bytes_read")
_COUNTED = tuple(name for name, field in StreamReport.model_fields.items() if field.annotation is int)


def published(reports: Mapping[int, RunReport]) -> RunReport | None:
    """Return the report of the shard that published, if one did."""
    return next((report for report in reports.values() if report.published), None)


def whole(reports: Mapping[int, RunReport]) -> RunReport | None:
    """Return the report of a run whose shards all succeeded: published, or added up where that word was lost."""
    said = published(reports)
    if said is not None or not reports:
        return said
    streams: dict[str, list[StreamReport]] = {}
    for report in reports.values():
        for stream in report.streams:
            streams.setdefault(stream.name, []).append(stream)
    last = max(reports)
    update = {"streams": [_sum(parts, _COUNTED) for parts in streams.values()], "totals": _totals(reports, _COUNTED)}
    return reports[last].model_copy(update=update)


def unpublished(reports: Mapping[int, RunReport], speaker: RunReport | None) -> RunReport | None:
    """Return what is true before anything is published: rows were read, none is in a target yet.

    `speaker` is the shard whose reason and message count: the one that failed.
    """
    base = speaker or next(iter(reports.values()), None)
    return base and base.model_copy(update={"streams": [], "totals": _totals(reports, _SEEN)})


def indexes(text: str) -> list[int]:
    """Return the numbers of an index list as Kubernetes writes it, such as `0,3-5`."""
    found: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def _totals(reports: Mapping[int, RunReport], names: tuple[str, ...]) -> StreamReport | None:
    parts = [report.totals for report in reports.values() if report.totals is not None]
    return _sum(parts, names) if parts else None


def _sum(parts: Iterable[StreamReport], names: tuple[str, ...]) -> StreamReport:
    first, *rest = parts
    sums = {name: sum(getattr(part, name) for part in (first, *rest)) for name in names}
    return StreamReport(name=first.name, target=first.target, guarantee=first.guarantee, **sums)
