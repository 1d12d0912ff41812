"""The client library against the real apiserver, in a process of its own that is killed and comes back."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from kubecosm.api.errors import ApiError, Conflict, NotFound
from kubecosm.api.meta import Key, key_of
from kubecosm.api.resources import CONFIGMAPS, EVENTS, EVENTS_V1, LEASES, Object
from kubecosm.client.config import ClientConfig
from kubecosm.client.controller import Context, ControllerSpec, Result, done
from kubecosm.client.events import EventRecorder
from kubecosm.client.http import TRANSPORT_ERRORS, ApiClient, PatchType
from kubecosm.client.informer import Informer, InformerFactory
from kubecosm.client.leaderelection import LeaderElector
from kubecosm.client.runner import run_controllers
from kubecosm.client.series import SeriesRecorder
from kubecosm.runtime.clock import RealClock
from kubecosm.testing.waiting import wait_for_condition, wait_until

pytestmark = pytest.mark.process

START_SECONDS_MAX = 30.0


class Apiserver:
    """A real apiserver on a port of its own that keeps its data over restarts."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, 0
        (folder / "tokens.csv").write_text('secret,admin,1,"system:masters"\n')
        self.start()

    def start(self) -> None:
        notify, notify_write = os.pipe()
        arguments = [f"--secure-port={self._port}", f"--data-dir={self._folder}", f"--token-auth-file={self._folder / 'tokens.csv'}"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "kubecosm.services.apiserver", *arguments, f"--notify-fd={notify_write}"],
                pass_fds=[notify_write], stdout=log, stderr=log,
            )  # fmt: skip
        os.close(notify_write)
        with os.fdopen(notify) as reader:
            notice = json.loads(reader.readline() or "{}")
        assert notice.get("ready"), f"the apiserver did not start: {notice}\n{(self._folder / 'log').read_text()}"
        self._port = notice["ports"]["secure"]

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(START_SECONDS_MAX)

    def client(self) -> ApiClient:
        config = ClientConfig(f"https://127.0.0.1:{self._port}", token="secret", insecure_skip_tls_verify=True)
        return ApiClient(config, clock=RealClock(), user_agent="kubecosm-test")


@pytest.fixture(scope="module")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apiserver]:
    started = Apiserver(tmp_path_factory.mktemp("apiserver"))
    yield started
    started.kill()


