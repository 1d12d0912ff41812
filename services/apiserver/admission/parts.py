"""What admission plugins are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kubecosm.api.resources import Object, Resource

from ..cache.resource import ResourceCache
from ..state import State


@dataclass(frozen=True)
class Parts:
    """Handed to each plugin's builder."""

    state: State
    configuration: Mapping[str, Object] = field(default_factory=dict)
    """By plugin, from --admission-control-config-file."""
    extra_config_maps: tuple[tuple[str, str], ...] = ()

    def cache(self, resource: Resource) -> ResourceCache:
        return self.state.store(resource.group, resource.version, resource.plural).cache
