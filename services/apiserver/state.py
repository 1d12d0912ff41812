"""What the parts of one apiserver share: storage, caches, the resource table, time and chance."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from kubecosm.api.errors import ApiError
from kubecosm.api.resources import ResourceTable
from kubecosm.runtime.clock import Clock

from .aside import Aside
from .authz.metrics import AuthorizationMetrics
from .cache.caches import Caches
from .celtimes import CelTimes
from .storage.contract import StorageError, Store
from .webhook.client import WebhookClients
from .webhook.services import resolver

if TYPE_CHECKING:
    from .admission.chain import AdmissionChain
    from .audit.filter import Auditor
    from .authz.attributes import Authorizer
    from .configfiles import ConfigFile
    from .encryption.store import EncryptingStore
    from .flowcontrol.controller import FlowController
    from .http.metrics import RequestMetrics
    from .rest.store import ResourceStore
    from .rotatedfiles import RotatedFiles


T = TypeVar("T")


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
    authorizer: Authorizer | None = None
    """Who decides what callers may do; for checks beyond the request itself (escalation, admission). None: nobody restricts."""
    authorization_metrics: AuthorizationMetrics = field(default_factory=AuthorizationMetrics)
    request_metrics: RequestMetrics | None = None
    """Set when the filters are put together."""
    streams: set[Stream] = field(default_factory=set)
    """Open watches and kubelet streams, ended when the server stops."""

    config_files: list[ConfigFile] = field(default_factory=list)
    """What is read again when it changes."""
    rotated_files: list[RotatedFiles] = field(default_factory=list)
    """Certificates besides the server's own, which are taken up anew as well."""
    closers: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    """What ends with the server: clients of services outside."""
    aside: Aside = field(default_factory=Aside)
    """Where expressions go that take long."""
    cel_times: CelTimes = field(init=False)
    """How long the rules of custom resources take."""
    webhooks: WebhookClients = field(init=False)
    """Asks webhooks for whoever needs it; connects only then."""
    min_request_seconds: float = 1800.0
    """The least that a watch lasts whose client does not say."""
    is_stopping: bool = False
    """Not ready any more, but still serving (--shutdown-delay-duration)."""
    encryption: EncryptingStore | None = None
    """Encrypts what is stored; None if that is off."""
    auditor: Auditor | None = None
    """Records requests; None if nothing is audited."""
    flow_control: FlowController | None = None
    """Priority and fairness; None if that is off."""

    tasks: asyncio.TaskGroup | None = None
    """Where work lives that outlasts its request; None until the server runs."""

    def __post_init__(self) -> None:
        self.cel_times = CelTimes(self.clock.monotonic)
        self.webhooks = WebhookClients(resolver(self))
        self.closers.append(self.webhooks.close)

    is_shared: bool = False
    """Whether other servers may use the storage."""

    async def close(self) -> None:
        """Part with services outside, and begin nothing new."""
        for close in self.closers:
            await close()
        self.tasks = None

    async def settle(self, write: Coroutine[Any, Any, T | None], finish: Callable[[bool], None]) -> T | None:
        """Carry out a write and tell `finish` whether it took place, even if the request is cancelled meanwhile.

        None means that it did not. Raises what the write raises: ApiError, StorageError.
        """

        async def run() -> tuple[T | None, ApiError | StorageError | None]:
            result, error = None, None
            try:
                result = await write
            except (ApiError, StorageError) as raised:
                error = raised
            finally:
                finish(result is not None)
            return result, error

        result, error = await (run() if self.tasks is None else asyncio.shield(self.tasks.create_task(run(), name="settle")))
        if error is not None:
            raise error
        return result

    def store(self, group: str, version: str, plural: str) -> ResourceStore:
        return self.stores[group, version, plural]
