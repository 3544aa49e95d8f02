"""A run of a RetentionPolicy: each table by itself, so that one that fails does not stop the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from millstream_api import ExitCode, RetentionReport, RunReport, TableReport
from millstream_api.retention_report import most_telling
from millstream_pipelines.errors import MillstreamError, as_millstream
from millstream_pipelines.retention.abandoning import abandoned, sweep
from millstream_pipelines.retention.approval import Approved, digest, facts
from millstream_pipelines.retention.approvals import covered
from millstream_pipelines.retention.chosen import chosen_tables, in_order, spoken_for
from millstream_pipelines.retention.claims import release
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.planning import Planned
from millstream_pipelines.retention.receipts import receipts
from millstream_pipelines.retention.request import RetentionRequest, archive_store, moment, opened, warehouse_config
from millstream_pipelines.retention.saving import Saving
from millstream_pipelines.retention.store import ArchiveStore
from millstream_pipelines.retention.tables import TableRun
from millstream_pipelines.sizes import size as in_units

_PRIORITY = (ExitCode.RETRIABLE, ExitCode.CONFIGURATION, ExitCode.CHECKS_FAILED)
_LISTED = 50  # tables and steps in a report


def retain(request: RetentionRequest) -> RunReport:
    """Carry out a policy and report. Errors become the report's exit code, reason and message."""
    started = time.monotonic()
    try:
        report = _retained(request)
    except Exception as error:  # the edge of the engine: everything becomes a report
        failure = as_millstream(error)
        report = RunReport(exit_code=failure.exit_code, reason=failure.reason, message=str(failure))
    report.run = request.run
    report.duration_seconds = round(time.monotonic() - started, 3)
    return report


def _retained(request: RetentionRequest) -> RunReport:
    config = warehouse_config(request)
    if request.options.restore is not None:
        from millstream_pipelines.retention.restore import restore

        return restore(request, config)
    if request.options.abandon:
        with opened(request, config) as ddl:
            return abandoned(ddl, request.identity, request.options.tables)
    with opened(request, config) as ddl:
        now = moment(request, ddl)
        chosen = in_order(ddl, chosen_tables(ddl, request.policy))
        policy, store = spoken_for(ddl, request.policy, chosen), archive_store(request, ddl)
        given = (store, now, request.patience_s)
        runs = [TableRun(ddl, config, request.identity, policy, item, *given) for item in chosen]
        failures: list[MillstreamError] = []
        swept: list[str] = []
        for run in runs:
            _attempt(run, failures, run.announce)
        planned = _planned([run for run in runs if run.failure is None], failures)
        approved = _approved(request, ddl, planned)
        if request.options.dry_run:
            failures += _unreached(store)
        else:
            release(ddl, request.identity, [item.name for item in chosen])
            swept = sweep(ddl, request.identity, {item.name: item.by for item in chosen})
            for run in runs:
                if run.failure is None:
                    _attempt(run, failures, lambda run=run: run.go(approved))  # type: ignore[misc]
            planned = _planned([run for run in runs if run.failure is None], failures)
        tables = [_reported(run, failures) for run in runs]
        erasures = receipts(ddl, request.identity)[-_LISTED:]
    report = _report(request, tables_and_plan=(tables, planned), swept=swept, approved=approved, failures=failures)
    if report.retention is not None:
        report.retention.erasures = [item.told().model_copy(update={"archives": []}) for item in erasures]
    return report


def _unreached(store: ArchiveStore | None) -> list[MillstreamError]:
    """Return why the archive cannot be used: better known when a policy is applied than in its first night."""
    try:
        if store is not None:
            store.reach()
    except Exception as error:
        return [as_millstream(error)]
    return []


def _attempt(run: TableRun, failures: list[MillstreamError], action: Callable[[], None]) -> None:
    try:
        action()
    except Exception as error:
        run.failure = as_millstream(error)
        failures.append(run.failure)


def _reported(run: TableRun, failures: list[MillstreamError]) -> TableReport:
    """Return how a table stands; one that cannot be told has failed, and the others are told."""
    found: list[TableReport] = []
    if run.failure is None:
        _attempt(run, failures, lambda: found.append(run.report()))
    if not found:
        with suppress(Exception):  # told as what has failed before
            found.append(run.report())
    return found[0] if found else TableReport(name=run.chosen.name, outcome="failed", message=str(run.failure))


def _planned(runs: Sequence[TableRun], failures: list[MillstreamError]) -> list[Planned]:
    found: list[Planned] = []
    dropped: frozenset[str] = frozenset()
    for run in runs:
        run.before, own = dropped, list[Planned]()
        _attempt(run, failures, lambda run=run, own=own: own.extend(run.plan()))  # type: ignore[misc]
        found += own
        dropped |= run.drops(own)
    return found


def _approved(request: RetentionRequest, ddl: Ddl, planned: Sequence[Planned]) -> Approved:
    if request.policy.approval == "automatic":
        return None
    options = request.options
    return covered(ddl, request.identity, options.approved, planned, noting=not options.dry_run)


def _report(
    request: RetentionRequest,
    tables_and_plan: tuple[list[TableReport], list[Planned]],
    swept: list[str],
    approved: Approved,
    failures: list[MillstreamError],
) -> RunReport:
    tables, planned = tables_and_plan
    steps = [step.told() for step in planned]
    waiting = [] if approved is None else facts(planned) - approved
    size = sum(step.bytes for step in planned if not step.blocked_by)
    named = digest(planned)
    found = RetentionReport(
        digest=named, approved=not waiting, tables=tables[:_LISTED], tables_count=len(tables),
        plan=most_telling(steps, _LISTED), plan_count=len(steps), bytes=size,
        saving=Saving(request.policy.costs).spoken(size), blocked=sum(bool(step.blocked_by) for step in planned),
    )  # fmt: skip
    code, reason = ExitCode.DONE, "Succeeded"
    for candidate in _PRIORITY:
        first = next((failure for failure in failures if failure.exit_code == candidate), None)
        if first is not None:
            code, reason = candidate, first.reason
            break
    said = [*swept, *(f"{item.name}: {item.message}" for item in tables if item.message and item.outcome != "failed")]
    if waiting:
        said.append(
            f"{len(waiting)} irreversible steps wait for approval: "
            f"annotate the policy with millstream.dev/approve={named}"
        )
    if request.options.dry_run and (steps or not failures):  # a table that failed has no plan to tell
        said.insert(0, f"{len(steps)} steps planned, {in_units(size)} would leave the warehouse; nothing was changed")
    message = "; ".join([*map(str, failures), *said]) or "nothing was due"
    return RunReport(exit_code=code, reason=reason, message=message, retention=found)


__all__ = ["retain"]
