"""Leader election: of several processes with the same Lease, at most one leads.

The rules and figures are those of k8s.io/client-go/tools/leaderelection: the holder renews every RETRY_PERIOD_SECONDS, stops leading
when it could not for RENEW_DEADLINE_SECONDS, and others take over when they saw no renewal for as long as its holder wrote down, by default
LEASE_DURATION_SECONDS, of their own clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING

import structlog

from kubecosm.api.errors import ApiError, NotFound
from kubecosm.api.names import NAMESPACE_SYSTEM
from kubecosm.api.resources import LEASES, Object
from kubecosm.api.times import format_micro_time
from kubecosm.client.events import EventRecorder
from kubecosm.client.http import TRANSPORT_ERRORS, ApiClient
from kubecosm.client.metrics import COUNTER, GAUGE, Family, Meter

if TYPE_CHECKING:
    from kubecosm.runtime.clock import Clock

LEASE_DURATION_SECONDS = 15.0
RENEW_DEADLINE_SECONDS = 10.0
RETRY_PERIOD_SECONDS = 2.0
RETRY_JITTER = 1.2
"""Each retry waits its period times one to 2.2."""

MASTER_STATUS = Family(
    "leader_election_master_status", GAUGE, "Whether this process leads, by the name of its lease: 1 or 0.", ("name",)
)
SLOWPATH = Family(
    "leader_election_slowpath_total", COUNTER, "How often a lease could not be renewed without looking at it first.", ("name",)
)
FAMILIES = (MASTER_STATUS, SLOWPATH)

_FAILURES = (ApiError, *TRANSPORT_ERRORS)
_log = structlog.get_logger("kubecosm.client.leaderelection")


class LeadershipLost(Exception):
    """The lease could not be renewed in time; whatever the leader did has been cancelled."""


class LeaderElector:
    """One candidate. `run` blocks until it leads, leads, and gives the lease back when it ends."""

    def __init__(
        self, client: ApiClient, lease_name: str, identity: str, clock: Clock, *, random: Random, namespace: str = NAMESPACE_SYSTEM,
        lease_duration_seconds: float = LEASE_DURATION_SECONDS, renew_deadline_seconds: float = RENEW_DEADLINE_SECONDS,
        retry_period_seconds: float = RETRY_PERIOD_SECONDS, recorder: EventRecorder | None = None,
        on_new_leader: Callable[[str], None] | None = None, meter: Meter | None = None,
    ) -> None:  # fmt: skip
        """`identity` must be unique among the candidates. Raises ValueError unless lease duration > renew deadline > retry period."""
        if not lease_duration_seconds > renew_deadline_seconds > retry_period_seconds * RETRY_JITTER:
            raise ValueError("the lease must last longer than the renew deadline, and that longer than the jittered retry period")
        self._client, self._clock, self._random, self._recorder = client, clock, random, recorder
        self._name, self._namespace, self.identity = lease_name, namespace, identity
        self._lease_duration, self._renew_deadline = lease_duration_seconds, renew_deadline_seconds
        self._retry_period = retry_period_seconds
        self._on_new_leader = on_new_leader
        self._meter = meter or Meter()
        self._meter.declare(FAMILIES)
        self._lease: Object | None = None  # as last observed
        self._observed_at = 0.0  # when it last changed, by our own clock: others' clocks are not trusted
        self._reported = ""

    @property
    def leader(self) -> str:
        """The identity that was last seen holding the lease; empty if none."""
        return str(self._lease["spec"].get("holderIdentity") or "") if self._lease else ""

    @property
    def is_leader(self) -> bool:
        return self.leader == self.identity

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Wait for the lease, then run `lead` while renewing it; returns when `lead` does.

        Raises LeadershipLost when the lease cannot be renewed. Releases the lease in every case, so that a successor need not wait.
        """
        self._meter.set(MASTER_STATUS, 0, self._name)
        await self._acquire()
        self._meter.set(MASTER_STATUS, 1, self._name)
        _log.info("became leader", lease=self._name, identity=self.identity)
        self._record_event("became leader")
        try:
            async with asyncio.TaskGroup() as tasks:
                renewing = tasks.create_task(self._keep_renewing(), name=f"renew-{self._name}")
                await lead()
                renewing.cancel()
        except* LeadershipLost as lost:
            raise LeadershipLost(f"{self.identity} lost the lease {self._name}") from lost
        finally:
            self._meter.set(MASTER_STATUS, 0, self._name)
            self._record_event("stopped leading")
            await self._release()

    async def _acquire(self) -> None:
        while not await self._try_acquire_or_renew():
            self._report()
            await self._clock.sleep(self._retry_period * (1 + RETRY_JITTER * self._random.random()))
        self._report()

    async def _keep_renewing(self) -> None:
        renewed = self._clock.monotonic()
        while True:
            await self._clock.sleep(self._retry_period)
            if await self._try_acquire_or_renew():
                renewed = self._clock.monotonic()
            elif self.leader != self.identity or self._clock.monotonic() - renewed >= self._renew_deadline:
                raise LeadershipLost

    async def _try_acquire_or_renew(self) -> bool:
        """One attempt; False when somebody else holds the lease or the server does not answer in time."""
        try:
            async with asyncio.timeout(self._renew_deadline):
                return await self._attempt()
        except _FAILURES as error:
            _log.info("lease not renewed" if self.is_leader else "lease not acquired", lease=self._name, error=str(error))
            return False

    async def _attempt(self) -> bool:
        if self._lease is not None and self.is_leader and self._is_valid():
            try:
                return await self._put_claim(self._lease)
            except ApiError:
                self._meter.add(SLOWPATH, self._name)  # somebody changed or deleted it: look before claiming again
        try:
            lease = await self._client.get(LEASES, self._name, self._namespace)
        except NotFound:
            self._observe(await self._client.create(LEASES, self._new_lease(), self._namespace))
            return True
        self._observe(lease)
        if self.leader and not self.is_leader and self._is_valid():
            return False
        return await self._put_claim(lease)

    async def _put_claim(self, lease: Object) -> bool:
        self._observe(await self._client.update(LEASES, {**lease, "spec": self._claim(lease["spec"])}))
        return True

    def _observe(self, lease: Object) -> None:
        if self._lease is None or self._lease["spec"] != lease["spec"]:
            self._observed_at = self._clock.monotonic()
        self._lease = lease

    def _is_valid(self) -> bool:
        """Whether the holder may still lead, by the duration that it wrote down itself."""
        seconds = self._lease["spec"].get("leaseDurationSeconds") or 0 if self._lease is not None else 0
        return self._clock.monotonic() < self._observed_at + seconds

    def _claim(self, spec: Object) -> Object:
        """The spec by which we hold (or go on holding) the lease."""
        now = format_micro_time(self._clock.now())
        mine = spec.get("holderIdentity") == self.identity
        return {
            **spec, "holderIdentity": self.identity, "leaseDurationSeconds": int(self._lease_duration), "renewTime": now,
            "acquireTime": spec.get("acquireTime") if mine else now,
            "leaseTransitions": spec.get("leaseTransitions", 0) + (0 if mine else 1),
        }  # fmt: skip

    def _new_lease(self) -> Object:
        spec = self._claim({"holderIdentity": self.identity, "acquireTime": format_micro_time(self._clock.now())})
        metadata = {"name": self._name, "namespace": self._namespace}
        return {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": spec}

    async def _release(self) -> None:
        """Give the lease up: one attempt, since it ends by itself anyway."""
        if not self.is_leader or self._lease is None:
            return
        now = format_micro_time(self._clock.now())
        spec = {
            "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": now, "acquireTime": now,
            "leaseTransitions": self._lease["spec"].get("leaseTransitions", 0),
        }  # fmt: skip
        try:
            async with asyncio.timeout(self._retry_period):
                self._observe(await self._client.update(LEASES, {**self._lease, "spec": spec}))
        except _FAILURES as error:
            _log.info("lease not released", lease=self._name, error=str(error))

    def _report(self) -> None:
        if self.leader != self._reported:
            self._reported = self.leader
            if self._on_new_leader is not None:
                self._on_new_leader(self._reported)

    def _record_event(self, what: str) -> None:
        if self._recorder is not None and self._lease is not None:
            self._recorder.event(self._lease, LEASES, "Normal", "LeaderElection", f"{self.identity} {what}")