@pytest.fixture(autouse=True)
def collect_broken_connections() -> Iterator[None]:
    """asyncio now and then leaves the TLS connection to a killed process to the garbage collector, which then warns in some later test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def configmap(name: str, value: str = "0", namespace: str = "default") -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": {"value": value}}


def test_every_verb_is_understood(apiserver: Apiserver) -> None:
    async def main() -> None:
        async with apiserver.client() as client:
            created = await client.create(CONFIGMAPS, configmap("verbs"))
            updated = await client.update(CONFIGMAPS, {**created, "data": {"value": "1"}})
            with pytest.raises(Conflict):
                await client.update(CONFIGMAPS, created)
            patches: list[tuple[PatchType, object]] = [
                (PatchType.MERGE, {"data": {"merge": "x"}}),
                (PatchType.STRATEGIC, {"data": {"strategic": "x"}}),
                (PatchType.JSON, [{"op": "add", "path": "/data/json", "value": "x"}]),
            ]
            for patch_type, patch in patches:
                await client.patch(CONFIGMAPS, "verbs", patch, "default", patch_type=patch_type)
            found = await client.get(CONFIGMAPS, "verbs", "default")
            assert found["data"] == {"value": "1", "merge": "x", "strategic": "x", "json": "x"}
            assert found["metadata"]["uid"] == updated["metadata"]["uid"]
            page = await client.list(CONFIGMAPS, "default", field_selector="metadata.name=verbs")
            assert [item["metadata"]["name"] for item in page["items"]] == ["verbs"]
            gone = await client.delete(CONFIGMAPS, "verbs", "default")
            assert gone["status"] == "Success"
            with pytest.raises(NotFound, match='configmaps "verbs" not found'):
                await client.get(CONFIGMAPS, "verbs", "default")
            assert json.loads(await client.request("GET", "/version"))["major"] == "1"

    asyncio.run(main())


def test_events_and_leases_are_accepted(apiserver: Apiserver) -> None:
    async def main() -> None:
        clock = RealClock()
        async with apiserver.client() as client, asyncio.TaskGroup() as tasks:
            recorder, series = EventRecorder(client, "tester", clock), SeriesRecorder(client, "tester", "tester-1", clock)
            writing = [tasks.create_task(recorder.run()), tasks.create_task(series.run())]
            obj = await client.create(CONFIGMAPS, configmap("subject"))
            for _ in range(2):
                recorder.event(obj, CONFIGMAPS, "Normal", "Seen", "it was seen")
                series.event(obj, CONFIGMAPS, "Warning", "Refused", "Judging", "it was refused")
            await recorder.wait_written()
            await series.wait_written()
            core = [event for event in (await client.list(EVENTS, "default"))["items"] if event["reason"] == "Seen"]
            assert [(event["count"], event["message"]) for event in core] == [(2, "it was seen")]
            newer = [event for event in (await client.list(EVENTS_V1, "default"))["items"] if event["reason"] == "Refused"]
            assert [(event["series"]["count"], event["note"]) for event in newer] == [(2, "it was refused")]
            assert recorder.dropped == series.dropped == 0
            elector = LeaderElector(client, "test", "one", clock, random=Random(1))
            await elector.run(lambda: clock.sleep(0))
            lease = await client.get(LEASES, "test", "kube-system")
            assert (lease["spec"].get("holderIdentity", ""), lease["spec"]["leaseTransitions"]) == ("", 0)
            for task in writing:
                task.cancel()

    asyncio.run(main())


async def write_until_done(client: ApiClient, count: int) -> None:
    """Create so many ConfigMaps and update or delete some, however often the server goes away meanwhile."""
    for number in range(count):
        name = f"c{number}"
        while True:
            try:
                await client.create(CONFIGMAPS, configmap(name))
                if number % 3 == 0:
                    await client.delete(CONFIGMAPS, name, "default")
                elif number % 3 == 1:
                    await client.patch(CONFIGMAPS, name, {"data": {"value": "1"}}, "default", patch_type=PatchType.MERGE)
                break
            except TRANSPORT_ERRORS:
                await client.clock.sleep(0.05)
            except ApiError as error:
                if error.reason not in ("AlreadyExists", "NotFound"):
                    raise
                break  # an earlier try did arrive


def test_an_informer_follows_through_kills_of_the_server(apiserver: Apiserver) -> None:
    async def main() -> None:
        clock = RealClock()
        async with apiserver.client() as client, asyncio.TaskGroup() as tasks:
            informer = Informer(client, CONFIGMAPS, clock=clock, random=Random(1))
            following = tasks.create_task(informer.run())
            await informer.wait_synced()
            writing = tasks.create_task(write_until_done(client, 300))
            for kill in range(2):
                await wait_until(lambda least=50 * (kill + 1): len(informer.store) > least)  # type: ignore[misc]
                await asyncio.to_thread(apiserver.kill)
                await asyncio.to_thread(apiserver.start)
            await writing
            items = (await client.list(CONFIGMAPS))["items"]
            wanted = {Key(i["metadata"]["namespace"], i["metadata"]["name"]): i["metadata"]["resourceVersion"] for i in items}

            def held() -> dict[Key, str]:
                return {key_of(obj): obj["metadata"]["resourceVersion"] for obj in informer.store}

            await wait_until(lambda: held() == wanted)
            following.cancel()

    asyncio.run(main())


def test_a_controller_reconciles_what_it_is_given(apiserver: Apiserver) -> None:
    class Mirror:
        """Keeps a copy `<name>-copy` of every ConfigMap called mirror-*."""

        SPEC = ControllerSpec("mirror", primary=CONFIGMAPS)

        async def reconcile(self, ctx: Context, key: Key) -> Result:
            source = ctx.cache(CONFIGMAPS).get(key)
            if source is None or not key.name.startswith("mirror-") or key.name.endswith("-copy"):
                return done()
            copy = {**configmap(f"{key.name}-copy"), "data": source["data"]}
            if ctx.cache(CONFIGMAPS).get(Key(key.namespace, f"{key.name}-copy")) is None:
                ctx.expect_written(await ctx.client.create(CONFIGMAPS, copy))
            else:
                ctx.expect_written(await ctx.client.update(CONFIGMAPS, copy))
            return done()

    async def main() -> None:
        clock = RealClock()
        async with apiserver.client() as client, asyncio.TaskGroup() as tasks:
            factory, synced = InformerFactory(client, clock), asyncio.Event()
            running = [
                tasks.create_task(factory.run()),
                tasks.create_task(run_controllers([Mirror()], client, clock, Random(1), factory=factory, on_synced=synced.set)),
            ]
            await synced.wait()
            for number in range(20):
                await client.create(CONFIGMAPS, configmap(f"mirror-{number}", str(number)))
            await client.patch(CONFIGMAPS, "mirror-7", {"data": {"value": "seven"}}, "default", patch_type=PatchType.MERGE)
            await wait_for_condition(
                client, CONFIGMAPS, "mirror-7-copy", lambda obj: obj is not None and obj["data"]["value"] == "seven", "default"
            )
            await wait_for_condition(client, CONFIGMAPS, "mirror-19-copy", lambda obj: obj is not None, "default")
            for task in running:
                task.cancel()

    asyncio.run(main())
