"""An API server's Lease says that it lives; those of servers that are no more go. Events have one series in both of their APIs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kubecosm.api.times import format_micro_time
from kubecosm.runtime.clock import RealClock
from kubecosm.services.apiserver.identity import RENEW_SECONDS, identity_of, is_expired

from .harness import Api, api_server, with_api

LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
SELECTOR = "labelSelector=apiserver.kubernetes.io/identity=kube-apiserver"


class SteppedClock(RealClock):
    """Sleeps of the renewal end when the test says so."""

    def __init__(self) -> None:
        self.offset = timedelta()
        self.step = asyncio.Event()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.offset

    async def sleep(self, seconds: float) -> None:
        if seconds != RENEW_SECONDS:
            await super().sleep(seconds)
        await self.step.wait()
        self.step.clear()


def lease(name: str, renewed: datetime, identity: str = "kube-apiserver") -> dict[str, Any]:
    spec = {"holderIdentity": name, "leaseDurationSeconds": 3600, "renewTime": format_micro_time(renewed)}
    meta = {"name": name, "labels": {"apiserver.kubernetes.io/identity": identity}}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}


def test_a_server_renews_its_lease(tmp_path: Path) -> None:
    async def main() -> None:
        clock = SteppedClock()
        async with api_server(tmp_path, clock=clock) as api, asyncio.timeout(10), api.watch(f"{LEASES}?watch=1&{SELECTOR}") as watch:
            first = (await watch.next())["object"]
            assert first["metadata"]["name"].startswith("apiserver-")
            assert first["spec"]["holderIdentity"].startswith(first["metadata"]["name"] + "_")
            assert first["spec"]["leaseDurationSeconds"] == 3600
            clock.step.set()
            second = await watch.next()
            assert second["type"] == "MODIFIED"
            assert second["object"]["spec"]["renewTime"] > first["spec"]["renewTime"]
            assert second["object"]["spec"]["holderIdentity"] == first["spec"]["holderIdentity"]

    asyncio.run(main())


def test_expired_leases_of_servers_go_when_one_starts(tmp_path: Path) -> None:
    async def first(api: Api) -> None:
        old = datetime.now(UTC) - timedelta(hours=2)
        await api.create(LEASES, lease("apiserver-gone", old))
        await api.create(LEASES, lease("somebody-elses", old, "other"))

    async def second(api: Api) -> None:
        async with asyncio.timeout(5):
            while (await api.raw("GET", f"{LEASES}/apiserver-gone")).status != 404:
                pass
        await api.get(f"{LEASES}/somebody-elses")

    for test in (first, second):
        with_api(tmp_path, test, storage_backend="sqlite", data_dir=str(tmp_path / "data"))


def test_a_lease_expires_when_its_time_is_over() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert not is_expired(lease("a", now - timedelta(seconds=3600)), now)
    assert is_expired(lease("a", now - timedelta(seconds=3601)), now)
    assert not is_expired({"spec": {}}, now)


def test_the_identity_tells_servers_of_one_machine_apart() -> None:
    assert identity_of("host", "127.0.0.1:6443") == identity_of("host", "127.0.0.1:6443")
    assert len({identity_of("host", "127.0.0.1:6443"), identity_of("host", "127.0.0.1:6444"), identity_of("b", "127.0.0.1:6443")}) == 3
    assert len(identity_of("host", "")) == len("apiserver-") + 26


def test_when_uses_of_old_tokens_are_noted_since_is_told(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        found = await api.get("/api/v1/namespaces/kube-system/configmaps/kube-apiserver-legacy-service-account-token-tracking")
        assert len(found["data"]["since"]) == len("2026-01-01")

    with_api(tmp_path, test)


def test_a_series_of_events_is_the_same_in_both_apis(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        new, core = "/apis/events.k8s.io/v1/namespaces/default/events", "/api/v1/namespaces/default/events"
        regarding = {"kind": "Pod", "namespace": "default", "name": "p", "apiVersion": "v1"}
        event = {
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"}, "eventTime": "2026-01-01T00:00:00.000000Z",
            "reportingController": "example.com/c", "reportingInstance": "c-1", "action": "Act", "reason": "Why", "type": "Normal",
            "regarding": regarding, "note": "something",
        }  # fmt: skip
        await api.create(new, event)
        series = {"count": 5, "lastObservedTime": "2026-01-01T00:05:00.000000Z"}
        await api.merge(f"{new}/e", {"series": series})
        found = await api.get(f"{core}/e")
        assert (found["series"], found["message"], found["involvedObject"]["name"]) == (series, "something", "p")
        await api.merge(f"{core}/e", {"series": {"count": 6}})
        assert (await api.get(f"{new}/e"))["series"]["count"] == 6

    with_api(tmp_path, test)
