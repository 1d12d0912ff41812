"""Pods of one template have one spec, so what was found about the spec of one holds for the next: mostly that nothing is wrong with it.

Admission gives each pod a token volume with a name of its own; specs that differ only in that name are as right or wrong as each other.
"""

from __future__ import annotations

import re

import orjson

from kubecosm.api.resources import Object

SPECS_REMEMBERED_MAX = 256
SPEC_BYTES_MAX = 16_384
"""Longer ones are not remembered."""
_TOKEN_VOLUME = re.compile(rb'"kube-api-access-[a-z0-9]{5}"')
_PLACEHOLDER = b'"\0"'
"""Stands in no JSON text."""
NAMED_BY_POD = b'"ephemeral":'
"""Volumes whose claims are named after the pod: its own name matters."""


class KnownSpecs:
    """Specs that were found right, and whether they are as they will be stored."""

    def __init__(self) -> None:
        self._right: dict[bytes, bool] = {}
        self._latest: Object | None = None
        """The spec that was looked up last, if it is as it will be stored."""

    @staticmethod
    def key(spec: Object) -> bytes | None:
        """What tells a spec from others; None if it must be looked at anyway."""
        text = orjson.dumps(spec)
        if len(text) > SPEC_BYTES_MAX or NAMED_BY_POD in text:
            return None
        token = _TOKEN_VOLUME.search(text)
        return text if token is None else text.replace(token[0], _PLACEHOLDER)

    def holds(self, key: bytes | None, spec: Object) -> bool:
        """Whether a spec with this key was found right."""
        is_pruned = None if key is None else self._right.get(key)
        self._latest = spec if is_pruned else None
        return is_pruned is not None

    def add(self, key: bytes | None, *, is_pruned: bool) -> None:
        if key is None:
            return
        if len(self._right) >= SPECS_REMEMBERED_MAX:
            self._right.clear()
        self._right[key] = is_pruned

    def is_pruned(self, spec: Object) -> bool:
        """Whether nothing would be dropped of the spec before it is stored; no if it was not the last that was looked up."""
        return spec is self._latest
