"""`kubecosm keys`: certificates and kubeconfigs for components that something else starts, such as docker-compose."""

from __future__ import annotations

from pathlib import Path

from kubecosm.cluster import kubeconfig, pki
from kubecosm.cluster.paths import ClusterPaths
from kubecosm.cluster.slots import Slots
from kubecosm.cluster.spec import ClusterSpec
from kubecosm.runtime.clock import RealClock

READABLE_BY_ALL = 0o644
ENTERABLE_BY_ALL = 0o755


def write_keys(directory: Path, server: str, *, user_server: str = "", shared: bool, nodes: tuple[str, ...] = ()) -> None:
    """Make what is missing under `directory` (pki/, kubeconfigs/, kubeconfig) for an API server reached at `server`.

    `user_server` is where the user reaches it, if elsewhere. `shared` lets every user of the machine read the files: containers run as
    many users. Each of `nodes` gets kubeconfigs/kubelet-NAME.kubeconfig, for a kubelet that hosts it alone.
    StartupError when the disk refuses.
    """
    paths = ClusterPaths(directory.resolve())
    spec = ClusterSpec(name="compose", port=0, slots=Slots(0))
    pki.ensure(paths, spec, RealClock(), nodes)
    kubeconfig.write_all(paths, spec, server=server, user_server=user_server or server, nodes=nodes)
    if shared:
        for path in (paths.root, *paths.root.rglob("*")):
            path.chmod(ENTERABLE_BY_ALL if path.is_dir() else READABLE_BY_ALL)
    print(f"keys and kubeconfigs for {server} are in {paths.root}")
