"""How `--controllers` may spell a controller: its name, its name without `-controller`, or the one it had before Kubernetes 1.28.

kubeadm and many a guide still write the old ones. Names of controllers that Kubernetes has and this manager has not are taken, too, so
that a command line written for the real one works.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kubecosm.runtime.errors import StartupError

OLD_NAMES = {
    "bootstrap-signer-controller": "bootstrapsigner",
    "certificatesigningrequest-approving-controller": "csrapproving",
    "certificatesigningrequest-cleaner-controller": "csrcleaner",
    "certificatesigningrequest-signing-controller": "csrsigning",
    "endpoints-controller": "endpoint",
    "endpointslice-mirroring-controller": "endpointslicemirroring",
    "garbage-collector-controller": "garbagecollector",
    "horizontal-pod-autoscaler-controller": "horizontalpodautoscaling",
    "legacy-serviceaccount-token-cleaner-controller": "legacy-service-account-token-cleaner",
    "node-ipam-controller": "nodeipam",
    "node-lifecycle-controller": "nodelifecycle",
    "persistentvolume-attach-detach-controller": "attachdetach",
    "persistentvolume-protection-controller": "pv-protection",
    "pod-garbage-collector-controller": "podgc",
    "resourceclaim-controller": "resource-claim-controller",
    "root-ca-certificate-publisher-controller": "root-ca-cert-publisher",
    "token-cleaner-controller": "tokencleaner",
}
"""Where it was more than the name without `-controller`."""
ELSEWHERE = frozenset((
    "cloud-node-lifecycle-controller", "cloud-node-lifecycle", "kube-apiserver-serving-clustertrustbundle-publisher-controller",
    "node-route-controller", "route", "persistentvolumeclaim-protection-controller", "pvc-protection",
    "podcertificaterequest-cleaner-controller", "selinux-warning-controller", "service-lb-controller", "service",
    "storage-version-migrator-controller", "storageversion-garbage-collector-controller", "storage-version-gc",
    "validatingadmissionpolicy-status-controller", "validatingadmissionpolicy-status",
))  # fmt: skip
"""Names that Kubernetes knows and nothing of ours answers to."""


def spellings(name: str) -> tuple[str, ...]:
    """All that `--controllers` may call it."""
    old = OLD_NAMES.get(name)
    return (name, name.removesuffix("-controller"), *((old,) if old else ()))


def is_enabled(name: str, chosen: Sequence[str], *, on_by_default: bool = True) -> bool:
    """Whether `--controllers` turns a controller on: its own name decides before `*` does."""
    if any(spelling in chosen for spelling in spellings(name)):
        return True
    if any(f"-{spelling}" in chosen for spelling in spellings(name)):
        return False
    return on_by_default and "*" in chosen


def check_names(chosen: Iterable[str], names: Sequence[str]) -> None:
    """StartupError if a name of `--controllers` is neither of `names` nor one of Kubernetes'."""
    known = {"*", *ELSEWHERE, *(spelling for name in names for spelling in spellings(name))}
    for name in (text.removeprefix("-") for text in chosen):
        if name not in known:
            raise StartupError(f'"{name}" is not in the list of known controllers; --controllers takes: *, {", ".join(names)}')
