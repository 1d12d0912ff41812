"""Audit events as JSON, put together from pieces: what many requests have in common is encoded once.

An event has some thirty keys, of which a handful differ from one request to the next. Joining prepared pieces takes a fifth of the time
that encoding a dictionary takes. Keys come in the order of Kubernetes' type (audit.k8s.io/v1 Event).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from ..authn.user import User
from ..http.info import PathInfo

TARGETS_REMEMBERED_MAX = 4096
STATUS_CODES_REMEMBERED_MAX = 128
SECOND = timedelta(seconds=1)


def document(value: Any) -> bytes:
    """JSON of anything. Bytes that were no UTF-8 in the request come as U+FFFD, as in Go."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return orjson.dumps(_clean(value))


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, list | tuple) else value


def user_info(user: User) -> bytes:
    info: dict[str, Any] = {"username": user.name}
    if user.uid:
        info["uid"] = user.uid
    if user.groups:
        info["groups"] = user.groups
    if user.extra:
        info["extra"] = user.extra
    return document(info)


def origin(addresses: Sequence[str], agent: str | None) -> bytes:
    """Where a request came from, and the program that sent it."""
    told = b',"sourceIPs":' + document(addresses)
    return told + b',"userAgent":' + document(agent) if agent else told


class TargetParts(NamedTuple):
    """An objectRef, but for what follows each part: name and uid, resourceVersion, nothing."""

    begin: bytes
    version: bytes
    end: bytes


@lru_cache(TARGETS_REMEMBERED_MAX)
def target_parts(group: str, version: str, namespace: str, resource: str, subresource: str) -> TargetParts:
    begin = b',"objectRef":{"resource":' + document(resource)
    if namespace:
        begin += b',"namespace":' + document(namespace)
    api = b',"apiGroup":' + document(group) if group else b""
    return TargetParts(
        begin, api + b',"apiVersion":' + document(version), (b',"subresource":' + document(subresource) if subresource else b"") + b"}"
    )


def reference(info: PathInfo, name: str, namespace: str = "", uid: str = "", resource_version: str = "") -> bytes:
    """The objectRef of a request: what its path says, and what its object adds."""
    parts = target_parts(info.group, info.version, info.namespace or namespace, info.resource, info.subresource)
    found = parts.begin
    if name:
        found += b',"name":' + document(name)
    if uid:
        found += b',"uid":' + document(uid)
    if resource_version:
        return b'%b%b,"resourceVersion":%b%b' % (found, parts.version, document(resource_version), parts.end)
    return found + parts.version + parts.end


@lru_cache(STATUS_CODES_REMEMBERED_MAX)
def plain_status(code: int) -> bytes:
    """The responseStatus of an answer that is no Status."""
    return b',"responseStatus":{"metadata":{},"code":%d}' % code


class Stamps:
    """metav1.MicroTime of moments that follow each other: all but the microseconds is formatted once a second."""

    def __init__(self) -> None:
        self._begin = self._end = datetime.min.replace(tzinfo=UTC)
        self._second = b""

    def of(self, moment: datetime) -> bytes:
        """`moment` is aware, in UTC. In quotes."""
        if not self._begin <= moment < self._end:
            self._begin = moment.replace(microsecond=0)
            self._end = self._begin + SECOND
            self._second = self._begin.strftime('"%Y-%m-%dT%H:%M:%S.').encode()
        return b'%b%06dZ"' % (self._second, moment.microsecond)
