"""Conversion of custom resources between versions: by name alone, or by a webhook (ConversionReview v1).

Objects are looked at synchronously everywhere, so what a webhook has converted is kept, and who needs what is not there yet raises
`Unconverted`; the router has it converted and runs the request again. Imitates apiextensions-apiserver's pkg/apiserver/conversion.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from uuid import UUID

import orjson

from kubecosm.api.errors import ApiError
from kubecosm.api.resources import CustomResource, Object
from kubecosm.api.schema.structural import fill_defaults, has_defaults, prune_unknown

from ..cache.view import AS_STORED, View
from ..rest.unconverted import Unconverted
from ..rest.versions import Conversion
from ..state import State
from ..webhook.client import read_target
from ..webhook.failures import CallFailed

TIMEOUT_SECONDS = 30.0
KEPT_MAX = 20_000
"""Converted objects kept, per definition; the ones longest unused go."""
REVIEW_VERSION = "apiextensions.k8s.io/v1"


class WebhookConverter:
    """The converter of one definition."""

    def __init__(self, state: State, config: Object) -> None:
        """`config`: spec.conversion.webhook.clientConfig."""
        self._state, self._config = state, config
        self._kept: OrderedDict[tuple[str, bytes], bytes] = OrderedDict()

    def look(self, obj: Object, desired: str) -> Object:
        """The object in another version, if it has been converted. Raises Unconverted."""
        if obj["apiVersion"] == desired:
            return obj
        key = (desired, orjson.dumps(obj))
        found = self._kept.get(key)
        if found is None:
            raise Unconverted([obj], desired)
        self._kept.move_to_end(key)
        converted: Object = orjson.loads(found)
        return converted

    def missing(self, objects: Iterable[Object], desired: str) -> list[Object]:
        """Those that `look` would not find."""
        return [obj for obj in objects if obj["apiVersion"] != desired and (desired, orjson.dumps(obj)) not in self._kept]

    async def convert(self, objects: Sequence[Object], desired: str) -> None:
        """Ask the webhook. Raises ApiError (500) in Kubernetes' words."""
        if not objects:
            return
        first = objects[0]
        about = f"conversion webhook for {first['apiVersion']}, Kind={first['kind']}"
        uid = str(UUID(int=self._state.rng.getrandbits(128), version=4))
        request = {"uid": uid, "desiredAPIVersion": desired, "objects": objects}
        review = {"kind": "ConversionReview", "apiVersion": REVIEW_VERSION, "request": request}
        try:
            answer = await self._state.webhooks.post(read_target(self._config), orjson.dumps(review), TIMEOUT_SECONDS)
        except CallFailed as failure:
            raise ApiError(f"{about} failed: {failure.why}", code=500) from None
        converted = _checked(answer, uid, about, len(objects))
        for index, (obj, new) in enumerate(zip(objects, converted, strict=True)):
            _check_identity(obj, new, desired, f"{about} returned invalid converted object at index {index}")
            self._kept[desired, orjson.dumps(obj)] = orjson.dumps(_with_metadata(obj, new))
        while len(self._kept) > max(KEPT_MAX, len(objects)):
            self._kept.popitem(last=False)


def _checked(answer: bytes, uid: str, about: str, count: int) -> list[Object]:
    """The objects of an answer. Raises ApiError."""
    try:
        review = orjson.loads(answer)
        response = review["response"]
        result, converted = response.get("result") or {}, response.get("convertedObjects") or []
        answered = response.get("uid")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        raise ApiError(f"{about} failed: invalid response: the answer is no ConversionReview", code=500) from None
    if review.get("apiVersion") != REVIEW_VERSION or review.get("kind") != "ConversionReview":
        told = f"{review.get('apiVersion')}, Kind={review.get('kind')}"
        why = f"expected webhook response of {REVIEW_VERSION}, Kind=ConversionReview, got {told}"
        raise ApiError(f"{about} failed: invalid response: {why}", code=500)
    if answered != uid:
        raise ApiError(f'{about} failed: invalid response: expected response.uid="{uid}", got "{answered or ""}"', code=500)
    if result.get("status") != "Success":
        why = result.get("message") or f"response.result.status was '{result.get('status', '')}', not 'Success'"
        raise ApiError(f"{about} failed: {why}", code=500)
    if len(converted) != count:
        raise ApiError(f"{about} returned {len(converted)} objects, expected {count}", code=500)
    return list(converted)


def _check_identity(obj: Object, new: Object, desired: str, about: str) -> None:
    """A webhook may not change what an object is. Raises ApiError."""
    if new.get("apiVersion") != desired:
        raise ApiError(f"{about}: invalid groupVersion (expected {desired}, received {new.get('apiVersion', '')})", code=500)
    meta, its = obj["metadata"], new.get("metadata") or {}
    pairs = [("kind", obj["kind"], new.get("kind"))]
    pairs += [(word, meta.get(field), its.get(field)) for word, field in (("name", "name"), ("namespace", "namespace"), ("UID", "uid"))]
    for word, was, now in pairs:
        if (was or "") != (now or ""):
            raise ApiError(f"{about}: must have the same {word}: {now or ''} != {was or ''}", code=500)


def _with_metadata(obj: Object, new: Object) -> Object:
    """Of the metadata only labels and annotations are the webhook's."""
    meta = {**obj["metadata"]}
    for field in ("labels", "annotations"):
        meta.pop(field, None)
        if value := (new.get("metadata") or {}).get(field):
            meta[field] = value
    ordered = {"kind": new["kind"], "apiVersion": new["apiVersion"], "metadata": meta}
    return {**ordered, **{name: value for name, value in new.items() if name not in ordered}}


def conversion_between(
    row: CustomResource, stored: CustomResource, converter: WebhookConverter | None = None, *, is_only: bool = True
) -> Conversion:
    """`is_only`: the definition has one version, so everything stored is in it."""

    def to_stored(obj: Object) -> Object:
        if converter is None:
            return {**obj, "apiVersion": stored.api_version}
        converted = converter.look(obj, stored.api_version)
        prune_unknown(stored.schema, converted)
        return converted

    def from_stored(obj: Object) -> Object:
        if converter is None:
            served = {**obj, "apiVersion": row.api_version}
        else:
            served = converter.look(obj, row.api_version)
            prune_unknown(row.schema, served)
        fill_defaults(row.schema, served)
        return served

    if row == stored and is_only and not has_defaults(row.schema):
        return Conversion(stored, to_stored, lambda obj: obj, AS_STORED)
    name = f"{row.api_version}/{row.plural}"
    return Conversion(stored, to_stored, from_stored, View(name, lambda data: orjson.dumps(from_stored(orjson.loads(data)))))
