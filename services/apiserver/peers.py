"""The endpoints of the Service `kubernetes` when several API servers share one storage: all that have lately said that they serve.

Imitates pkg/controlplane/reconcilers/lease.go. Each server writes a record under MASTER_LEASES every ten seconds; one that is older than
its time to live does not count. Endpoints have one list of ports, so servers on another port than the first one's are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from ipaddress import ip_address

import orjson

from kubecosm.api.errors import ApiError
from kubecosm.api.resources import ENDPOINTS, ENDPOINTSLICES, Object
from kubecosm.api.times import format_micro_time, parse_time
from kubecosm.runtime.logs import get_logger

from .bootstrap import endpoint_objects, keep_equal
from .state import State
from .storage.contract import CompactedError, StorageError

log = get_logger("apiserver")

MASTER_LEASES = "/registry/core/masterleases/"
RENEW_SECONDS = 10.0
LIVES_SECONDS = 15.0
Place = tuple[str, int]
"""(address, port) of a server."""


def record_of(place: Place, now: datetime) -> bytes:
    return orjson.dumps({"address": place[0], "port": place[1], "renewTime": format_micro_time(now)})


def living(records: Iterable[Object], own: Place, now: datetime) -> tuple[list[str], int]:
    """(addresses in order, port) of the servers that live; the own one always does."""
    since = now - timedelta(seconds=LIVES_SECONDS)
    places = {(r["address"], int(r["port"])) for r in records if parse_time(r["renewTime"]) >= since} | {own}
    ordered = sorted(places, key=lambda place: (int(ip_address(place[0])), place[1]))
    port = ordered[0][1]
    return [address for address, its_port in ordered if its_port == port], port


async def keep_endpoints(state: State, own: Place) -> None:
    """Say that this server lives, and write down who else does."""
    while True:
        try:
            await _renew(state, own)
            await _reconcile(state, own)
        except (ApiError, StorageError, CompactedError) as error:
            log.error("the endpoints of the API servers could not be kept up", error=str(error))
        await state.clock.sleep(RENEW_SECONDS)


async def withdraw(state: State, own: Place) -> None:
    """This server ends: the others need not wait for its record to grow old."""
    key = _key(own)
    found = (await state.storage.get(key=key)).item
    if found is not None:
        await state.storage.delete(key=key, expected_revision=found.revision)


def _key(place: Place) -> str:
    return f"{MASTER_LEASES}{place[0]}:{place[1]}"


async def _renew(state: State, own: Place) -> None:
    key, value = _key(own), record_of(own, state.clock.now())
    found = (await state.storage.get(key=key)).item
    await state.storage.update(key=key, value=value, expected_revision=found.revision if found is not None else 0)


async def _reconcile(state: State, own: Place) -> None:
    listed = await state.storage.list(prefix=MASTER_LEASES)
    addresses, port = living([orjson.loads(item.value) for item in listed.items], own, state.clock.now())
    endpoints, endpoint_slice = endpoint_objects(addresses, port)
    await keep_equal(state, ENDPOINTS, endpoints)
    await keep_equal(state, ENDPOINTSLICES, endpoint_slice)
