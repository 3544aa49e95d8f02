"""The CronJob of a scheduled Pipeline: runs start without the operator."""

from __future__ import annotations

from typing import Any

from millstream_api.meta import ANNOTATION_PLAN
from millstream_api.pipeline import PipelineSpec, Schedule
from millstream_operator.objects.naming import MAX_CRONJOB_NAME, Owner, child_name, labels

# Finished Jobs the CronJob controller leaves alone beyond the history: the operator deletes what it has reported, and
# what was not reported must outlive an outage. 50 is half a day of runs every 15 minutes.
MARGIN = 50


def cronjob_name(owner: Owner) -> str:
    """Return the name, short enough for the 11 characters the CronJob controller appends."""
    return child_name(owner.name, owner.uid, limit=MAX_CRONJOB_NAME)


def cronjob(
    owner: Owner, spec: PipelineSpec, schedule: Schedule, job_spec: dict[str, Any], plan: str
) -> dict[str, Any]:
    """Return the CronJob; it carries the plan's name into each Job it makes."""
    template_labels = dict(job_spec["template"]["metadata"]["labels"])
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {
            "name": cronjob_name(owner),
            "namespace": owner.namespace,
            "labels": labels(owner, "schedule"),
            "ownerReferences": [owner.reference()],
        },
        "spec": {
            "schedule": schedule.cron,
            "timeZone": schedule.time_zone,
            "concurrencyPolicy": schedule.concurrency_policy,
            "startingDeadlineSeconds": schedule.starting_deadline_seconds,
            "suspend": spec.suspend,
            "successfulJobsHistoryLimit": spec.history.successful + MARGIN,
            "failedJobsHistoryLimit": spec.history.failed + MARGIN,
            "jobTemplate": {
                "metadata": {"labels": template_labels, "annotations": {ANNOTATION_PLAN: plan}},
                "spec": job_spec,
            },
        },
    }


def suspended(live: dict[str, Any]) -> dict[str, Any]:
    """Return the living CronJob as it is, but suspended: for when its plan cannot be made anew."""
    meta = live["metadata"]
    kept = {key: meta[key] for key in ("name", "namespace", "labels", "ownerReferences") if key in meta}
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": kept, "spec": live["spec"] | {"suspend": True}}
