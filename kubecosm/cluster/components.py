"""The process table: which processes a cluster consists of and the flags of each, as plain data. Nothing is started here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kubecosm.cluster import pki
from kubecosm.cluster.paths import ClusterPaths
from kubecosm.cluster.slots import NODE_POD_PREFIX
from kubecosm.cluster.spec import NODE_NAME_PREFIX, ClusterSpec

CLUSTER_DOMAIN = "cluster.local"
SERVICE_ACCOUNT_ISSUER = f"https://kubernetes.default.svc.{CLUSTER_DOMAIN}"
NODE_PORT_RANGE = "30000-32767"
ANY_PORT = "127.0.0.1:0"


@dataclass(frozen=True)
class ProcessSpec:
    """One process to be: `python -m kubecosm.services.<service>` with `flags`, logging to `log`."""

    component: str
    flags: Mapping[str, str]
    log: str
    after: tuple[str, ...] = ()
    """Components that must serve before this one starts."""

    @property
    def arguments(self) -> list[str]:
        return [f"--{flag}={value}" for flag, value in self.flags.items()]


def process_table(spec: ClusterSpec, paths: ClusterPaths) -> tuple[ProcessSpec, ...]:
    """The cluster's processes in start order."""
    return tuple(
        ProcessSpec(
            component=component,
            flags=FLAGS[component](spec, paths) | dict(spec.flags.get(component, {})),
            log=str(paths.log_of(component)),
            after=() if component == "apiserver" else ("apiserver",),
        )
        for component in spec.components
    )


def _apiserver(spec: ClusterSpec, paths: ClusterPaths) -> dict[str, str]:
    return {
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "bind-address": "127.0.0.1",
        "secure-port": str(spec.port),
        "data-dir": str(paths.data),
        "tls-cert-file": str(paths.cert(pki.APISERVER)),
        "tls-private-key-file": str(paths.key(pki.APISERVER)),
        "client-ca-file": str(paths.cert(pki.CA)),
        "requestheader-client-ca-file": str(paths.cert(pki.FRONT_PROXY_CA)),
        "requestheader-allowed-names": "front-proxy-client",
        "proxy-client-cert-file": str(paths.cert(pki.FRONT_PROXY)),
        "proxy-client-key-file": str(paths.key(pki.FRONT_PROXY)),
        "enable-bootstrap-token-auth": "true",
        "kubelet-certificate-authority": str(paths.cert(pki.CA)),
        "kubelet-client-certificate": str(paths.cert(pki.KUBELET_CLIENT)),
        "kubelet-client-key": str(paths.key(pki.KUBELET_CLIENT)),
        "service-account-key-file": str(paths.pki / f"{pki.SERVICE_ACCOUNT}.pub"),
        "service-account-signing-key-file": str(paths.key(pki.SERVICE_ACCOUNT)),
        "service-account-issuer": SERVICE_ACCOUNT_ISSUER,
        "service-cluster-ip-range": str(spec.slots.services),
        "service-node-port-range": NODE_PORT_RANGE,
        "enable-metrics-api": "true" if "kubelet" in spec.components else "false",
    }


def _scheduler(_spec: ClusterSpec, paths: ClusterPaths) -> dict[str, str]:
    return {"kubeconfig": str(paths.component_kubeconfig("scheduler")), "metrics-bind-address": ANY_PORT}


def _controller(spec: ClusterSpec, paths: ClusterPaths) -> dict[str, str]:
    return {
        "kubeconfig": str(paths.component_kubeconfig("controller")),
        "metrics-bind-address": ANY_PORT,
        "controllers": "*,bootstrap-signer-controller,token-cleaner-controller",
        "use-service-account-credentials": "true",
        "root-ca-file": str(paths.cert(pki.CA)),
        "cluster-signing-cert-file": str(paths.cert(pki.CA)),
        "cluster-signing-key-file": str(paths.key(pki.CA)),
        "service-account-private-key-file": str(paths.key(pki.SERVICE_ACCOUNT)),
        "cluster-cidr": str(spec.slots.pods),
        "node-cidr-mask-size": str(NODE_POD_PREFIX),
        "service-cluster-ip-range": str(spec.slots.services),
    }


def _kubelet(spec: ClusterSpec, paths: ClusterPaths) -> dict[str, str]:
    return {
        "kubeconfig": str(paths.component_kubeconfig("kubelet-client")),
        "nodes": str(spec.nodes),
        "node-name-prefix": NODE_NAME_PREFIX,
        "node-cidr": str(spec.slots.nodes),
        "cluster-cidr": str(spec.slots.pods),
        "cluster-dns": str(spec.slots.dns_service_ip),
        "cluster-domain": CLUSTER_DOMAIN,
        "tls-cert-file": str(paths.cert(pki.KUBELET)),
        "tls-private-key-file": str(paths.key(pki.KUBELET)),
        "client-ca-file": str(paths.cert(pki.CA)),
        "root-dir": str(paths.kubelet),
        "adopt-nodes": "true",
    }


def _proxy(spec: ClusterSpec, paths: ClusterPaths) -> dict[str, str]:
    return {
        "kubeconfig": str(paths.component_kubeconfig("proxy")),
        "metrics-bind-address": ANY_PORT,
        "service-cluster-ip-range": str(spec.slots.services),
        "load-balancer-cidr": str(spec.slots.load_balancers),
        "cluster-dns": str(spec.slots.dns_service_ip),
    }


FLAGS = {"apiserver": _apiserver, "scheduler": _scheduler, "controller": _controller, "kubelet": _kubelet, "proxy": _proxy}
"""Component → its flags, named as the real component's where one exists."""
