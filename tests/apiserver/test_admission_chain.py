"""The admission chain: plugins are asked in order, may wait, may be asked again, and learn what became of the write."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kubecosm.api import errors
from kubecosm.api.errors import Forbidden
from kubecosm.api.resources import CONFIGMAPS as CONFIGMAP_ROW
from kubecosm.api.resources import Resource
from kubecosm.services.apiserver.admission.chain import AdmissionChain, Attributes, Plugin
from kubecosm.services.apiserver.authn.user import User

from .harness import ACCOUNT, ACCOUNTS, CONFIGMAPS, DEPLOYMENTS, PODS, Api, configmap, deployment, pod, with_api

ASKED_ABOUT = ("configmaps", "pods", "deployments", "selfsubjectreviews")


class Recorder(Plugin):
    """Notes what it is asked about; `wait` makes it take a turn of the loop."""

    def __init__(self, name: str = "recorder", *, wait: bool = False, change: Callable[[Attributes], None] | None = None) -> None:
        self.name, self.wait, self.change = name, wait, change
        self.seen: list[tuple[Any, ...]] = []

    def handles(self, resource: Resource, subresource: str) -> bool:
        return resource.plural in ASKED_ABOUT  # the server writes objects of its own meanwhile

    def admit(self, attributes: Attributes) -> Awaitable[None] | None:
        return self._step("admit", attributes)

    def validate(self, attributes: Attributes) -> Awaitable[None] | None:
        return self._step("validate", attributes)

    def _step(self, step: str, attributes: Attributes) -> Awaitable[None] | None:
        async def later() -> None:
            await asyncio.sleep(0)
            self._record(step, attributes)

        if self.wait:
            return later()
        self._record(step, attributes)
        return None

    def _record(self, step: str, attributes: Attributes) -> None:
        self.seen.append((step, attributes.operation, attributes.resource.plural, attributes.subresource, attributes.name))
        if self.change is not None and step == "admit":
            self.change(attributes)

    def of(self, step: str) -> list[tuple[Any, ...]]:
        return [seen[1:] for seen in self.seen if seen[0] == step]


def attributes() -> Attributes:
    return Attributes("CREATE", CONFIGMAP_ROW, "", "n", "a", {"metadata": {}}, None, User("jane"))


def trace(name: str, into: list[str]) -> Callable[[Attributes], None]:
    return lambda _: into.append(name)


def test_plugins_that_wait_are_awaited_before_the_next_is_asked() -> None:
    order: list[str] = []
    chain = AdmissionChain([Recorder(n, wait=n != "b", change=trace(n, order)) for n in ("a", "b", "c")])
    asyncio.run(chain.ask(attributes()))
    assert order == ["a", "b", "c"]


def test_a_chain_in_which_nobody_waits_answers_at_once() -> None:
    chain = AdmissionChain([Recorder(), Recorder()])
    assert chain.admit(attributes()) is None
    assert chain.validate(attributes()) is None


def test_mutating_plugins_are_asked_once_more_when_one_of_them_wants_it() -> None:
    order: list[str] = []

    def again(attributes: Attributes) -> None:
        order.append("b2" if attributes.reinvocable().is_second else "b")
        attributes.reinvocable().wanted = True

    async def main(*, wait: bool) -> None:
        pending = AdmissionChain([Recorder("a", change=trace("a", order)), Recorder("b", wait=wait, change=again)]).admit(attributes())
        assert pending is not None
        await pending

    for wait in (True, False):
        order.clear()
        asyncio.run(main(wait=wait))
        assert order == ["a", "b", "a", "b2"]


def test_interest_that_changes_is_asked_for_again() -> None:
    class Fickle(Recorder):
        interested = False
        changed: Callable[[], None]

        def handles(self, resource: Resource, subresource: str) -> bool:
            return self.interested

        def follow(self, interest_changed: Callable[[], None]) -> None:
            self.changed = interest_changed

    plugin = Fickle()
    chain = AdmissionChain([plugin])
    chain.admit(attributes())
    plugin.interested = True
    chain.admit(attributes())
    assert plugin.seen == []
    plugin.changed()
    chain.admit(attributes())
    assert len(plugin.seen) == 1


def test_metrics_tell_how_long_steps_and_plugins_take_by_outcome(tmp_path: Path) -> None:
    """Whether plugins wait or not; the whole step includes the second round."""
    time = iter(range(100))

    def refuse(attributes: Attributes) -> None:
        if attributes.name == "bad":
            raise errors.forbidden(CONFIGMAP_ROW, "bad", "no")
        attributes.reinvocable().wanted = True

    def asked(wait: bool, name: str) -> dict[str, float]:
        chain = AdmissionChain([Recorder("a"), Recorder("b", wait=wait, change=refuse)], monotonic=lambda: float(next(time)))
        about = attributes()
        about.name = name
        with suppress(Forbidden):
            asyncio.run(chain.ask(about))
        families = [*chain.metrics.steps.collect(), *chain.metrics.plugins.collect()]
        found = [sample for family in families for sample in family.samples if sample.name.endswith("_sum")]
        prefix, suffix = "apiserver_admission_", "_admission_duration_seconds_sum"
        return {
            f"{one.name.removeprefix(prefix).removesuffix(suffix)} {' '.join(one.labels.values())}": one.value for one in found
        }

    for wait in (True, False):
        assert asked(wait, "good") == {
            "step admit CREATE false": 4, "step validate CREATE false": 2,
            "controller a admit CREATE false": 2, "controller a validate CREATE false": 1,
            "controller b admit CREATE false": 2, "controller b validate CREATE false": 1,
        }  # fmt: skip
        assert asked(wait, "bad") == {
            "step admit CREATE true": 2, "controller a admit CREATE false": 1, "controller b admit CREATE true": 1,
        }  # fmt: skip


def install(api: Api, *plugins: Plugin) -> None:
    api.state.admission = AdmissionChain([*api.state.admission.plugins, *plugins])


@pytest.mark.parametrize("wait", [False, True])
def test_every_kind_of_write_is_admitted(tmp_path: Path, wait: bool) -> None:
    async def body(api: Api) -> None:
        await api.create(ACCOUNTS, ACCOUNT)
        recorder = Recorder(wait=wait)
        install(api, recorder)
        await api.create(CONFIGMAPS, configmap("a"))
        await api.put(f"{CONFIGMAPS}/a", configmap("a", {"k": "w"}))
        await api.merge(f"{CONFIGMAPS}/a", {"data": {"x": "y"}})
        applied = orjson_bytes(configmap("b"))
        await api.raw("PATCH", f"{CONFIGMAPS}/b?fieldManager=me", applied, Content_Type="application/apply-patch+yaml")
        await api.delete(f"{CONFIGMAPS}/b")
        await api.delete(CONFIGMAPS)
        expected = [("CREATE", "a"), ("UPDATE", "a"), ("UPDATE", "a"), ("CREATE", "b"), ("DELETE", "b"), ("DELETE", "")]
        assert [(op, name) for op, _, _, name in recorder.of("admit")] == expected
        assert recorder.of("admit") == recorder.of("validate")

    with_api(tmp_path, body)


def orjson_bytes(obj: Any) -> bytes:
    import orjson

    return orjson.dumps(obj)


def test_subresources_are_admitted_as_what_they_are(tmp_path: Path) -> None:
    kinds: list[tuple[str, str, str, str | None]] = []

    def note(attributes: Attributes) -> None:
        kinds.append((attributes.operation, attributes.subresource, attributes.kind[2], (attributes.obj or {}).get("kind")))

    async def body(api: Api) -> None:
        await api.create(ACCOUNTS, ACCOUNT)
        await api.create(PODS, pod("p"))
        await api.create(DEPLOYMENTS, deployment("d"))
        install(api, Recorder(change=note))
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}}
        await api.create(f"{PODS}/p/binding", binding)
        await api.merge(f"{PODS}/p/status", {"status": {"phase": "Running"}})
        await api.merge(f"{DEPLOYMENTS}/d/scale", {"spec": {"replicas": 3}})
        await api.raw("GET", f"{PODS}/p/exec?command=ls&stdout=true")
        await api.create(f"{PODS}/p/eviction", {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}})
        await api.create("/apis/authentication.k8s.io/v1/selfsubjectreviews", {})
        assert kinds == [
            ("CREATE", "binding", "Binding", "Binding"), ("UPDATE", "status", "Pod", "Pod"), ("UPDATE", "scale", "Scale", "Scale"),
            ("CONNECT", "exec", "PodExecOptions", "PodExecOptions"), ("CREATE", "eviction", "Eviction", "Eviction"),
            ("CREATE", "", "SelfSubjectReview", "SelfSubjectReview"),
        ]  # fmt: skip

    with_api(tmp_path, body)


def test_a_plugin_may_change_a_scale(tmp_path: Path) -> None:
    def limit(attributes: Attributes) -> None:
        if attributes.subresource == "scale" and attributes.obj is not None:
            attributes.obj["spec"]["replicas"] = min(attributes.obj["spec"]["replicas"], 2)

    async def body(api: Api) -> None:
        await api.create(DEPLOYMENTS, deployment("d"))
        install(api, Recorder(change=limit))
        scale = await api.merge(f"{DEPLOYMENTS}/d/scale", {"spec": {"replicas": 7}})
        assert scale["spec"]["replicas"] == 2
        assert (await api.get(f"{DEPLOYMENTS}/d"))["spec"]["replicas"] == 2

    with_api(tmp_path, body)


def test_a_generated_name_is_not_known_to_the_mutating_step(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        recorder = Recorder()
        install(api, recorder)
        made = await api.create(CONFIGMAPS, {"metadata": {"generateName": "g-"}})
        assert [name for *_, name in recorder.of("admit")] == [""]
        assert [name for *_, name in recorder.of("validate")] == [made["metadata"]["name"]]

    with_api(tmp_path, body)


class Settling(Plugin):
    """Learns what becomes of writes; refuses what it is told to."""

    def __init__(self, refused: str = "") -> None:
        self.refused = refused
        self.outcomes: list[bool] = []

    def handles(self, resource: Resource, subresource: str) -> bool:
        return resource == CONFIGMAP_ROW

    def validate(self, attributes: Attributes) -> None:
        attributes.when_settled(self.outcomes.append)
        if attributes.name == self.refused:
            raise errors.forbidden(attributes.resource, attributes.name, "no")


def test_plugins_learn_whether_the_write_took_place(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        plugin = Settling("refused")
        install(api, plugin)
        await api.create(CONFIGMAPS, configmap("a"))
        assert (await api.call("POST", CONFIGMAPS, configmap("a")))[0] == 409
        assert (await api.call("POST", CONFIGMAPS, configmap("refused")))[0] == 403
        await api.put(f"{CONFIGMAPS}/a", configmap("a", {"x": "y"}))
        await api.delete(f"{CONFIGMAPS}/a")
        assert plugin.outcomes == [True, False, False, True, True]

    with_api(tmp_path, body)


def test_admission_runs_again_on_the_newest_object_when_somebody_was_faster(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await api.create(CONFIGMAPS, configmap("a", {"n": "0"}))
        seen: list[str] = []

        class Slow(Plugin):
            async def _interfere(self, attributes: Attributes) -> None:
                assert attributes.old is not None
                seen.append(attributes.old["data"]["n"])
                if len(seen) == 1:
                    assert (await api.call("PUT", f"{CONFIGMAPS}/a", configmap("a", {"n": "1"})))[0] == 200

            def validate(self, attributes: Attributes) -> Awaitable[None] | None:
                return self._interfere(attributes) if attributes.obj and "mine" in attributes.obj["data"] else None

        install(api, Slow())
        merged = await api.merge(f"{CONFIGMAPS}/a", {"data": {"mine": "x"}})
        assert seen == ["0", "1"]
        assert merged["data"] == {"n": "1", "mine": "x"}

    with_api(tmp_path, body)


def test_a_refusal_of_the_server_stops_the_write() -> None:
    chain = AdmissionChain([Settling("a")])
    asked = attributes()
    with pytest.raises(Forbidden):
        asyncio.run(chain.ask(asked))
    assert asked.settlers is None
