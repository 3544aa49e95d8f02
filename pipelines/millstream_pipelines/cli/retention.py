"""`millstream retention plan|run|restore|query|receipts|abandon`: the life cycle of tables from the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from pydantic import ValidationError

from millstream_api import RetentionOptions, RunReport
from millstream_api.retention_options import Restore
from millstream_pipelines.cli.output import log, print_json, size, table
from millstream_pipelines.cli.places import reachable
from millstream_pipelines.cli.run import worst_of
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.manifests import Planned, plan_policy, read_catalog

_PLAN = ("table", "step", "partition", "from", "to", "size", "why", "blocked by")
_RECEIPTS = ("table", "reason", "condition", "live", "detached", "quarantine", "archived", "begun", "done")
_TABLES = ("table", "outcome", "live", "detached", "archived", "dropped", "oldest", "horizon", "archive", "freed")


def command(arguments: argparse.Namespace) -> int:
    """Do one action for the chosen policies."""
    catalog = read_catalog(arguments.filename)
    planned = [plan_policy(catalog, item) for item in catalog.chosen("RetentionPolicy", arguments.policy)]
    if len(planned) > 1 and getattr(arguments, "table", None):  # one table has one policy
        names = ", ".join(item.plan.name for item in planned)
        raise ConfigurationError(f"there are several policies ({names}): say which with --policy")
    with reachable(planned) as ready:
        if arguments.action == "query":
            return _queried(ready[0], arguments)
        if arguments.action == "receipts":
            return _receipts(ready, arguments)
        reports = {item.plan.name: _carried_out(item, arguments) for item in ready}
    if arguments.json:
        print_json({"version": 1, "policies": {name: report.to_json() for name, report in reports.items()}})
    for name, report in reports.items():
        if not arguments.json:
            _tell(name, report)
        if report.exit_code:
            log(f"error: {report.message}")
    return worst_of({report.exit_code for report in reports.values()})


def _queried(planned: Planned, arguments: argparse.Namespace) -> int:
    from millstream_pipelines.retention.query import MOST_ROWS, query
    from millstream_pipelines.retention.request import RetentionRequest

    request = RetentionRequest(planned.plan, planned.secrets, f"{planned.plan.name}-query")
    answer = query(request, arguments.table, arguments.start, arguments.end, arguments.sql)
    if arguments.json:
        print_json({"version": 1, "columns": answer.names, "rows": answer.rows, "cut": answer.is_cut})
    else:
        print(table(answer.names, answer.rows))
    if answer.is_cut:
        log(f"the answer was cut at {MOST_ROWS} rows; narrow it, or restore the range with --into")
    return 0


def _receipts(planned: Sequence[Planned], arguments: argparse.Namespace) -> int:
    from millstream_pipelines.retention.receipts import receipts
    from millstream_pipelines.retention.request import RetentionRequest, opened, warehouse_config

    found = {}
    for item in planned:
        request = RetentionRequest(item.plan, item.secrets, f"{item.plan.name}-receipts")
        with opened(request, warehouse_config(request)) as ddl:
            found[item.plan.name] = [receipt.told() for receipt in receipts(ddl, request.identity)]
    if arguments.json:
        told = {name: [item.model_dump(mode="json", by_alias=True) for item in rows] for name, rows in found.items()}
        print_json({"version": 1, "policies": told})
        return 0
    for name, erasures in found.items():
        print(f"{name}: {len(erasures)} erasures")
        rows = [
            (item.table, item.reason, item.condition[:12], item.live_rows, item.detached_rows, item.quarantined_rows,
             item.archived_rows, item.begun_at, item.done_at or "not yet")
            for item in erasures
        ]  # fmt: skip
        if rows:
            print(table(_RECEIPTS, rows, "  "))
        for erasure in erasures:
            for archive in erasure.archives:
                print(f"  {erasure.reason}: {archive.archive}: {archive.rows} rows left, content {archive.old_hash} → "
                      f"{archive.new_hash}, {archive.at}")  # fmt: skip
            for unjudged in erasure.unjudged:
                print(f"  {erasure.reason}: cannot be judged: {unjudged}")
    return 0


def _carried_out(planned: Planned, arguments: argparse.Namespace) -> RunReport:
    from millstream_pipelines.retention.request import RetentionRequest
    from millstream_pipelines.retention.run import retain

    options = RetentionOptions(dry_run=arguments.action == "plan", approved=getattr(arguments, "approve", ""))
    if arguments.action == "restore":
        if not arguments.start or not arguments.end:
            raise ConfigurationError("restore needs --from and --to, such as --from 2013-01-01 --to 2013-02-01")
        wanted = {"table": arguments.table, "from": arguments.start, "to": arguments.end, "into": arguments.into}
        try:
            options = RetentionOptions(restore=Restore.model_validate(wanted))
        except ValidationError as error:
            first = error.errors()[0]
            if not first["loc"]:
                raise ConfigurationError(f"restore: {first['msg'].removeprefix('Value error, ')}") from error
            raise ConfigurationError(
                f"restore: {first['loc'][0]} is '{first['input']}'; write a table as schema.table, and a bound as a "
                "day, a time or a number, such as 2013-01-01, 2013-01-01T05:00:00Z or 100000"
            ) from error
    if arguments.action == "abandon":
        try:
            options = RetentionOptions(abandon=True, tables=arguments.table)
        except ValidationError as error:
            wrong = error.errors()[0]["input"]
            raise ConfigurationError(
                f"abandon: --table is '{wrong}'; write schema.table, in letters as SQL has them"
            ) from error
    return retain(RetentionRequest(planned.plan, planned.secrets, f"{planned.plan.name}-command", options))


def _tell(name: str, report: RunReport) -> None:
    found = report.retention
    if found is None or report.reason in ("Restored", "Abandoned"):
        print(f"{name}: {report.message}" if not report.exit_code else f"{name}: {report.reason}")
        return
    print(f"{name}: {report.message}" if not report.exit_code else f"{name}: {report.reason}")
    if found.tables:
        rows = [
            (item.name, item.outcome, item.live, item.detached, item.archived, item.dropped, item.oldest, item.horizon,
             size(item.archived_bytes), size(item.dropped_bytes))
            for item in found.tables
        ]  # fmt: skip
        print(table(_TABLES, rows, "  "))
    if found.plan:
        print(f"  next ({found.plan_count} steps{f', digest {found.digest}' if found.digest else ''}"
              f"{f', saves {found.saving} a month' if found.saving and found.bytes else ''}):")  # fmt: skip
        steps = [
            (item.table, item.step, item.partition, item.from_, item.to, size(item.bytes), item.why, item.blocked_by)
            for item in found.plan
        ]
        print(table(_PLAN, steps, "  "))


__all__ = ["command"]
