"""The operator of docs/client.md, as a user would copy it: compiled, type-checked by its use, and run in virtual time."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest

from kubecosm.api.meta import Key
from kubecosm.api.resources import DEPLOYMENTS, EVENTS, Subresource, load_builtin
from kubecosm.client.runner import run_controllers
from kubecosm.testing.memory import MemoryServer
from kubecosm.testing.virtualtime import VirtualClock, run_virtual
from kubecosm.testing.waiting import wait_for_condition, wait_until

PAGE = Path(__file__).parent.parent.parent / "docs" / "client.md"


@pytest.fixture
def operator(monkeypatch: pytest.MonkeyPatch) -> Any:
    (code,) = [block.partition("```")[0] for block in PAGE.read_text().split("```python\n")[1:]]
    module = ModuleType("website_operator")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(code, str(PAGE), "exec"), module.__dict__)
    return module


def website(replicas: int) -> dict[str, Any]:
    return {"metadata": {"name": "blog", "namespace": "default"}, "spec": {"image": "nginx", "replicas": replicas}}


def test_the_operator_of_the_documentation_works(operator: Any) -> None:
    status = Subresource("status", "Website", "example.com", "v1", ("get", "patch", "update"))
    resource = type(operator.WEBSITES)(**{**vars(operator.WEBSITES), "subresources": (status,)})
    table = load_builtin()
    table.add(resource)

    async def main() -> None:
        clock = VirtualClock()
        async with MemoryServer(clock, table=table) as server, server.client(clock) as client, asyncio.TaskGroup() as tasks:
            running = tasks.create_task(run_controllers([operator], client, clock, Random(1)))
            server.create(resource, website(2))
            await wait_for_condition(client, DEPLOYMENTS, "blog", lambda obj: obj is not None and obj["spec"]["replicas"] == 2, "default")
            deployment = server.get(DEPLOYMENTS, Key("default", "blog"))
            server.update(DEPLOYMENTS, {**deployment, "status": {"readyReplicas": 2}}, status_only=True)
            await wait_until(lambda: server.get(resource, Key("default", "blog")).get("status") == {"readyReplicas": 2})
            server.update(resource, website(5))
            await wait_for_condition(client, DEPLOYMENTS, "blog", lambda obj: obj is not None and obj["spec"]["replicas"] == 5, "default")
            assert [event["reason"] for event in server.list(EVENTS)] == ["Created"]
            running.cancel()

    run_virtual(main())
