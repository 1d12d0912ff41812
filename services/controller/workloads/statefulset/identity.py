"""What makes a StatefulSet's pod this pod: ordinal, name, labels, host name, claims. Pure functions.

Imitates pkg/controller/statefulset/stateful_set_utils.go.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from kubecosm.api.meta import labels_of
from kubecosm.api.names import LABEL_CONTROLLER_REVISION_HASH, LABEL_POD_INDEX, LABEL_STATEFULSET_POD_NAME
from kubecosm.api.resources import STATEFULSETS, Object

from ...common.templates import pod_from_template

_POD_NAME = re.compile(r"(.*)-([0-9]+)\Z")


def ordinal_of(pod: Object) -> int:
    """The number at the end of the name; -1 if there is none."""
    match = _POD_NAME.match(pod["metadata"]["name"])
    return int(match[2]) if match else -1


def is_member(statefulset: Object, pod: Object) -> bool:
    """The pod's name is one that this StatefulSet gives."""
    match = _POD_NAME.match(pod["metadata"]["name"])
    return match is not None and match[1] == statefulset["metadata"]["name"]


def start_ordinal(statefulset: Object) -> int:
    start: int = (statefulset["spec"].get("ordinals") or {}).get("start", 0)
    return start


def replica_count(statefulset: Object) -> int:
    count = statefulset["spec"].get("replicas")
    return 1 if count is None else count


def is_in_range(statefulset: Object, ordinal: int) -> bool:
    start = start_ordinal(statefulset)
    return start <= ordinal < start + replica_count(statefulset)


def pod_name(statefulset: Object, ordinal: int) -> str:
    return f"{statefulset['metadata']['name']}-{ordinal}"


def claim_name(statefulset: Object, template: Object, ordinal: int) -> str:
    return f"{template['metadata']['name']}-{statefulset['metadata']['name']}-{ordinal}"


def revision_name_of(pod: Object) -> str:
    return labels_of(pod).get(LABEL_CONTROLLER_REVISION_HASH, "")


def claims(statefulset: Object, ordinal: int) -> list[Object]:
    """The PersistentVolumeClaims of one ordinal, one for each volumeClaimTemplate."""
    selector_labels = statefulset["spec"]["selector"].get("matchLabels") or {}
    result = []
    for template in statefulset["spec"].get("volumeClaimTemplates") or ():
        meta = template["metadata"]
        body = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {
                **{field: meta[field] for field in ("annotations", "finalizers") if meta.get(field)},
                "name": claim_name(statefulset, template, ordinal),
                "namespace": statefulset["metadata"]["namespace"],
                "labels": {**(meta.get("labels") or {}), **selector_labels},
            },
            "spec": template["spec"],
        }
        result.append(body)
    return result


def _volumes(statefulset: Object, own: Sequence[Object], ordinal: int) -> list[Object]:
    """The claims' volumes first; they take the place of template volumes of their name."""
    templates = statefulset["spec"].get("volumeClaimTemplates") or ()
    names = {template["metadata"]["name"] for template in templates}
    claimed = [
        {"name": template["metadata"]["name"], "persistentVolumeClaim": {"claimName": claim_name(statefulset, template, ordinal)}}
        for template in templates
    ]
    return [*claimed, *(volume for volume in own if volume["name"] not in names)]


def has_identity(statefulset: Object, pod: Object) -> bool:
    """The pod's labels tell its name (identityMatches)."""
    name: str = pod["metadata"]["name"]
    return labels_of(pod).get(LABEL_STATEFULSET_POD_NAME) == name


def has_storage(statefulset: Object, pod: Object) -> bool:
    """The pod has a volume for each of its claims (storageMatches)."""
    claimed = {v["name"]: (v.get("persistentVolumeClaim") or {}).get("claimName") for v in pod["spec"].get("volumes") or ()}
    templates = statefulset["spec"].get("volumeClaimTemplates") or ()
    return all(claimed.get(t["metadata"]["name"]) == claim_name(statefulset, t, ordinal_of(pod)) for t in templates)


def conformed(statefulset: Object, pod: Object) -> Object:
    """The pod with the labels and volumes it should have."""
    ordinal, spec = ordinal_of(pod), pod["spec"]
    meta = {**pod["metadata"], "labels": {**labels_of(pod), **identity_labels(statefulset, ordinal)}}
    return {**pod, "metadata": meta, "spec": {**spec, "volumes": _volumes(statefulset, spec.get("volumes") or (), ordinal)}}


def identity_labels(statefulset: Object, ordinal: int) -> dict[str, str]:
    return {LABEL_STATEFULSET_POD_NAME: pod_name(statefulset, ordinal), LABEL_POD_INDEX: str(ordinal)}


def new_pod(statefulset: Object, template: Object, revision_name: str, ordinal: int) -> Object:
    """The pod of this ordinal made from a revision's template."""
    pod = pod_from_template(template, statefulset, STATEFULSETS)
    meta, spec = pod["metadata"], pod["spec"]
    meta["name"] = pod_name(statefulset, ordinal)
    meta["labels"] |= {**identity_labels(statefulset, ordinal), LABEL_CONTROLLER_REVISION_HASH: revision_name}
    spec["hostname"] = meta["name"]
    if service := statefulset["spec"].get("serviceName"):
        spec["subdomain"] = service
    if volumes := _volumes(statefulset, spec.get("volumes") or (), ordinal):
        spec["volumes"] = volumes
    return pod
