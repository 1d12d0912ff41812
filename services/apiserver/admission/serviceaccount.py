"""ServiceAccount: every pod runs as one, and finds its token, the cluster's CA and its namespace mounted where clients look for them.

Imitates plugin/pkg/admission/serviceaccount.
"""

from __future__ import annotations

import random

from kubecosm.api.names import ANNOTATION_CONFIG_MIRROR, CONFIGMAP_ROOT_CA, SERVICE_ACCOUNT_MOUNT
from kubecosm.api.podreferences import named_by_pod
from kubecosm.api.resources import PODS, Object, Resource

from ..cache.resource import ResourceCache
from ..rest.objectmeta import SUFFIX_LENGTH, SUFFIX_LETTERS
from .chain import CREATE, UPDATE, Attributes, Plugin
from .mountable import ephemeral_complaint, is_enforced, pod_complaint
from .refusal import refuse

DEFAULT_ACCOUNT = "default"
EPHEMERAL = "ephemeralcontainers"
VOLUME_PREFIX = "kube-api-access-"
TOKEN_SECONDS = 3607
"""An hour and seven seconds: the kubelet renews it in time, and the odd number tells it apart in audits."""
FILE_MODE = 0o644


class ServiceAccountPlugin(Plugin):
    name = "ServiceAccount"
    operations = (CREATE, UPDATE)

    def __init__(self, accounts: ResourceCache, rng: random.Random, extra_config_maps: tuple[tuple[str, str], ...] = ()) -> None:
        """`extra_config_maps`: (ConfigMap, key) pairs that the token volume projects besides the cluster's CA."""
        self._accounts = accounts
        self._rng = rng
        self._extra = extra_config_maps

    def handles(self, resource: Resource, subresource: str) -> bool:
        return resource == PODS and subresource in ("", EPHEMERAL)

    def admit(self, attributes: Attributes) -> None:
        if attributes.operation != CREATE:
            return None
        pod = attributes.obj
        assert pod is not None
        spec = pod["spec"]
        if ANNOTATION_CONFIG_MIRROR in (pod["metadata"].get("annotations") or {}):
            return _check_mirror(attributes, pod)
        name = spec.get("serviceAccountName") or DEFAULT_ACCOUNT
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        account = self._account(attributes, name)
        if _automounts(spec, account):
            self._mount(spec)
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = [dict(reference) for reference in account["imagePullSecrets"]]
        return None

    def validate(self, attributes: Attributes) -> None:
        """Refuse pods that have no account, or take secrets that it does not let them have."""
        pod = attributes.obj
        assert pod is not None
        spec, is_new = pod["spec"], attributes.operation == CREATE
        if is_new and ANNOTATION_CONFIG_MIRROR in (pod["metadata"].get("annotations") or {}):
            return _check_mirror(attributes, pod)
        if not is_new and attributes.subresource != EPHEMERAL:
            return None
        name = spec.get("serviceAccountName", "")
        if not name:
            raise refuse(attributes, f"no service account specified for pod {attributes.namespace}/{attributes.name}")
        account = self._account(attributes, name)
        if is_enforced(account):
            complaint = pod_complaint(spec, account) if is_new else ephemeral_complaint(spec, account)
            if complaint:
                raise refuse(attributes, complaint)
        return None

    def _account(self, attributes: Attributes, name: str) -> Object:
        entry = self._accounts.get(f"{attributes.namespace}/{name}")
        if entry is None:
            why = f'error looking up service account {attributes.namespace}/{name}: serviceaccount "{name}" not found'
            raise refuse(attributes, why)
        return entry.decode()

    def _mount(self, spec: Object) -> None:
        containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
        missing = [c for c in containers if not any(m.get("mountPath") == SERVICE_ACCOUNT_MOUNT for m in c.get("volumeMounts") or ())]
        if not missing:
            return
        volumes = spec.get("volumes") or []
        volume = next((v["name"] for v in volumes if v["name"].startswith(VOLUME_PREFIX) and _is_token_volume(v)), "")
        if not volume:
            volume = VOLUME_PREFIX + "".join(self._rng.choices(SUFFIX_LETTERS, k=SUFFIX_LENGTH))
            spec["volumes"] = [*volumes, {"name": volume, "projected": self._projection()}]
        for container in missing:
            mount = {"name": volume, "readOnly": True, "mountPath": SERVICE_ACCOUNT_MOUNT}
            container["volumeMounts"] = [*(container.get("volumeMounts") or ()), mount]

    def _projection(self) -> Object:
        field = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
        sources: list[Object] = [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": CONFIGMAP_ROOT_CA, "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [field]}},
        ]
        sources += [{"configMap": {"name": name, "items": [{"key": key, "path": key}]}} for name, key in self._extra]
        return {"sources": sources, "defaultMode": FILE_MODE}


def _is_token_volume(volume: Object) -> bool:
    return any("serviceAccountToken" in source for source in (volume.get("projected") or {}).get("sources") or ())


def _automounts(spec: Object, account: Object) -> bool:
    wanted = spec.get("automountServiceAccountToken")
    if wanted is None:
        wanted = account.get("automountServiceAccountToken")
    return wanted is None or bool(wanted)


def _check_mirror(attributes: Attributes, pod: Object) -> None:
    spec = pod["spec"]
    if spec.get("serviceAccountName"):
        raise refuse(attributes, "a mirror pod may not reference service accounts")
    if any(resource == "secrets" for resource, _ in named_by_pod(pod)):
        raise refuse(attributes, "a mirror pod may not reference secrets")
    if any(_is_token_volume(volume) for volume in spec.get("volumes") or ()):
        raise refuse(attributes, "a mirror pod may not use ServiceAccountToken volume projections")
