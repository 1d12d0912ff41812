"""Objects through a kind's strategy as the store takes them, without a server."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Mapping
from functools import cache
from typing import Any

from kubecosm.api.field import FieldError
from kubecosm.api.resources import Object, Resource, builtin
from kubecosm.api.schema import decode
from kubecosm.services.apiserver.registry import kinds as _registered  # noqa: F401
from kubecosm.services.apiserver.registry.meta import check_meta, check_meta_update
from kubecosm.services.apiserver.registry.strategy import Settings, Strategy, strategy_for

SETTINGS = Settings(service_cluster_ip_range="10.96.0.0/16")
CREATED = "2026-01-01T00:00:00Z"
LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an "
    "alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
NAME_PART = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
    "(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
"""What is said of names that are none."""


class Refused(Exception):
    """The causes, each as the message of a Status shows it."""

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__("; ".join(map(str, errors)))
        self.causes = [str(error) for error in errors]


@cache
def strategy(resource: Resource, subresource: str = "") -> Strategy:
    found = strategy_for(resource, subresource)
    found.start(SETTINGS, random.Random(1), [])
    return found


def resource_of(api_version: str, plural: str) -> Resource:
    group, _, version = api_version.rpartition("/")
    return builtin(group, version, plural)


def created(resource: Resource, obj: Mapping[str, Any]) -> Object:
    """The object as it would be stored. Raises Refused."""
    kind = strategy(resource)
    new = _decoded(resource, obj)
    kind.default(new)
    meta = new["metadata"]
    meta |= {"uid": "1", "creationTimestamp": CREATED}
    if resource.namespaced:
        meta["namespace"] = "default"
    finish = kind.begin_create(new, dry_run=False)
    errors: list[FieldError] = []
    try:
        kind.prepare_for_create(new)
        check_meta(meta, namespaced=resource.namespaced, name_check=kind.validate_name, errors=errors)
        errors += kind.validate(new)
    finally:
        finish(not errors)
    if errors:
        raise Refused(errors)
    kind.canonicalize(new)
    meta["resourceVersion"] = "1"
    return new


def updated(resource: Resource, old: Object, change: Mapping[str, Any], subresource: str = "") -> Object:
    """A stored object after a PUT of itself with `change` merged in (None removes). Raises Refused."""
    kind = strategy(resource, subresource)
    new = _decoded(resource, _merged(old, change))
    kind.default(new)
    before = copy.deepcopy(old)
    finish = kind.begin_update(new, before, dry_run=False)
    errors: list[FieldError] = []
    try:
        if "generation" in before["metadata"]:
            new["metadata"]["generation"] = before["metadata"]["generation"]
        kind.prepare_for_update(new, before)
        check_meta_update(new["metadata"], before["metadata"], errors)
        errors += kind.validate_update(new, before)
    finally:
        finish(not errors)
    assert before == old, "a strategy changed what is stored"
    if errors:
        raise Refused(errors)
    kind.canonicalize(new)
    return new


def causes(resource: Resource, obj: Mapping[str, Any]) -> list[str]:
    """Why the object is refused, in order; none if it is taken."""
    try:
        created(resource, obj)
    except Refused as refused:
        return refused.causes
    return []


def update_causes(resource: Resource, old: Object, change: Mapping[str, Any], subresource: str = "") -> list[str]:
    try:
        updated(resource, old, change, subresource)
    except Refused as refused:
        return refused.causes
    return []


def _decoded(resource: Resource, obj: Mapping[str, Any]) -> Object:
    body = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": "x"}, **obj}
    return decode(resource, json.dumps(body).encode(), "application/json", "Strict")[0]


def _merged(value: Any, change: Any) -> Any:
    if not isinstance(change, Mapping) or not isinstance(value, Mapping):
        return copy.deepcopy(change)
    kept = {name: copy.deepcopy(part) for name, part in value.items() if name not in change}
    return kept | {name: _merged(value.get(name), part) for name, part in change.items() if part is not None}
