"""Builds what programs of a container see: file system with volumes and /etc, hostname, user, network. Made when first needed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import partial
from typing import Protocol

from kubecosm.api.resources import Object
from kubecosm.runtime.clock import Clock

from ..env.environment import has_computed_paths, sub_path
from ..network.documents import install
from ..pods.spec import is_host_network
from ..shell.process import Machine, Process
from ..volumes.filesystem import Dir, File, FileSystem, Link, Node, mounted
from .container import SimContainer
from .network_access import ClusterNetwork, Resolver

OS_RELEASE = b'NAME="kubecosm"\nID=kubecosm\nPRETTY_NAME="kubecosm simulated container"\n'
HOSTS = (
    "127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback", "fe00::0\tip6-localnet", "fe00::0\tip6-mcastprefix",
    "fe00::1\tip6-allnodes", "fe00::2\tip6-allrouters",
)  # fmt: skip
PASSWD = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"


class Programs(Protocol):
    async def unknown(self, container: SimContainer, process: Process, words: list[str]) -> int: ...


class MachineBuilder:
    """One for all containers. `cluster_dns` and `cluster_domain` are the kubelet's flags."""

    def __init__(
        self, clock: Clock, rng: random.Random, resolver: Resolver, program_names: frozenset[str], *, cluster_dns: str, cluster_domain: str
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._resolver = resolver
        self._cluster_dns = cluster_dns
        self._cluster_domain = cluster_domain
        executable = File(b"", mode=0o755)
        self._bin = Dir(dict.fromkeys(program_names, executable), read_only=True)

    async def build(self, container: SimContainer, programs: Programs) -> Machine:
        pod = container.pod.pod
        volumes = await container.config.volumes()
        known = await container.config.environment() if has_computed_paths(container.spec) else {}
        fs = self._file_system(container, volumes, known)
        context = {**(pod["spec"].get("securityContext") or {}), **(container.spec.get("securityContext") or {})}
        search = search_domains(pod, self._cluster_domain)
        network = ClusterNetwork(
            self._resolver,
            container.host.network,
            source=container.pod.status.ip,
            search=search,
            hosts=_host_entries(pod, container.pod.status.ip),
        )
        return Machine(
            fs=fs, hostname=hostname(pod), clock=self._clock, rng=random.Random(self._rng.random()), network=network,
            signal_main=container.signal,
            unknown=partial(programs.unknown, container), main_command=_main_command(container), uid=container.status.uid,
            gid=context.get("runAsGroup") or 0,
        )  # fmt: skip

    def _file_system(self, container: SimContainer, volumes: Mapping[str, Node], known: Mapping[str, str]) -> FileSystem:
        pod, status = container.pod.pod, container.pod.status
        domain = search_domains(pod, self._cluster_domain)
        etc = {
            "hostname": File(f"{hostname(pod)}\n".encode()),
            "hosts": File(hosts_file(pod, status.ip, self._cluster_domain)),
            "resolv.conf": File(resolv_conf(pod, domain, self._cluster_dns)),
            "os-release": File(OS_RELEASE),
            "passwd": File(PASSWD),
        }
        root = Dir({
            "bin": self._bin, "usr": Dir({"bin": self._bin, "local": Dir({"bin": Dir()})}), "sbin": self._bin, "etc": Dir(dict(etc)),
            "tmp": Dir(mode=0o777), "root": Dir(mode=0o700), "home": Dir(), "opt": Dir(), "srv": Dir(), "proc": Dir(read_only=True),
            "sys": Dir(read_only=True),
            "dev": Dir({"null": File(), "zero": File(), "urandom": File(), "termination-log": File()}),
            "var": Dir({"log": Dir(), "run": Link("/run"), "lib": Dir(), "tmp": Dir()}),
            "run": Dir(),
        })  # fmt: skip
        fs = FileSystem(root)
        if working := container.spec.get("workingDir"):
            fs.mkdir(fs.resolve(working), parents=True)
        for mount in container.spec.get("volumeMounts") or ():
            node = volumes.get(mount["name"])
            if node is not None:
                self._mount(fs, mount, node, sub_path(mount, known))
        if documents := container.profile.document_root:
            install(documents, fs)
        root.read_only = bool((container.spec.get("securityContext") or {}).get("readOnlyRootFilesystem"))
        return fs

    def _mount(self, fs: FileSystem, mount: Object, node: Node, inside: str) -> None:
        path = fs.resolve(mount["mountPath"])
        if path.startswith("/var/run/"):
            path = path.replace("/var/run/", "/run/", 1)
        if inside:
            inner = FileSystem(node if isinstance(node, Dir) else Dir())
            if not inner.exists(inner.resolve(inside)):
                inner.mkdir(inner.resolve(inside), parents=True)
            node = inner.node(inner.resolve(inside))
        fs.graft(path, mounted(node, read_only=bool(mount.get("readOnly"))))


def hostname(pod: Object) -> str:
    """The pod's hostname: spec.hostname, else its name, cut to 63 characters; the node's for hostNetwork."""
    if is_host_network(pod):
        return str(pod["spec"].get("nodeName", ""))
    name = pod["spec"].get("hostname") or pod["metadata"]["name"]
    return str(name)[:63].rstrip("-.")


def dns_policy(pod: Object) -> str:
    """ClusterFirst is for pods with an address of their own; others ask whom their node asks."""
    policy = str(pod["spec"].get("dnsPolicy") or "ClusterFirst")
    return "Default" if policy == "ClusterFirst" and is_host_network(pod) else policy


def search_domains(pod: Object, cluster_domain: str) -> list[str]:
    """The search list of resolv.conf, by dnsPolicy and dnsConfig."""
    policy = dns_policy(pod)
    config = pod["spec"].get("dnsConfig") or {}
    namespace = pod["metadata"]["namespace"]
    domains = [] if policy in ("None", "Default") else [f"{namespace}.svc.{cluster_domain}", f"svc.{cluster_domain}", cluster_domain]
    return [*domains, *(config.get("searches") or ())]


def resolv_conf(pod: Object, domains: list[str], cluster_dns: str) -> bytes:
    """/etc/resolv.conf by dnsPolicy and dnsConfig (pkg/kubelet/network/dns)."""
    config = pod["spec"].get("dnsConfig") or {}
    is_clusters = dns_policy(pod) not in ("None", "Default")
    servers = dict.fromkeys([*((cluster_dns,) if is_clusters else ()), *(config.get("nameservers") or ())])
    options = {"ndots": "5"} if is_clusters else {}
    options |= {option["name"]: option.get("value") or "" for option in config.get("options") or ()}
    lines = [f"search {' '.join(dict.fromkeys(domains))}"] if domains else []
    lines += [f"nameserver {server}" for server in servers]
    if options:
        lines.append("options " + " ".join(f"{name}:{value}" if value else name for name, value in options.items()))
    return ("\n".join(lines) + "\n").encode()


def hosts_file(pod: Object, ip: str, cluster_domain: str) -> bytes:
    """/etc/hosts as the kubelet writes it."""
    name = hostname(pod)
    where = " (host network)" if is_host_network(pod) else ""
    lines = [f"# Kubernetes-managed hosts file{where}.", *HOSTS]
    subdomain = pod["spec"].get("subdomain")
    if subdomain:
        lines.append(f"{ip}\t{name}.{subdomain}.{pod['metadata']['namespace']}.svc.{cluster_domain}\t{name}")
    else:
        lines.append(f"{ip}\t{name}")
    if aliases := pod["spec"].get("hostAliases"):
        lines += ["", "# Entries added by HostAliases.", *("\t".join([alias["ip"], *(alias.get("hostnames") or ())]) for alias in aliases)]
    return ("\n".join(lines) + "\n").encode()


def _host_entries(pod: Object, ip: str) -> dict[str, str]:
    entries = {"localhost": ip, "127.0.0.1": ip, hostname(pod): ip}
    for alias in pod["spec"].get("hostAliases") or ():
        entries.update(dict.fromkeys(alias.get("hostnames") or (), alias["ip"]))
    return entries


def _main_command(container: SimContainer) -> tuple[str, ...]:
    spec = container.spec
    return (*(spec.get("command") or ()), *(spec.get("args") or ())) or (container.name,)
