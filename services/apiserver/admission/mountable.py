"""Which secrets the pods of a ServiceAccount may take: those it lists, if its annotation enforce-mountable-secrets says so (deprecated).

Imitates limitSecretReferences of plugin/pkg/admission/serviceaccount.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kubecosm.api.meta import annotations_of
from kubecosm.api.names import ANNOTATION_MOUNTABLE_SECRETS
from kubecosm.api.resources import Object

_TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_KINDS = {"initContainers": "init container", "containers": "container"}


def is_enforced(account: Object) -> bool:
    return annotations_of(account).get(ANNOTATION_MOUNTABLE_SECRETS, "") in _TRUE


def pod_complaint(spec: Object, account: Object) -> str:
    """What the pod takes that it may not; empty if nothing."""
    name, allowed = account["metadata"]["name"], _names(account.get("secrets"))
    why = f"is not allowed because service account {name} does not reference that"
    for volume in spec.get("volumes") or ():
        secret = (volume.get("secret") or {}).get("secretName", "") if volume.get("secret") is not None else None
        if secret is not None and secret not in allowed:
            return f'volume with secret.secretName="{secret}" {why} secret'
    for field, kind in _KINDS.items():
        if complaint := _of_containers(spec.get(field) or (), kind, allowed):
            return f"{complaint} {why} secret"
    pull = _names(account.get("imagePullSecrets"))
    for i, reference in enumerate(spec.get("imagePullSecrets") or ()):
        if reference.get("name", "") not in pull:
            return f'imagePullSecrets[{i}].name="{reference.get("name", "")}" {why} imagePullSecret'
    return ""


def ephemeral_complaint(spec: Object, account: Object) -> str:
    """The same of ephemeral containers alone."""
    complaint = _of_containers(spec.get("ephemeralContainers") or (), "ephemeral container", _names(account.get("secrets")))
    name = account["metadata"]["name"]
    return f"{complaint} is not allowed because service account {name} does not reference that secret" if complaint else ""


def _names(references: Iterable[Object] | None) -> set[str]:
    return {reference.get("name", "") for reference in references or ()}


def _of_containers(containers: Iterable[Object], kind: str, allowed: set[str]) -> str:
    for container in containers:
        for where, secret in _secrets(container):
            if secret not in allowed:
                return f'{kind} {container.get("name", "")} with {where} referencing secret.secretName="{secret}"'
    return ""


def _secrets(container: Object) -> Iterator[tuple[str, str]]:
    """(where it is referred to, name)."""
    for variable in container.get("env") or ():
        reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
        if reference is not None:
            yield f"envVar {variable.get('name', '')}", reference.get("name", "")
    for source in container.get("envFrom") or ():
        if source.get("secretRef") is not None:
            yield "envFrom", source["secretRef"].get("name", "")
