"""How pod statuses reach the API: what it refuses for one pod costs the others nothing."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from kubecosm.api.errors import Forbidden
from kubecosm.api.resources import Object
from kubecosm.services.kubelet.pipeline import ApiPipeline
from kubecosm.services.kubelet.pods import status_manager
from kubecosm.services.kubelet.pods.status_manager import StatusManager
from kubecosm.testing.virtualtime import VirtualClock, run_virtual

from .lab import Lab, container, in_lab, make_pod


class Accepted:
    def __init__(self, version: int) -> None:
        self._version = version

    def object(self) -> Object:
        return {"metadata": {"resourceVersion": str(self._version)}}


class Refusing:
    """An API that refuses everything about the pods of a namespace for as long as `closed` holds."""

    def __init__(self) -> None:
        self.closed = True
        self.written: list[str] = []

    async def request(self, method: str, path: str, body: bytes = b"", *_: Any) -> Accepted:
        await asyncio.sleep(0.01)
        if self.closed and "/closed/" in path:
            raise Forbidden("a webhook says no")
        self.written.append(path)
        return Accepted(len(self.written) + 1)


def pod(namespace: str, index: int) -> Object:
    return {"metadata": {"uid": f"{namespace}-{index}", "namespace": namespace, "name": f"p{index}", "resourceVersion": "1"}, "status": {}}


def test_statuses_that_are_refused_hold_up_no_others_and_are_written_in_the_end() -> None:
    async def main() -> None:
        api = Refusing()
        refused = status_manager.WRITES_IN_FLIGHT_MAX + 10
        async with asyncio.TaskGroup() as tasks:
            manager = StatusManager(cast(ApiPipeline, api), VirtualClock(), tasks)
            for namespace, count in (("closed", refused), ("open", 5)):
                for index in range(count):
                    manager.observe(pod(namespace, index))
                    manager.set(f"{namespace}-{index}", {"phase": "Running"})
            await asyncio.sleep(1)
            assert len(api.written) == 5
            manager.set("closed-0", {"phase": "Failed"})
            api.closed = False
            await manager.wait_settled("closed-0")
            await asyncio.sleep(30)
            assert len(api.written) == 5 + refused

    run_virtual(main())


def test_a_pod_whose_image_is_there_as_soon_as_it_is_pulled_costs_one_write() -> None:
    async def story(lab: Lab) -> None:
        api = Refusing()
        manager = StatusManager(cast(ApiPipeline, api), lab.clock, lab.tasks)
        told = lab.statuses.set

        def tell(uid: str, status: Object) -> None:
            told(uid, status)
            manager.set(uid, status)

        lab.statuses.set = tell  # type: ignore[method-assign]
        for name, count, notes in (("quick", 1, {}), ("slow", 2, {"kubecosm.dev/pull-seconds": "5"})):
            pod = make_pod(container(image=f"{name}:1"), name=name, annotations=notes)
            manager.observe(pod)
            lab.run(pod)
            await lab.until_phase("Running", name)
            await manager.wait_settled(f"uid-{name}")
            assert api.written == [f"/api/v1/namespaces/default/pods/{name}/status"] * count
            api.written.clear()

    in_lab(story)
