"""DenyServiceExternalIPs: no new external addresses, which could catch the traffic of others. Off by default.

Imitates plugin/pkg/admission/network/denyserviceexternalips.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from kubecosm.api.resources import SERVICES, Object, Resource

from .chain import CREATE, UPDATE, Attributes, Plugin
from .refusal import refuse

if TYPE_CHECKING:
    from .plugins import Parts


class DenyServiceExternalIPs(Plugin):
    name = "DenyServiceExternalIPs"
    operations = (CREATE, UPDATE)

    def handles(self, resource: Resource, subresource: str) -> bool:
        return resource == SERVICES and not subresource

    def validate(self, attributes: Attributes) -> Awaitable[None] | None:
        if not _addresses(attributes.obj) <= _addresses(attributes.old):
            raise refuse(attributes, "Use of external IPs is denied by admission control")
        return None


def _addresses(service: Object | None) -> set[str]:
    return set(((service or {}).get("spec") or {}).get("externalIPs") or ())


def build(parts: Parts) -> DenyServiceExternalIPs:
    return DenyServiceExternalIPs()
