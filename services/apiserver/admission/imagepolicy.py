"""ImagePolicyWebhook: a service outside the cluster says which images pods may run.

Configured by `--admission-control-config-file` (imagePolicy: kubeConfigFile, allowTTL, denyTTL, retryBackoff, defaultAllow).
Imitates plugin/pkg/admission/imagepolicy.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from kubecosm.api.resources import PODS, Object, Resource
from kubecosm.runtime.clock import Clock
from kubecosm.runtime.errors import StartupError
from kubecosm.runtime.remembered import Remembered

from ..outside import KubeconfigWebhook, OutsideError
from .chain import CREATE, UPDATE, Attributes, Plugin
from .refusal import refuse

if TYPE_CHECKING:
    from .plugins import Parts

NAME = "ImagePolicyWebhook"
API_VERSION = "imagepolicy.k8s.io/v1alpha1"
AUDIT_PREFIX = "imagepolicywebhook.image-policy.k8s.io/"
ANNOTATION_MARK = ".image-policy.k8s.io/"
"""Annotations of pods with this in their key are shown to the service."""
EPHEMERAL = "ephemeralcontainers"
REMEMBERED_MAX = 1024


@dataclass(frozen=True)
class Settings:
    """The plugin's configuration; times in seconds."""

    kubeconfig: str
    allow_seconds: float
    deny_seconds: float
    default_allow: bool


def read_settings(configuration: Object | None) -> Settings:
    """Raises StartupError."""
    given = (configuration or {}).get("imagePolicy")
    if not isinstance(given, dict):
        raise StartupError(f"{NAME} needs its part of --admission-control-config-file: imagePolicy with at least kubeConfigFile")
    if not given.get("kubeConfigFile"):
        raise StartupError(f"{NAME}: imagePolicy.kubeConfigFile is required: the kubeconfig of the service to ask")
    return Settings(
        str(given["kubeConfigFile"]), _bounded("allowTTL", given, 300, 1, 1800), _bounded("denyTTL", given, 30, 1, 1800),
        bool(given.get("defaultAllow")),
    )  # fmt: skip


def _bounded(name: str, given: Object, default: int, least: int, most: int) -> int:
    """Seconds: 0 or nothing means the default, -1 never to remember. Raises StartupError."""
    value = given.get(name) or default
    if value == -1:
        return 0
    if not isinstance(value, int) or not least <= value <= most:
        raise StartupError(f"{NAME}: imagePolicy.{name}: valid value is between {least}s and {most}s, got {value}")
    return value


class ImagePolicyWebhook(Plugin):
    name = NAME
    operations = (CREATE, UPDATE)

    def __init__(self, webhook: KubeconfigWebhook, settings: Settings, clock: Clock) -> None:
        self._webhook = webhook
        self._settings = settings
        self._remembered: Remembered[Object] = Remembered(clock.monotonic, REMEMBERED_MAX)

    def handles(self, resource: Resource, subresource: str) -> bool:
        return resource == PODS and subresource in ("", EPHEMERAL)

    def validate(self, attributes: Attributes) -> Awaitable[None] | None:
        return self._ask(attributes)

    async def _ask(self, attributes: Attributes) -> None:
        """Raises Forbidden."""
        spec = review_spec(attributes)
        key = orjson.dumps(spec)
        status = self._remembered.get(key)
        if status is None:
            review = {"kind": "ImageReview", "apiVersion": API_VERSION, "metadata": {}, "spec": spec}
            try:
                status = (await self._webhook.ask(review)).get("status") or {}
            except OutsideError as error:
                if not self._settings.default_allow:
                    raise refuse(attributes, str(error)) from error
                attributes.annotate(f"{AUDIT_PREFIX}failed-open", "true")
                return
            seconds = self._settings.allow_seconds if status.get("allowed") else self._settings.deny_seconds
            self._remembered.put(key, status, seconds)
        for name, value in (status.get("auditAnnotations") or {}).items():
            attributes.annotate(f"{AUDIT_PREFIX}{name}", str(value))
        if not status.get("allowed"):
            reason = status.get("reason")
            why = f"image policy webhook backend denied one or more images: {reason}" if reason else ""
            raise refuse(attributes, why or "one or more images rejected by webhook backend")


def review_spec(attributes: Attributes) -> Object:
    """An ImageReviewSpec: the images of the pod, or those of its ephemeral containers if it is about them."""
    pod = attributes.obj or {}
    fields = ("ephemeralContainers",) if attributes.subresource == EPHEMERAL else ("containers", "initContainers")
    images = [container.get("image", "") for name in fields for container in pod["spec"].get(name) or ()]
    annotations = pod["metadata"].get("annotations") or {}
    shown = {key: value for key, value in annotations.items() if ANNOTATION_MARK in key}
    spec: Object = {"containers": [{"image": image} if image else {} for image in images]}
    return spec | ({"annotations": shown} if shown else {}) | {"namespace": attributes.namespace}


def build(parts: Parts) -> Plugin:
    """Raises StartupError."""
    state, settings = parts.state, read_settings(parts.configuration.get(NAME))
    webhook = KubeconfigWebhook(settings.kubeconfig, state.clock, f"{NAME}: imagePolicy.kubeConfigFile")
    close: Callable[[], Awaitable[None]] = webhook.close
    state.closers.append(close)
    return ImagePolicyWebhook(webhook, settings, state.clock)
