"""One object as it is kept and served: encoded bytes with its resourceVersion in place, decoded only when somebody must look inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import orjson

from kubecosm.api.resources import Object

REVISION_MARK = b'"resourceVersion":"'
"""Stored values carry it right after metadata.uid, before anything a client may word freely; see rest.objectmeta."""


MANAGED_FIELDS = b'"managedFields":[{'
"""Stored values carry them, if at all, right after the resourceVersion; see rest.objectmeta."""
_AFTER_MANAGED_FIELDS = b'}],"creationTimestamp":"'
"""What ends them. No text in them can: a quote within it has a backslash before it, and after the one that ends it stands no letter."""

class Attributes(NamedTuple):
    """What selectors look at."""

    labels: dict[str, str]
    fields: dict[str, str]


AttributesOf = Callable[[Object], Attributes]


def with_revision(value: bytes, revision: int) -> bytes:
    """The bytes of an object with metadata.resourceVersion set (whatever it was)."""
    start = value.index(REVISION_MARK) + len(REVISION_MARK)
    end = value.index(b'"', start)
    return b"%b%d%b" % (value[:start], revision, value[end:])


def without_managed_fields(data: bytes) -> bytes:
    """The bytes of an object without metadata.managedFields: for who would only throw them away, a third of a pod to decode."""
    mark = data.find(REVISION_MARK)
    start = data.find(b'"', mark + len(REVISION_MARK)) + 2
    if mark < 0 or not data.startswith(MANAGED_FIELDS, start):
        return data if b'"managedFields"' not in data else _decoded_without(data)
    end = data.find(_AFTER_MANAGED_FIELDS, start)
    if end < 0:
        return _decoded_without(data)
    return data[:start] + data[end + 3 :]


def _decoded_without(data: bytes) -> bytes:
    obj = orjson.loads(data)
    obj["metadata"].pop("managedFields", None)
    return orjson.dumps(obj)


class Entry:
    """One version of one object. `data` is JSON; `key` is `namespace/name`, or `name` for cluster-scoped objects."""

    __slots__ = ("_attributes", "data", "key", "revision")

    def __init__(self, key: str, data: bytes, revision: int) -> None:
        self.key = key
        self.data = data
        self.revision = revision
        self._attributes: Attributes | None = None

    @property
    def namespace(self) -> str:
        return self.key.partition("/")[0] if "/" in self.key else ""

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    def decode(self) -> Object:
        """A fresh dict that the caller may change."""
        return cast(Object, orjson.loads(self.data))

    def attributes(self, attributes_of: AttributesOf) -> Attributes:
        """Labels and selectable fields; decoded at the first call, then kept."""
        found = self._attributes
        if found is None:
            found = self._attributes = attributes_of(orjson.loads(self.data))
        return found
