"""kubeconfig files: the user's carries its certificates inside, the components' name files."""

from __future__ import annotations

import base64
from pathlib import Path

from kubecosm.cluster import pki
from kubecosm.cluster.paths import ClusterPaths
from kubecosm.cluster.spec import ClusterSpec, write_atomically
from kubecosm.runtime.errors import startup

TEMPLATE = """\
apiVersion: v1
kind: Config
clusters:
- name: {context}
  cluster:
    server: {server}
    {ca}
users:
- name: {user}
  user:
    {cert}
    {key}
contexts:
- name: {context}
  context:
    cluster: {context}
    user: {user}
current-context: {context}
preferences: {{}}
"""


def context_name(cluster: str) -> str:
    """`kubecosm-dev` for the cluster dev."""
    return f"kubecosm-{cluster}"


def render(context: str, server: str, user: str, ca: Path, cert: Path, key: Path, *, embed: bool) -> str:
    """The text of a kubeconfig; with `embed` the PEM files' contents go into it."""

    def entry(field: str, path: Path) -> str:
        if not embed:
            return f"{field}: {path}"
        with startup(f"read {path}"):
            return f"{field}-data: {base64.b64encode(path.read_bytes()).decode()}"

    return TEMPLATE.format(
        context=context, server=server, user=user,
        ca=entry("certificate-authority", ca), cert=entry("client-certificate", cert), key=entry("client-key", key),
    )  # fmt: skip


def _still_leads_there(found: str, wanted: str) -> bool:
    """Whether a kubeconfig has the server and credentials it should have; what else its owner put in (a namespace) is his."""
    needed = [line.strip() for line in wanted.splitlines() if line.lstrip().startswith(("server:", "certificate-authority", "client-"))]
    return {line.strip() for line in found.splitlines()}.issuperset(needed)


def write_all(paths: ClusterPaths, spec: ClusterSpec, *, server: str = "", user_server: str = "", nodes: tuple[str, ...] = ()) -> None:
    """Writes the user's kubeconfig and one for each component's identity. StartupError when the disk refuses.

    `server` and `user_server` are how components and the user reach the API server if not as the spec says.
    """
    context = context_name(spec.name)
    with startup(f"create {paths.kubeconfigs}"):
        paths.kubeconfigs.mkdir(mode=0o700, exist_ok=True)
    for identity, user, _group in pki.identities(nodes):
        mine = identity == pki.ADMIN
        path = paths.kubeconfig if mine else paths.component_kubeconfig(identity)
        shown = f"{context}-admin" if mine else user
        reached_at = (user_server if mine else server) or spec.server
        text = render(context, reached_at, shown, paths.cert(pki.CA), paths.cert(identity), paths.key(identity), embed=mine)
        if not path.exists() or not _still_leads_there(path.read_text(), text):
            write_atomically(path, text.encode(), durable=False)  # derived: the next start writes it again
