"""A certificate authority per cluster, so that clients verify the API server as they would anywhere."""

from pathlib import Path

from cluster.processes import run

_CONFIG = """
[req]
distinguished_name = dn
[dn]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always
subjectAltName = {names}
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always
"""
_DAYS = "30"


def create(folder: Path, *, server_addresses: list[str], server_names: list[str]) -> None:
    """Write ca, apiserver, kubelet-client (`.crt` + `.key`) and service-account (`.key` + `.pub`) into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [*(f"IP:{address}" for address in server_addresses), *(f"DNS:{name}" for name in server_names)]
    (folder / "openssl.cnf").write_text(_CONFIG.format(names=", ".join(names)))
    _key(folder, "ca")
    _certificate(folder, "ca", "/CN=millstream-test-ca", "ca", ["-signkey", str(folder / "ca.key")])
    for name, subject, usage in (
        ("apiserver", "/CN=kube-apiserver", "server"),
        ("kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client", "client"),
    ):
        _key(folder, name)
        signer = ["-CA", f"{folder}/ca.crt", "-CAkey", f"{folder}/ca.key", "-CAcreateserial"]
        _certificate(folder, name, subject, usage, signer)
    _key(folder, "service-account")
    public = folder / "service-account.pub"
    run(["openssl", "pkey", "-in", folder / "service-account.key", "-pubout", "-out", public], "service account key")


def _key(folder: Path, name: str) -> None:
    curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
    run(["openssl", "genpkey", *curve, "-out", folder / f"{name}.key"], f"key of {name}")


def _certificate(folder: Path, name: str, subject: str, usage: str, signer: list[str]) -> None:
    config = folder / "openssl.cnf"
    what = f"certificate of {name}"
    request = run(["openssl", "req", "-new", "-key", folder / f"{name}.key", "-subj", subject, "-config", config], what)
    extensions = ["-extfile", str(config), "-extensions", usage, "-days", _DAYS]
    run(["openssl", "x509", "-req", *signer, *extensions, "-out", folder / f"{name}.crt"], what, stdin=request)
