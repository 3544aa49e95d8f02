"""What the reference says of words that carry no description in the code. A test fails when one is missing."""

from __future__ import annotations

FAMILIES = {"sources": "Sources", "warehouses": "Warehouses", "checks": "Checks", "transforms": "Transforms"}

CONDITIONS = {
    "Ready": "the object does what its spec says; `kubectl wait --for=condition=Ready` waits for it",
    "Reconciling": "the operator is still working towards the spec",
    "Stalled": "the spec or a Secret must change first; the message names field, value and cure",
    "Reachable": "the last probe reached the source or warehouse",
    "Fresh": "the newest row is younger than `spec.freshness.maxAge`",
    "Passing": "every check of the last run passed; a backfill says nothing here",
    "Archived": "no partition waits for its archive, and every archive that was read back matched",
    "Blocked": "a hold or a dependent stands in the way of a step that is due; the message names both",
    "SchemaDrift": "the last run met changes of the source's shape; the message lists columns and what was done",
}

REASONS = {
    "InvalidSpec": "the spec is wrong; nothing is tried until it changes",
    "InvalidConfiguration": "the plug-in refuses its configuration; change `config` or the Secret",
    "SchemaChanged": "the source has columns that are new, gone or of another type",
    "SchemaUnchanged": "the last run met no change of the source's shape",
    "RunsMissed": "an event: no run was started in time; what `schedule.catchUp` makes of it",
    "SecretNotFound": "the Secret named by `secretRef` is absent",
    "Probing": "a probe is running",
    "ProbeSucceeded": "the last probe reached the other side",
    "ProbeFailed": "the last probe failed; the message says why",
    "Unreachable": "the other side is away; tried again",
    "SourceNotFound": "there is no DataSource of that name in the namespace",
    "SourceNotReady": "the DataSource is not Ready; the Pipeline waits",
    "WarehouseNotFound": "there is no Warehouse of that name in the namespace",
    "WarehouseNotReady": "the Warehouse is not Ready; the Pipeline waits",
    "PipelineNotFound": "there is no Pipeline of that name in the namespace",
    "PipelineNotReady": "the Pipeline is not Ready; the run waits",
    "Forbidden": "the operator lacks a right, or a quota is used up; tried again, since someone may grant it",
    "Suspended": "`spec.suspend` is true; no new run starts",
    "Scheduled": "the CronJob is in place",
    "OnDemand": "there is no schedule; runs start by hand",
    "Queued": "another run is active and the concurrency policy lets this one wait",
    "Running": "a run is active",
    "Succeeded": "the run is done",
    "ChecksFailed": "data failed a check of severity error, the error budget is spent, or a step left a table wrong",
    "RunFailed": "the run failed after its retries",
    "Cancelled": "the run was ended on request",
    "DeadlineExceeded": "the run took longer than `timeoutSeconds`",
    "NotChecked": "no run has checked anything yet",
    "ChecksPassed": "every check of the last run passed",
    "WithinLimit": "the newest row is young enough",
    "Stale": "the newest row is older than `spec.freshness.maxAge`",
    "Planning": "a dry run, which changes nothing, finds out what the policy would do",
    "UnsupportedWarehouse": "the Warehouse is of a type whose tables have no partitions",
    "AwaitingApproval": "the plan takes irreversible steps and waits for `millstream.dev/approve`",
    "Approved": "an event: an approved plan is carried out",
    "ApprovalRefused": "`millstream.dev/approve` names another plan than the current one; the message has its digest",
    "ApprovalWithdrawn": "an event: the approval was taken back, and the run that acted on it is ended; its work stays",
    "RestoreFailed": "an event: a restore from the policy's archives did not succeed; `status.lastRestore` says why",
    "SpecChanged": "an event: a run of an older spec was ended; the next one goes on where it stood",
    "VerificationFailed": "an archive that was read back did not match its partition; it is not dropped",
    "ArchivePending": "partitions that are due wait for their archive",
    "ArchivesVerified": "every partition that is due has an archive that was read back and matched",
    "StepsBlocked": "steps that are due wait for a hold to end or a dependent to be refreshed",
    "NothingBlocked": "nothing stands in the way of what is due",
    "PolicyNotFound": "there is no RetentionPolicy of that name in the namespace",
    "PolicyNotReady": "the RetentionPolicy's spec or Warehouse is not in order; the run waits",
}

EXIT_CODES = {
    "DONE": "done",
    "CHECKS_FAILED": "the data failed a check or broke a contract; a retry reads the same data",
    "RETRIABLE": "a retry may succeed: server away, connection lost, rate limit",
    "CONFIGURATION": "a manifest or a Secret must change; never retried",
}

SETTINGS = (
    (
        "MILLSTREAM_SECRET_<SECRET>_<KEY>",
        "command",
        "",
        "Value of a Secret's key: both names in upper case, every other sign `_`. Wins over a Secret manifest.",
    ),
    ("MILLSTREAM_HOME", "command", ".millstream", "Folder of the embedded PostgreSQL."),
    (
        "MILLSTREAM_MASK_KEY",
        "command, pod",
        "the pipeline's `namespace/name`",
        "Key of `mask: hash`. Set it to keep hashes equal across pipelines and hard to guess.",
    ),
    (
        "MILLSTREAM_BATCH_ROWS",
        "command, pod",
        "100000",
        "Most rows in a batch, and in a commit where it is less than 50 000. Small values cost speed.",
    ),
    (
        "MILLSTREAM_PATIENCE_SECONDS",
        "pod",
        "300",
        "How long a run or restore of a RetentionPolicy waits for another one that is at a table.",
    ),
    (
        "MILLSTREAM_FAILPOINT",
        "pod",
        "",
        "For tests of failures: `place:nth:action` kills, stops or fails the run there; see `docs/how-to/faults.md`.",
    ),
    ("CI", "command", "", "Any value: plain lines instead of bars, also on a terminal."),
    ("NO_COLOR", "command", "", "Any value: no colours."),
)
