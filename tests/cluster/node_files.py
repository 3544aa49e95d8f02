"""The configuration files of a test node's programs."""

import json
from typing import Any

from cluster.runs import Run

CLUSTER_DOMAIN = "cluster.local"

_CONTAINERD = """\
version = 2
root = "{folder}/containerd"
state = "{folder}/state"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  # Without CAP_SYS_RESOURCE, which test machines lack, every sandbox would fail at lowering its OOM score.
  restrict_oom_score_adj = true
  sandbox_image = "{pause}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
"""

# Names outside the cluster do not exist here; saying so at once is kinder than a time-out.
_COREFILE = """\
{domain}:53 in-addr.arpa:53 {{
  bind {address}
  errors
  kubernetes {domain} in-addr.arpa {{
    kubeconfig {folder}/dns.kubeconfig
    ttl 1
  }}
}}
.:53 {{
  bind {address}
  errors
  template ANY ANY {{
    rcode NXDOMAIN
  }}
}}
"""


def write(run: Run, pause_image: str) -> None:
    """Write every file below the run's folder."""
    folder, addresses = run.folder, run.addresses
    (folder / "cni").mkdir(exist_ok=True)
    (folder / "cni" / "10-pods.conflist").write_text(json.dumps(_cni(addresses.pods)))
    (folder / "containerd.toml").write_text(_CONTAINERD.format(folder=folder, pause=pause_image))
    (folder / "Corefile").write_text(_COREFILE.format(address=addresses.node, domain=CLUSTER_DOMAIN, folder=folder))
    (folder / "resolv.conf").write_text("")
    (folder / "kubelet.json").write_text(json.dumps(_kubelet(run), indent=1))
    (folder / "proxy.json").write_text(json.dumps(_proxy(run), indent=1))


def _cni(pods: str) -> dict[str, Any]:
    addresses = {"type": "host-local", "ranges": [[{"subnet": pods}]], "routes": [{"dst": "0.0.0.0/0"}]}
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True, "hairpinMode": True}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [{**bridge, "ipam": addresses}, ports]}


def _kubelet(run: Run) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{run.folder}/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{run.cgroup}",
        "failSwapOn": False,
        "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": f"{run.folder}/pki/ca.crt"}},
        "clusterDNS": [run.addresses.node],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": f"{run.folder}/resolv.conf",
        # A developer's disk is often nearly full; tests should not be evicted for it.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "maxPods": 200,
        "serializeImagePulls": False,
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
    }


def _proxy(run: Run) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clusterCIDR": run.addresses.pods,
        "hostnameOverride": "node-1",
        "clientConnection": {"kubeconfig": f"{run.folder}/proxy.kubeconfig"},
        # The kernel allows these limits to be set in the first network namespace only.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "iptables": {"minSyncPeriod": "100ms"},
    }
