"""Expressions that take long leave the event loop to others, and answer what they would have answered there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from .harness import CONFIGMAPS, Api, configmap, with_api
from .policy_objects import install, policy
from .test_customresources import CRDS, definition, version

SQUARES = "/apis/stable.example.com/v1/namespaces/default/squares"
ALL_PAIRS = "self.all(x, self.all(y, x + y >= {least}))"


def squares(*rules: dict[str, Any]) -> dict[str, Any]:
    items = {"type": "array", "maxItems": 500, "items": {"type": "integer"}, "x-kubernetes-validations": list(rules)}
    spec = {"type": "object", "properties": {"items": items}}
    schema = {"type": "object", "properties": {"spec": spec}}
    return definition(version("v1", schema=schema), plural="squares", kind="Square")


def square(name: str, count: int) -> dict[str, Any]:
    return {"apiVersion": "stable.example.com/v1", "kind": "Square", "metadata": {"name": name}, "spec": {"items": list(range(count))}}


async def answered_meanwhile(api: Api, write: Awaitable[Any]) -> tuple[Any, int]:
    """(what a write gives, how many other requests were answered while it was under way)."""
    await api.get("/version")
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(_awaited(write))
        count = 0
        while not task.done():
            await api.get("/version")
            count += 1
    return task.result(), count


async def _awaited(write: Awaitable[Any]) -> Any:
    return await write


def test_rules_that_take_long_do_not_hold_up_others(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(CRDS, squares({"rule": ALL_PAIRS.format(least=0)}))
        made, others = await answered_meanwhile(api, api.create(SQUARES, square("s", 350)))
        assert len(made["spec"]["items"]) == 350
        assert others > 10
        made["spec"]["items"].append(7)
        changed, others = await answered_meanwhile(api, api.put(f"{SQUARES}/s", made))
        assert changed["metadata"]["generation"] == 2
        assert others > 10

    with_api(tmp_path, test)


def test_rules_that_take_long_say_what_they_always_say(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        told = "self.size() > 320 ? 'far too many' : 'too many'"
        rules = ({"rule": ALL_PAIRS.format(least=0)}, {"rule": "self.size() < 300", "messageExpression": told})
        await api.create(CRDS, squares(*rules))
        status = await api.refused("POST", SQUARES, square("s", 350))
        assert [cause["message"] for cause in status["details"]["causes"]] == ['Invalid value: "array": far too many']
        status = await api.refused("POST", SQUARES, square("s", 480))
        assert "no further validation rules will be run due to call cost exceeds limit for rule" in status["message"]
        await api.create(SQUARES, square("s", 3))

    with_api(tmp_path, test)


def test_writes_that_take_long_at_the_same_time_do_not_get_each_others_answers(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(CRDS, squares({"rule": ALL_PAIRS.format(least=0)}, {"rule": "!(13 in self)"}))
        async with asyncio.TaskGroup() as tasks:
            fine = {n: {**square(f"s-{n}", 0), "spec": {"items": [100 + n] * 150}} for n in range(3)}
            writes = [tasks.create_task(api.call("POST", SQUARES, body)) for body in fine.values()]
            writes += [tasks.create_task(api.call("POST", SQUARES, square(f"bad-{n}", 150))) for n in range(3)]
        assert [task.result()[0] for task in writes] == [201] * 3 + [422] * 3

    with_api(tmp_path, test)


@pytest.mark.parametrize("kept", ["variables", "expression"])
def test_policies_that_take_long_do_not_hold_up_others(tmp_path: Path, kept: str) -> None:
    async def test(api: Api) -> None:
        work = "object.data.all(x, object.data.all(y, x + y != ''))"
        made = policy({"expression": f"{work} && false", "message": "seen to the end"})
        if kept == "variables":
            variables = [{"name": "all", "expression": work}]
            made = policy({"expression": "variables.all && false", "message": "seen to the end"}, variables=variables)
        await install(api, made)
        body = configmap("many", {f"k{n}": "v" for n in range(250)})
        (code, status), others = await answered_meanwhile(api, api.call("POST", CONFIGMAPS, body))
        assert (code, "seen to the end" in status["message"]) == (422, True)
        assert others > 10

    with_api(tmp_path, test)
