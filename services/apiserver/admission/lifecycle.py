"""NamespaceLifecycle: nothing is created in a namespace that is missing or on its way out, and the system's namespaces stay.

Imitates k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle.
"""

from __future__ import annotations

from kubecosm.api import errors
from kubecosm.api.names import NAMESPACE_DEFAULT, NAMESPACE_PUBLIC, NAMESPACE_SYSTEM
from kubecosm.api.resources import NAMESPACES, Resource

from ..cache.resource import ResourceCache
from .chain import CREATE, DELETE, UPDATE, Attributes, Plugin
from .refusal import refuse

IMMORTAL = frozenset((NAMESPACE_DEFAULT, NAMESPACE_SYSTEM, NAMESPACE_PUBLIC))
_TERMINATING = b'"deletionTimestamp"'
_REVIEWS = frozenset(("localsubjectaccessreviews", "subjectaccessreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews"))


class NamespaceLifecycle(Plugin):
    name = "NamespaceLifecycle"
    operations = (CREATE, UPDATE, DELETE)

    def __init__(self, namespaces: ResourceCache) -> None:
        self._namespaces = namespaces

    def handles(self, resource: Resource, subresource: str) -> bool:
        return (resource.namespaced and resource.plural not in _REVIEWS) or resource == NAMESPACES

    def admit(self, attributes: Attributes) -> None:
        resource = attributes.resource
        if attributes.operation == DELETE:
            if resource == NAMESPACES and attributes.name in IMMORTAL:
                raise errors.forbidden(NAMESPACES, attributes.name, "this namespace may not be deleted")
            return
        if not attributes.namespace:
            return
        entry = self._namespaces.get(attributes.namespace)
        if entry is None:
            raise errors.not_found(NAMESPACES, attributes.namespace)
        if attributes.operation == CREATE and _TERMINATING in entry.data and entry.decode()["metadata"].get("deletionTimestamp"):
            raise _terminating(attributes)


def _terminating(attributes: Attributes) -> errors.Forbidden:
    namespace = attributes.namespace
    why = f"unable to create new content in namespace {namespace} because it is being terminated"
    error = refuse(attributes, why)
    cause = {"reason": "NamespaceTerminating", "message": f"namespace {namespace} is being terminated", "field": "metadata.namespace"}
    error.details = {**(error.details or {}), "causes": [cause]}
    return error
