"""The operator as a process against a real API server; the test plays the node and writes what pods would say."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from api.manifests import manifest, pipeline_spec, retention_spec, source_spec, warehouse_spec
from api.rest import Rest
from cluster.processes import ClusterError, free_port
from millstream_api import KINDS
from millstream_api.run_report import RunReport, StreamReport

Body = dict[str, Any]
ROOT = Path(__file__).parents[2]
AGENT = "millstream-operator"


T = TypeVar("T")


def eventually(question: Callable[[], T], what: str, timeout_s: float = 90.0) -> T:
    """Ask until the answer is true; a lost object is an answer too. The limit only guards against hanging."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            answer = question()
        except (ClusterError, LookupError, ValueError):
            answer = None  # type: ignore[assignment]
        if answer:
            return answer
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s for {what}"
        time.sleep(0.1)


# Replicas are forked from a process that has the operator imported, which is nearly all that a start costs.
_FORGE = multiprocessing.get_context("forkserver")
_FORGE.set_forkserver_preload(["millstream_operator.__main__", "api.live"])


def _serve(environment: dict[str, str], log: Path) -> None:
    """Be what `python -m millstream_operator` is, in a new process."""
    os.environ.clear()
    os.environ.update(environment)
    with log.open("ab") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    from millstream_operator.__main__ import main

    sys.exit(main())


