"""Defaults of pods and pod templates. Imitates SetDefaults_* of pkg/apis/core/v1 and the conversions that fill aliases.

Also writes the fields that Kubernetes' encoding always shows (`resources: {}`), so that stored objects look alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubecosm.api import quantity
from kubecosm.api.resources import Object

from .images import default_pull_policy

FILE_MODE = 0o644
TOKEN_EXPIRATION_SECONDS = 3600
GRACE_PERIOD_SECONDS = 30

_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_INIT_CONTAINER_ANNOTATIONS = frozenset(
    f"pod.{stage}.kubernetes.io/init-container{what}" for stage in ("alpha", "beta") for what in ("s", "-statuses")
)


def default_pod_template(template: Object) -> None:
    """A PodTemplateSpec."""
    metadata = template.setdefault("metadata", {})
    _drop_init_container_annotations(metadata)
    default_pod_spec(template.setdefault("spec", {}), is_pod=False)


def default_pod(pod: Object) -> None:
    """A Pod: a spec, and what only real pods get (requests from limits, service links)."""
    _drop_init_container_annotations(pod["metadata"])
    spec = pod.setdefault("spec", {})
    for field in ("containers", "initContainers"):
        for container in spec.get(field) or ():
            if "resources" in container:
                _default_requests(container["resources"])
    if "enableServiceLinks" not in spec:
        spec["enableServiceLinks"] = True
    default_pod_spec(spec, is_pod=True)
    if "resources" in spec:
        _default_pod_level_requests(spec)
    pod.setdefault("status", {})


def _drop_init_container_annotations(metadata: Object) -> None:
    annotations = metadata.get("annotations")
    if annotations and not _INIT_CONTAINER_ANNOTATIONS.isdisjoint(annotations):
        metadata["annotations"] = {k: v for k, v in annotations.items() if k not in _INIT_CONTAINER_ANNOTATIONS}


def _default_requests(resources: Object) -> None:
    limits = resources.get("limits")
    if limits:
        requests = resources.get("requests")
        resources["requests"] = {**limits, **requests} if requests else dict(limits)


def _default_pod_level_requests(spec: Object) -> None:
    """defaultPodRequests: pod-level requests are the containers' sum where all say, else the pod-level limit."""
    resources = spec["resources"]
    round_up(resources)
    limits = resources.get("limits")
    if not limits:
        return
    requests = dict(resources.get("requests") or {})
    for name, limit in limits.items():
        if name not in requests:
            asked = [((c.get("resources") or {}).get("requests") or {}).get(name) for c in spec.get("containers") or ()]
            known = [quantity.Quantity.of(value) for value in asked if value is not None]
            requests[name] = str(sum(known[1:], known[0])) if known else limit
    resources["requests"] = requests


def default_pod_spec(spec: Object, *, is_pod: bool) -> None:
    """SetDefaults_PodSpec and the defaults of everything below it."""
    if not spec.get("dnsPolicy"):
        spec["dnsPolicy"] = "ClusterFirst"
    if not spec.get("restartPolicy"):
        spec["restartPolicy"] = "Always"
    if "securityContext" not in spec:
        spec["securityContext"] = {}
    if "terminationGracePeriodSeconds" not in spec:
        spec["terminationGracePeriodSeconds"] = GRACE_PERIOD_SECONDS
    if not spec.get("schedulerName"):
        spec["schedulerName"] = "default-scheduler"
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    for container in spec.get("containers") or ():
        _default_container(container)
    for container in spec.get("initContainers") or ():
        _default_container(container)
    for container in spec.get("ephemeralContainers") or ():
        _default_container(container)
    for volume in spec.get("volumes") or ():
        _default_volume(volume)
    if spec.get("hostNetwork") and is_pod:
        _default_host_ports(spec)
    if "overhead" in spec:
        spec["overhead"] = {name: round_up_quantity(value) for name, value in spec["overhead"].items()}


def _default_host_ports(spec: Object) -> None:
    for field in ("containers", "initContainers"):
        for container in spec.get(field) or ():
            for port in container.get("ports") or ():
                if not port.get("hostPort") and port.get("containerPort"):
                    port["hostPort"] = port["containerPort"]


def _default_container(container: Object) -> None:
    if not container.get("imagePullPolicy"):
        container["imagePullPolicy"] = default_pull_policy(container.get("image", ""))
    if not container.get("terminationMessagePath"):
        container["terminationMessagePath"] = "/dev/termination-log"
    if not container.get("terminationMessagePolicy"):
        container["terminationMessagePolicy"] = "File"
    if "resources" in container:
        round_up(container["resources"])
    else:
        container["resources"] = {}
    for port in container.get("ports") or ():
        if not port.get("protocol"):
            port["protocol"] = "TCP"
    for variable in container.get("env") or ():
        if "valueFrom" in variable:
            _default_field_refs(variable["valueFrom"])
    for name in _PROBES:
        if name in container:
            _default_probe(container[name])
    lifecycle = container.get("lifecycle")
    if lifecycle is not None:
        for name in ("postStart", "preStop"):
            _default_http_get(lifecycle.get(name) or {})


