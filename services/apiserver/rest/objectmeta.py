"""The system's part of metadata, and how an object becomes the bytes that are stored and served.

The order of the first fields is fixed: kind, apiVersion, then metadata starting with what only the server words, so that the
cache finds metadata.resourceVersion by the first occurrence of its key, and managedFields right behind it. Imitates
apiserver/pkg/registry/rest/meta.go and create.go.
"""

from __future__ import annotations

import random
from datetime import datetime

import orjson

from kubecosm.api.errors import BadRequest
from kubecosm.api.resources import Object, Resource
from kubecosm.api.times import format_time

from ..http.requestinfo import new_uid

GENERATED_NAME_MAX = 63
SUFFIX_LENGTH = 5
SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_HEAD = ("name", "generateName", "namespace", "uid")
_TAIL = (
    "managedFields", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds", "labels", "annotations",
    "ownerReferences", "finalizers",
)  # fmt: skip


def encode(obj: Object) -> bytes:
    """The stored form: JSON with an empty resourceVersion in its place."""
    meta = obj["metadata"]
    ordered: Object = {name: meta[name] for name in _HEAD if name in meta}
    ordered["resourceVersion"] = ""
    for name in _TAIL:
        if name in meta:
            ordered[name] = meta[name]
    return orjson.dumps({"kind": obj["kind"], "apiVersion": obj["apiVersion"], **obj, "metadata": ordered})


def drop_system_fields(meta: Object) -> None:
    """What a client may not bring (WipeObjectMetaSystemFields)."""
    for name in ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
        meta.pop(name, None)


def fill_system_fields(meta: Object, now: datetime, rng: random.Random) -> None:
    """uid and creationTimestamp are the server's; what admission may not bring is dropped."""
    meta["uid"] = new_uid(rng.getrandbits(128))
    meta["creationTimestamp"] = format_time(now)
    for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
        meta.pop(name, None)


def generated_name(base: str, rng: random.Random) -> str:
    """`base` with five random letters; long bases are cut (names.SimpleNameGenerator)."""
    suffix = "".join(rng.choices(SUFFIX_LETTERS, k=SUFFIX_LENGTH))
    return base[: GENERATED_NAME_MAX - SUFFIX_LENGTH] + suffix


def set_namespace(meta: Object, resource: Resource, namespace: str) -> None:
    """The namespace of the URL and that of the body must agree; one of them may be silent. Raises BadRequest."""
    given = meta.get("namespace", "")
    wanted = namespace if resource.namespaced else ""
    if given == wanted:
        return
    if given and wanted:
        raise BadRequest("the namespace of the provided object does not match the namespace sent on the request")
    if wanted:
        meta["namespace"] = wanted
    else:
        del meta["namespace"]


def keep_system_fields(meta: Object, old: Object) -> None:
    """On update: what a client may leave out or may not change comes from the stored object (rest.BeforeUpdate)."""
    if not meta.get("uid") and "uid" in old:
        meta["uid"] = old["uid"]
    meta["creationTimestamp"] = old.get("creationTimestamp")
    if "deletionTimestamp" in old:
        meta["deletionTimestamp"] = old["deletionTimestamp"]
        if "deletionGracePeriodSeconds" in old:
            meta.setdefault("deletionGracePeriodSeconds", old["deletionGracePeriodSeconds"])
    if "generateName" in old:
        meta.setdefault("generateName", old["generateName"])
    meta.pop("selfLink", None)
