"""What is measured: a kubecosm cluster, or etcd and kube-apiserver started the same way. Each gives a URL and an admin token."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

from .processes import free_port, stop_all

TOKEN, USER_TOKEN = "bench-admin-token", "bench-user-token"
USER = "bench"
AUDIT_POLICY = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n"
READY_SECONDS_MAX = 60.0


class Target(Protocol):
    """A running API server to send load to."""

    name: str
    url: str
    token: str
    started_seconds: float

    def pids(self) -> list[int]:
        """The processes whose memory and CPU count."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def write_token_file(directory: Path) -> Path:
    path = directory / "tokens.csv"
    path.write_text(f'{TOKEN},admin,admin,"system:masters"\n{USER_TOKEN},{USER},{USER},"benchers"\n')
    return path


def fetch(url: str, token: str = TOKEN, *, method: str = "GET", body: bytes | None = None, content_type: str = "application/json") -> bytes:
    """One request with the admin token; urllib.error.HTTPError for a failure status."""
    request = urllib.request.Request(url, data=body, method=method, headers={"Authorization": f"Bearer {token}"})
    if body is not None:
        request.add_header("Content-Type", content_type)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with urllib.request.urlopen(request, timeout=30, context=context) as response:
        return response.read()


class Session:
    """Requests over one kept connection, as real clients send them."""

    def __init__(self, url: str, token: str) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        parts = urllib.parse.urlsplit(url)
        self._connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, context=context, timeout=30)
        self._headers = {"Authorization": f"Bearer {token}"}

    def call(self, path: str, body: dict[str, Any] | None = None, method: str = "POST", content_type: str = "application/json") -> Any:
        """Send JSON and decode the answer; RuntimeError for a failure status."""
        payload = json.dumps(body) if body is not None else None
        self._connection.request(method, path, payload, self._headers | {"Content-Type": content_type})
        response = self._connection.getresponse()
        answer = json.loads(response.read())
        if response.status >= 400:
            raise RuntimeError(f"{method} {path} answered {response.status}: {answer.get('message')}")
        return answer


def wait_ready(url: str, token: str) -> None:
    """Until /readyz says so; TimeoutError after READY_SECONDS_MAX."""
    deadline = time.monotonic() + READY_SECONDS_MAX
    while time.monotonic() < deadline:
        try:
            fetch(f"{url}/readyz", token)
            return
        except OSError:
            time.sleep(0.02)
    raise TimeoutError(f"{url} is not ready after {READY_SECONDS_MAX:g} s")


@dataclass
class Kubecosm:
    """A cluster of its own, in a home directory of its own. `components` and `nodes` as for `kubecosm up`."""

    nodes: int = 3
    components: Sequence[str] = ()
    settings: Sequence[str] = ()
    name: str = "kubecosm"
    token: str = TOKEN
    url: str = ""
    started_seconds: float = 0.0
    home: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="kubecosm-bench-")))

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the CLI against this cluster; its output is captured, a failure raises."""
        environ = os.environ | {"KUBECOSM_HOME": str(self.home)}
        result = subprocess.run(
            [sys.executable, "-m", "kubecosm.cli", *arguments], env=environ, capture_output=True, text=True, check=False
        )
        if result.returncode:
            raise RuntimeError(f"kubecosm {' '.join(arguments)} failed: {result.stderr or result.stdout}")
        return result

    def __enter__(self) -> Self:
        tokens = write_token_file(self.home)
        arguments = ["up", "--name", "bench", "--detach", "--port", "0", "--nodes", str(self.nodes)]
        if self.components:
            arguments += ["--components", ",".join(self.components)]
        for setting in (f"apiserver.token-auth-file={tokens}", *self.settings):
            arguments += ["--set", setting]
        started = time.perf_counter()
        self.command(*arguments)
        self.started_seconds = time.perf_counter() - started
        self.url = self.status()["server"]
        return self

    def status(self) -> dict:
        return json.loads(self.command("status", "--name", "bench", "-o", "json").stdout)

    def pids(self) -> list[int]:
        status = self.status()
        pids = [c["pid"] for c in status["components"] if c.get("pid")]
        return pids + [pid for key in ("supervisorPid", "zygotePid") if (pid := status.get(key))]

    def component_pids(self) -> dict[str, int]:
        """Process id by component: apiserver, scheduler, controller, kubelet, proxy."""
        return {c["name"]: c["pid"] for c in self.status()["components"] if c.get("pid")}

    def __exit__(self, *_: object) -> None:
        try:
            self.command("delete", "--force", "--name", "bench")
        finally:
            shutil.rmtree(self.home, ignore_errors=True)


@dataclass
class Authorized(Kubecosm):
    """A cluster that is asked by a user whom RBAC lets in through a binding; priority and fairness limits him."""

    name: str = "rbac"

    def __enter__(self) -> Self:
        super().__enter__()
        group = "rbac.authorization.k8s.io"
        binding = {
            "apiVersion": f"{group}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": USER},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"apiGroup": group, "kind": "User", "name": USER}],
        }  # fmt: skip
        fetch(f"{self.url}/apis/{group}/v1/clusterrolebindings", TOKEN, method="POST", body=json.dumps(binding).encode())
        self.token = USER_TOKEN
        return self


@dataclass
class Guarded(Authorized):
    """The same, and everything is written to an audit log at level Metadata, both stages of each request."""

    name: str = "guarded"

    def __enter__(self) -> Self:
        policy = self.home / "audit-policy.yaml"
        policy.write_text(AUDIT_POLICY)
        audit = (f"apiserver.audit-policy-file={policy}", f"apiserver.audit-log-path={self.home / 'audit.log'}")
        self.settings = (*self.settings, *audit)
        return super().__enter__()


@dataclass
class Kubernetes:
    """etcd and kube-apiserver from the given paths, with the flags a small cluster has."""

    kube_apiserver: Path
    etcd: Path
    name: str = "kubernetes"
    token: str = TOKEN
    url: str = ""
    started_seconds: float = 0.0
    home: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="kubernetes-bench-")))
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __enter__(self) -> Self:
        tokens = write_token_file(self.home)
        key = self.home / "sa.key"
        subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
        client, peer, port = free_port(), free_port(), free_port()
        self.url = f"https://127.0.0.1:{port}"
        started = time.perf_counter()
        self._start([
            str(self.etcd), f"--data-dir={self.home}/etcd", f"--listen-client-urls=http://127.0.0.1:{client}",
            f"--advertise-client-urls=http://127.0.0.1:{client}", f"--listen-peer-urls=http://127.0.0.1:{peer}",
        ])  # fmt: skip
        self._start([
            str(self.kube_apiserver), f"--etcd-servers=http://127.0.0.1:{client}", f"--secure-port={port}", "--bind-address=127.0.0.1",
            f"--cert-dir={self.home}/certs", f"--token-auth-file={tokens}", f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}", "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/16", "--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount",
        ])  # fmt: skip
        wait_ready(self.url, self.token)
        self.started_seconds = time.perf_counter() - started
        return self

    def _start(self, command: list[str]) -> None:
        with open(self.home / f"{Path(command[0]).name}.log", "wb") as log:
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))

    def pids(self) -> list[int]:
        return [process.pid for process in self.processes]

    def __exit__(self, *_: object) -> None:
        stop_all(self.processes, signal.SIGTERM)
        shutil.rmtree(self.home, ignore_errors=True)