def round_up(resources: Object) -> None:
    """SetDefaults_ResourceList of requests and limits: quantities are rounded up to thousandths."""
    for field in ("limits", "requests"):
        amounts = resources.get(field)
        if amounts:
            for name, value in amounts.items():
                rounded = round_up_quantity(value)
                if rounded != value:
                    amounts[name] = rounded


def round_up_quantity(value: str) -> str:
    if value.endswith(("n", "u")) or "." in value or "e" in value:
        return str(quantity.parse(value).round_up(quantity.MILLI))
    return value


def _default_field_refs(source: Object) -> None:
    if "fieldRef" in source and not source["fieldRef"].get("apiVersion"):
        source["fieldRef"]["apiVersion"] = "v1"
    if "resourceFieldRef" in source:
        source["resourceFieldRef"].setdefault("divisor", "0")


def _default_probe(probe: Object) -> None:
    for field, value in (("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)):
        if not probe.get(field):
            probe[field] = value
    _default_http_get(probe)
    if "grpc" in probe and probe["grpc"].get("service") is None:  # Go writes the unset pointer as null
        probe["grpc"]["service"] = ""


def _default_http_get(handler: Object) -> None:
    get = handler.get("httpGet")
    if get is not None:
        if not get.get("path"):
            get["path"] = "/"
        if not get.get("scheme"):
            get["scheme"] = "HTTP"


def _fill(**defaults: Any) -> Callable[[Object], None]:
    """A defaulter that fills absent or empty fields; a value of None in the source counts as absent."""

    def fill(source: Object) -> None:
        for field, value in defaults.items():
            if source.get(field) in (None, ""):
                source[field] = value

    return fill


def _default_downward_api(source: Object) -> None:
    source.setdefault("defaultMode", FILE_MODE)
    _default_items(source)


def _default_items(source: Object) -> None:
    for item in source.get("items") or ():
        _default_field_refs(item)


def _default_projected(source: Object) -> None:
    source.setdefault("defaultMode", FILE_MODE)
    source.setdefault("sources", None)
    for projection in source["sources"] or ():
        if "downwardAPI" in projection:
            _default_items(projection["downwardAPI"])
        token = projection.get("serviceAccountToken")
        if token is not None and "expirationSeconds" not in token:
            token["expirationSeconds"] = TOKEN_EXPIRATION_SECONDS


def _default_ephemeral(source: Object) -> None:
    template = source.get("volumeClaimTemplate")
    if template is not None:
        template.setdefault("metadata", {})
        default_claim_spec(template.setdefault("spec", {}))


def default_claim_spec(spec: Object) -> None:
    """SetDefaults_PersistentVolumeClaimSpec."""
    if "volumeMode" not in spec:
        spec["volumeMode"] = "Filesystem"
    round_up(spec.setdefault("resources", {}))


def _default_image(source: Object) -> None:
    if not source.get("pullPolicy"):
        source["pullPolicy"] = default_pull_policy(source.get("reference", ""))


def _default_host_path(source: Object) -> None:
    source.setdefault("type", "")


def _default_mode(source: Object) -> None:
    source.setdefault("defaultMode", FILE_MODE)


def _default_azure_disk(source: Object) -> None:
    for field, value in (("cachingMode", "ReadWrite"), ("kind", "Shared"), ("fsType", "ext4"), ("readOnly", False)):
        source.setdefault(field, value)


VOLUME_SOURCES: dict[str, Callable[[Object], None]] = {
    "hostPath": _default_host_path,
    "secret": _default_mode,
    "configMap": _default_mode,
    "downwardAPI": _default_downward_api,
    "projected": _default_projected,
    "ephemeral": _default_ephemeral,
    "image": _default_image,
    "iscsi": _fill(iscsiInterface="default"),
    "rbd": _fill(pool="rbd", user="admin", keyring="/etc/ceph/keyring"),
    "azureDisk": _default_azure_disk,
    "scaleIO": _fill(storageMode="ThinProvisioned", fsType="xfs"),
}
"""Volume source → its defaulter, for the sources that have defaults."""


def _default_volume(volume: Object) -> None:
    if not volume or (len(volume) == 1 and "name" in volume):
        volume["emptyDir"] = {}
        return
    for source, fill in VOLUME_SOURCES.items():
        if source in volume:
            fill(volume[source])
