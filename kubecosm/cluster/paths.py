"""Where a cluster lies on disk. Owns no file: it only names them.

`$KUBECOSM_HOME` (else `$XDG_STATE_HOME/kubecosm`, else `~/.local/state/kubecosm`) holds one directory a cluster, or a symbolic link to
it when the user chose another place.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kubecosm.runtime.errors import StartupError

NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?")


@dataclass(frozen=True)
class ClusterPaths:
    """The files of one cluster."""

    root: Path

    @property
    def spec(self) -> Path:
        return self.root / "cluster.json"

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def kubeconfigs(self) -> Path:
        return self.root / "kubeconfigs"

    @property
    def kubeconfig(self) -> Path:
        """The user's."""
        return self.root / "kubeconfig"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def lock(self) -> Path:
        """Held (flock) by the supervisor as long as it lives."""
        return self.root / "supervisor.lock"

    @property
    def socket(self) -> Path:
        return self.root / "supervisor.sock"

    @property
    def kubelet(self) -> Path:
        """What the kubelet keeps: the logs of containers, and which nodes are off."""
        return self.root / "kubelet"

    @property
    def powers(self) -> Path:
        return self.kubelet / "power.json"

    def log_of(self, component: str) -> Path:
        return self.logs / f"{component}.log"

    def cert(self, name: str) -> Path:
        return self.pki / f"{name}.crt"

    def key(self, name: str) -> Path:
        return self.pki / f"{name}.key"

    def component_kubeconfig(self, identity: str) -> Path:
        return self.kubeconfigs / f"{identity}.kubeconfig"


def home(environ: Mapping[str, str] = os.environ) -> Path:
    """The directory of all clusters."""
    if chosen := environ.get("KUBECOSM_HOME"):
        return Path(chosen)
    if state := environ.get("XDG_STATE_HOME"):
        return Path(state) / "kubecosm"
    return Path.home() / ".local" / "state" / "kubecosm"


def check_name(name: str) -> str:
    """`name`, if it can name a cluster; StartupError otherwise."""
    if not NAME.fullmatch(name):
        raise StartupError(f"invalid cluster name {name!r}: use lower-case letters, digits and dashes, at most 42 characters")
    return name


def cluster_paths(name: str, environ: Mapping[str, str] = os.environ) -> ClusterPaths:
    """The paths of the cluster called `name` (which need not exist), its symbolic link followed."""
    return ClusterPaths((home(environ) / check_name(name)).resolve())


def cluster_names(environ: Mapping[str, str] = os.environ) -> list[str]:
    """The names of all clusters in the home directory, sorted."""
    try:
        return sorted(entry.name for entry in home(environ).iterdir() if (entry / "cluster.json").is_file())
    except FileNotFoundError:
        return []
