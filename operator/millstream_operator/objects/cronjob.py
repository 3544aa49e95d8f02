"""The CronJob of a scheduled Pipeline or a RetentionPolicy: runs start without the operator."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from millstream_api.pipeline import History, Schedule
from millstream_operator.objects.naming import MAX_CRONJOB_NAME, Owner, child_name, labels

# Finished Jobs the CronJob controller leaves alone beyond the history: the operator deletes what it has reported, and
# what was not reported must outlive an outage. 50 is half a day of runs every 15 minutes.
MARGIN = 50


def cronjob_name(owner: Owner) -> str:
    """Return the name, short enough for the 11 characters the CronJob controller appends."""
    return child_name(owner.name, owner.uid, limit=MAX_CRONJOB_NAME)


@dataclass(frozen=True)
class Timing:
    """When runs start, and how many finished ones are kept."""

    schedule: Schedule
    suspend: bool
    history: History = field(default_factory=History)


def cronjob(owner: Owner, timing: Timing, job_spec: dict[str, Any], annotations: dict[str, str]) -> dict[str, Any]:
    """Return the CronJob; it carries the annotations, such as the plan's name, into each Job it makes."""
    schedule, history = timing.schedule, timing.history
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
            "suspend": timing.suspend,
            "successfulJobsHistoryLimit": history.successful + MARGIN,
            "failedJobsHistoryLimit": history.failed + MARGIN,
            "jobTemplate": {
                "metadata": {"labels": template_labels, "annotations": annotations},
                "spec": job_spec,
            },
        },
    }


def suspended(live: dict[str, Any]) -> dict[str, Any]:
    """Return the living CronJob as it is, but suspended: for when its plan cannot be made anew."""
    meta = live["metadata"]
    kept = {key: meta[key] for key in ("name", "namespace", "labels", "ownerReferences") if key in meta}
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": kept, "spec": live["spec"] | {"suspend": True}}
