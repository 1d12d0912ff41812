"""What the parts of one apiserver share: storage, caches, the resource table, time and chance."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from kubecosm.api.resources import ResourceTable
from kubecosm.runtime.clock import Clock

from .cache.caches import Caches
from .storage.contract import Store

if TYPE_CHECKING:
    from .admission.chain import AdmissionChain
    from .rest.store import ResourceStore


class Stream(Protocol):
    """A long answer that can be ended in good order."""

    def end(self) -> None: ...


@dataclass
class State:
    """One per server; nothing of it is global."""

    clock: Clock
    rng: random.Random
    storage: Store
    caches: Caches
    table: ResourceTable
    admission: AdmissionChain
    stores: dict[tuple[str, str, str], ResourceStore] = field(default_factory=dict)
    """(group, version, plural) → the store that serves it."""
    streams: set[Stream] = field(default_factory=set)
    """Open watches and kubelet streams, ended when the server stops."""

    def store(self, group: str, version: str, plural: str) -> ResourceStore:
        return self.stores[group, version, plural]
