"""AlwaysAdmit, AlwaysDeny and AlwaysPullImages: for tests, and for nodes whose tenants must not use each other's images. Off by default.

Imitates plugin/pkg/admission/{admit,deny,alwayspullimages}.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator

from kubecosm.api.field import not_supported
from kubecosm.api.resources import PODS, Object, Resource

from .chain import CREATE, UPDATE, Attributes, Plugin
from .refusal import refuse

POLICY = "Always"


class AlwaysAdmit(Plugin):
    """Has no objection, ever."""

    name = "AlwaysAdmit"


class AlwaysDeny(Plugin):
    """Refuses every write."""

    name = "AlwaysDeny"

    def admit(self, attributes: Attributes) -> Awaitable[None] | None:
        return self.validate(attributes)

    def validate(self, attributes: Attributes) -> Awaitable[None] | None:
        raise refuse(attributes, "admission control is denying all modifications")


class AlwaysPullImages(Plugin):
    """Whoever runs an image proves each time that he may pull it."""

    name = "AlwaysPullImages"

    def handles(self, resource: Resource, subresource: str) -> bool:
        return resource == PODS and not subresource

    def admit(self, attributes: Attributes) -> Awaitable[None] | None:
        if attributes.obj is not None and _has_new_images(attributes):
            for _, owner, field in _pulled(attributes.obj["spec"]):
                owner[field] = POLICY
        return None

    def validate(self, attributes: Attributes) -> Awaitable[None] | None:
        if attributes.obj is None or not _has_new_images(attributes):
            return None
        for path, owner, field in _pulled(attributes.obj["spec"]):
            if owner.get(field) != POLICY:
                raise refuse(attributes, str(not_supported(f"{path}.{field}", owner.get(field, ""), (POLICY,))))
        return None


def _pulled(spec: Object) -> Iterator[tuple[str, Object, str]]:
    """(path, what has it, field) of every pull policy."""
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for i, container in enumerate(spec.get(kind) or ()):
            yield f"spec.{kind}[{i}]", container, "imagePullPolicy"
    for i, volume in enumerate(spec.get("volumes") or ()):
        if volume.get("image") is not None:
            yield f"spec.volumes[{i}].image", volume["image"], "pullPolicy"


def _has_new_images(attributes: Attributes) -> bool:
    if attributes.operation != UPDATE or attributes.old is None:
        return attributes.operation == CREATE
    assert attributes.obj is not None
    return not _images(attributes.obj) <= _images(attributes.old)


def _images(pod: Object) -> set[str]:
    spec = pod["spec"]
    kinds = ("initContainers", "containers", "ephemeralContainers")
    return {container.get("image", "") for kind in kinds for container in spec.get(kind) or ()}