@dataclass
class Process:
    """One replica of the operator."""

    name: str
    kubeconfig: Path
    namespace: str
    folder: Path
    more: dict[str, str] = field(default_factory=dict)
    port: int = 0
    metrics_port: int = 0
    process: Any = None

    def start(self, wait: bool = True) -> Process:
        self.port, self.metrics_port = free_port(), free_port()
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MILLSTREAM_")}
        environment |= {
            "KUBECONFIG": str(self.kubeconfig),
            "MILLSTREAM_RUNNER_IMAGE": "runner:test",
            "MILLSTREAM_NAMESPACES": self.namespace,
            "MILLSTREAM_PORT": str(self.port),
            "MILLSTREAM_METRICS_PORT": str(self.metrics_port),
            "MILLSTREAM_API_QPS": "200",
            "POD_NAME": self.name,
            "POD_NAMESPACE": self.namespace,
            **self.more,
        }
        log = self.folder / f"{self.name}.log"
        log.touch()
        self.process = _FORGE.Process(target=_serve, args=(environment, log), daemon=True)
        self.process.start()
        if wait:
            eventually(lambda: self.readyz() == "ok", f"{self.name} to be ready; see {self.log}")
        return self

    @property
    def log(self) -> str:
        return (self.folder / f"{self.name}.log").read_text()

    def readyz(self) -> str:
        return self._ask(self.port, "readyz")

    def healthz(self) -> str:
        return self._ask(self.port, "healthz")

    def metrics(self) -> str:
        return self._ask(self.metrics_port, "metrics")

    def kill(self) -> None:
        """SIGKILL, as a node that dies."""
        self.end(signal.SIGKILL)

    def end(self, number: int = signal.SIGTERM) -> int | None:
        """Send the signal and return the exit code, or None where it still runs after 30 s."""
        self.send(number)
        return self.ended(30)

    def send(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def ended(self, timeout_s: float) -> int | None:
        """Return the exit code, as `subprocess` writes it; None while it runs."""
        self.process.join(timeout_s)
        code: int | None = self.process.exitcode
        return code

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.is_alive()

    def _ask(self, port: int, path: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.read().decode()
        except OSError:
            return ""


@dataclass
class Cluster:
    """A namespace of the control plane, with what a user does and what a node would do in it."""

    plane: Any
    namespace: str
    folder: Path
    processes: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rest = Rest(self.plane.kubeconfig, self.namespace)

    def operator(self, name: str = "operator-0", *, wait: bool = True, **more: str) -> Process:
        process = Process(name, self.plane.kubeconfig, self.namespace, self.folder, more)
        self.processes.append(process)
        return process.start(wait)

    def apply(self, *manifests: Body) -> None:
        for item in manifests:
            self.rest.apply(_without_node(item))

    def get(self, kind: str, name: str) -> Body:
        return self.rest.get(kind, name)

    def list(self, kind: str, selector: str = "") -> list[Body]:
        return self.rest.list(kind, selector)

    def delete(self, kind: str, name: str) -> None:
        self.plane.kubectl.delete(kind, name, self.namespace, wait=False)

    def annotate(self, kind: str, name: str, text: str) -> None:
        key, _, value = text.partition("=")
        self.rest.merge(kind, name, {"metadata": {"annotations": {key: value}}})

    def secret(self, name: str, **values: str) -> None:
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values})

    def status(self, kind: str, name: str) -> Body:
        return self.get(kind, name).get("status", {})

    def condition(self, kind: str, name: str, type_: str = "Ready") -> tuple[str, str, str]:
        for item in self.status(kind, name).get("conditions", []):
            if item["type"] == type_:
                return item["status"], item["reason"], item["message"]
        return ("", "", "")

    def becomes(self, kind: str, name: str, reason: str, type_: str = "Ready") -> str:
        """Wait for a condition's reason and return its message."""
        eventually(lambda: self.condition(kind, name, type_)[1] == reason, f"{kind} {name} to be {reason}")
        return self.condition(kind, name, type_)[2]

    def phase(self, run: str, wanted: str) -> Body:
        eventually(lambda: self.status("pipelinerun", run).get("phase") == wanted, f"run {run} to be {wanted}")
        return self.status("pipelinerun", run)

    def events(self, reason: str = "", name: str = "") -> list[Body]:
        return [
            item
            for item in self.list("event")
            if reason in item["reason"]
            and name in item["involvedObject"]["name"]
            and item["source"].get("component") == AGENT
        ]

    def pod_of(self, job: str, shard: int | None = None) -> Body:
        selector = f"batch.kubernetes.io/job-name={job}"
        selector += f",batch.kubernetes.io/job-completion-index={shard}" if shard is not None else ""
        return eventually(lambda: max(self.list("pod", selector), key=_newness), f"a pod of Job {job}")

    def policy(self, name: str = "keep", **more: Any) -> None:
        self.apply(manifest("RetentionPolicy", name, retention_spec(**more)))

    def finish(self, job: str, code: int = 0, *, shard: int | None = None, **report: Any) -> None:
        """End the newest pod of a Job, or of its shard, as the kubelet would."""
        told = RunReport(exit_code=code, reason="Done", **report).fitted().decode()
        pod = self.pod_of(job, shard)["metadata"]["name"]
        times = {"startedAt": "2026-03-01T10:00:00Z", "finishedAt": "2026-03-01T10:00:05Z"}
        status = {
            "phase": "Succeeded" if code == 0 else "Failed",
            "containerStatuses": [
                {
                    "name": "runner",
                    "image": "runner:test",
                    "imageID": "",
                    "ready": False,
                    "restartCount": 0,
                    "state": {"terminated": {"exitCode": code, "reason": "Completed", "message": told, **times}},
                }
            ],
        }
        self.rest.merge("pod", pod, {"status": status}, "status")

    def probe_job(self, kind: str, name: str) -> str:
        uid = self.get(kind, name)["metadata"]["uid"]
        selector = f"millstream.dev/owner-uid={uid}"
        jobs = eventually(
            lambda: [job for job in self.list("job", selector) if "completionTime" not in job.get("status", {})],
            f"a probe of {name}",
        )
        return str(jobs[0]["metadata"]["name"])

    def answer_probe(self, kind: str, name: str, code: int = 0, **report: Any) -> None:
        self.finish(self.probe_job(kind, name), code, **report)

    def ready_endpoints(self) -> None:
        """Make a DataSource `files` and a Warehouse `dw`, and let their probes succeed."""
        self.secret("dw-login", user="loader", password="first")
        self.apply(manifest("DataSource", "files", source_spec()), manifest("Warehouse", "dw", warehouse_spec()))
        self.answer_probe("datasource", "files")
        self.answer_probe("warehouse", "dw", server_version="17.2", metadata_version=1)
        self.becomes("datasource", "files", "ProbeSucceeded")
        self.becomes("warehouse", "dw", "ProbeSucceeded")

    def pipeline(self, name: str = "flights", **more: Any) -> None:
        self.apply(manifest("Pipeline", name, pipeline_spec(**more)))

    def run(self, name: str, pipeline: str = "flights", **more: Any) -> None:
        self.apply(manifest("PipelineRun", name, {"pipelineRef": {"name": pipeline}, **more}))

    def none_left(self, kind: str, selector: str = "") -> None:
        eventually(lambda: not self.list(kind, selector), f"every {kind} to go")

    def fire(self, cronjob: str, name: str) -> None:
        """Do what the CronJob controller does when a run is due."""
        self.plane.kubectl("create", "job", name, f"--from=cronjob/{cronjob}", f"--namespace={self.namespace}")


def _newness(pod: Body) -> tuple[bool, str]:
    return pod["status"].get("phase") == "Pending", pod["metadata"]["creationTimestamp"]


def loaded(rows: int, **more: Any) -> Body:
    """Return what a runner reports after loading rows."""
    totals = StreamReport(name="", read=rows, loaded=rows)
    return {"message": f"{rows} rows", "totals": totals, "checks_run": 2, "checks_passed": 2, **more}


def _without_node(item: Body) -> Body:
    """Its pods wait for a node that never comes: the session's real node must not speak where the test does."""
    if item["kind"] not in ("DataSource", "Warehouse", "Pipeline", "RetentionPolicy"):
        return item
    pod = {"nodeSelector": {"millstream.dev/none": "none"}, **item["spec"].get("pod", {})}
    return {**item, "spec": {**item["spec"], "pod": pod}}


def install_crds(plane: Any) -> None:
    plane.kubectl("apply", "--server-side", "--force-conflicts", f"--filename={ROOT / 'crds'}")
    for kind in KINDS:
        plane.kubectl.wait("crd", f"{kind.plural}.millstream.dev", "condition=Established")
