"""Audit: policies, the contents of events, the log that rotates, the webhook."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from kubecosm.runtime.clock import RealClock
from kubecosm.runtime.errors import StartupError
from kubecosm.services.apiserver.audit.backends import Batching, Buffered
from kubecosm.services.apiserver.audit.build import build_auditor
from kubecosm.services.apiserver.audit.policy import Policy, load_policy
from kubecosm.services.apiserver.audit.rotation import MEBIBYTE, RotatingFile
from kubecosm.services.apiserver.auditflags import AuditFlags
from kubecosm.services.apiserver.authn.user import User
from kubecosm.services.apiserver.http.info import parse_path
from kubecosm.testing.virtualtime import VirtualClock, run_virtual

from .harness import CONFIGMAPS, PODS, Api, api_server, configmap
from .test_connect import cluster_of_one, upgrade

LOG_SECONDS_MAX = 5.0


def policy(tmp_path: Path, *rules: dict[str, Any], **fields: Any) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": list(rules), **fields}))
    return path


def level(loaded: Policy, verb: str, path: str, user: str = "jane", groups: tuple[str, ...] = ()) -> str:
    return loaded.of(User(user, groups), verb, parse_path(path)).level


def test_the_first_matching_rule_decides(tmp_path: Path) -> None:
    loaded = load_policy(policy(
        tmp_path,
        {"level": "None", "users": ["system:kube-proxy"], "verbs": ["watch"]},
        {"level": "None", "userGroups": ["quiet"]},
        {"level": "None", "nonResourceURLs": ["/healthz*", "/version"]},
        {"level": "RequestResponse", "resources": [{"group": "", "resources": ["pods/*"]}]},
        {"level": "Request", "resources": [{"group": "", "resources": ["configmaps"], "resourceNames": ["leader"]}]},
        {"level": "Request", "resources": [{"group": "apps"}], "namespaces": ["prod"]},
        {"level": "Metadata", "resources": [{"group": "", "resources": ["*/status", "secrets"]}]},
    ))  # fmt: skip
    assert level(loaded, "watch", "/api/v1/pods", "system:kube-proxy") == "None"
    assert level(loaded, "get", "/api/v1/namespaces/a/secrets/s", groups=("quiet",)) == "None"
    assert level(loaded, "get", "/healthz/ping") == "None"
    assert level(loaded, "get", "/api/v1/namespaces/a/pods/p/log") == "RequestResponse"
    assert level(loaded, "get", "/api/v1/namespaces/a/pods/p") == "RequestResponse"
    assert level(loaded, "update", "/api/v1/namespaces/a/configmaps/leader") == "Request"
    assert level(loaded, "update", "/api/v1/namespaces/a/configmaps/other") == "None"
    assert level(loaded, "get", "/apis/apps/v1/namespaces/prod/deployments/d") == "Request"
    assert level(loaded, "get", "/apis/apps/v1/namespaces/dev/deployments/d") == "None"
    assert level(loaded, "patch", "/api/v1/nodes/n/status") == "Metadata"


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": []}, "illegal policy with 0 rules"),
        ({"apiVersion": "v1", "kind": "Policy", "rules": [{"level": "None"}]}, "audit.k8s.io/v1"),
        ({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "All"}]}, "rules[0].level"),
        ({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "None", "omitStages": ["X"]}]}, "allowed stages"),
        ({"apiVersion": "audit.k8s.io/v1", "kind": "Policy",
          "rules": [{"level": "None", "nonResourceURLs": ["/"], "namespaces": ["a"]}]}, "both regular resources and non-resource"),
    ],
)  # fmt: skip
def test_a_policy_that_cannot_be_used_is_refused_with_the_field(tmp_path: Path, document: Any, words: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(StartupError) as refused:
        load_policy(path)
    assert words in str(refused.value)


def read_log(log: Path) -> list[dict[str, Any]]:
    whole = log.read_text().rpartition("\n")[0] if log.exists() else ""  # what follows is still being written
    return [json.loads(line) for line in whole.splitlines()]


async def events_of(log: Path, audit_id: str, count: int) -> list[dict[str, Any]]:
    """The events of one request, once so many are in the log."""
    async with asyncio.timeout(LOG_SECONDS_MAX):
        while True:
            found = [event for event in read_log(log) if event["auditID"] == audit_id]
            if len(found) >= count:
                return found
            await asyncio.sleep(0)


def audited(tmp_path: Path, test: Any, *rules: dict[str, Any], **fields: Any) -> None:
    async def main() -> None:
        log = tmp_path / "audit.log"
        flags = {"audit_policy_file": str(policy(tmp_path, *rules, **fields)), "audit_log_path": str(log)}
        async with api_server(tmp_path, **flags) as api:
            await test(api, log)

    asyncio.run(main())


def test_an_event_tells_who_did_what_and_what_became_of_it(tmp_path: Path) -> None:
    async def test(api: Api, log: Path) -> None:
        headers = {"User_Agent": "tool/1", "Audit_ID": "my-id"}
        reply = await api.raw("POST", CONFIGMAPS + "?fieldManager=me", configmap("a"), token="user-token", **headers)
        received, complete = await events_of(log, "my-id", 2)
        assert reply.headers["Audit-Id"] == "my-id"
        assert received["stage"] == "RequestReceived"
        assert "responseStatus" not in received
        assert "annotations" not in received
        stamps = [complete.pop("requestReceivedTimestamp"), complete.pop("stageTimestamp")]
        assert stamps == sorted(stamps)
        assert complete == {
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": "my-id", "stage": "ResponseComplete",
            "requestURI": CONFIGMAPS + "?fieldManager=me", "verb": "create",
            "user": {"username": "jane", "uid": "1001", "groups": ["devs", "qa", "system:authenticated"]},
            "sourceIPs": ["127.0.0.1"], "userAgent": "tool/1",
            "objectRef": {"resource": "configmaps", "namespace": "default", "name": "a", "apiVersion": "v1"},
            "responseStatus": {"metadata": {}, "code": 201},
            "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""},
        }  # fmt: skip

    audited(tmp_path, test, {"level": "Metadata"})


def test_failures_bring_their_status_and_impersonation_both_users(tmp_path: Path) -> None:
    async def test(api: Api, log: Path) -> None:
        reply = await api.raw("GET", CONFIGMAPS + "/none", Impersonate_User="jane", Audit_ID="x", X_Forwarded_For="10.0.0.9")
        (event,) = await events_of(log, "x", 1)
        assert reply.status == 404
        assert event["responseStatus"] == {
            "metadata": {}, "status": "Failure", "message": 'configmaps "none" not found', "reason": "NotFound",
            "details": {"name": "none", "kind": "configmaps"}, "code": 404,
        }  # fmt: skip
        assert (event["user"]["username"], event["impersonatedUser"]["username"]) == ("admin", "jane")
        assert event["sourceIPs"] == ["10.0.0.9", "127.0.0.1"]
        await api.raw("GET", CONFIGMAPS, token="nobody", Audit_ID="y")
        (denied,) = await events_of(log, "y", 1)
        status = denied["responseStatus"]
        assert (denied["stage"], status["code"], status["reason"]) == ("ResponseStarted", 401, "Unauthorized")

    audited(tmp_path, test, {"level": "Metadata", "omitStages": ["RequestReceived"]})


def test_bodies_are_recorded_at_the_levels_that_say_so(tmp_path: Path) -> None:
    async def test(api: Api, log: Path) -> None:
        await api.create(CONFIGMAPS, configmap("a"), Audit_ID="c")
        await api.merge(f"{CONFIGMAPS}/a", {"data": {"x": "y"}}, Audit_ID="p")
        (created,), (patched,) = await events_of(log, "c", 1), await events_of(log, "p", 1)
        assert created["requestObject"]["data"] == {"k": "v"}
        assert created["responseObject"]["metadata"]["uid"]
        assert "managedFields" not in created["responseObject"]["metadata"]
        assert patched["requestObject"] == {"data": {"x": "y"}}
        assert patched["responseObject"]["data"] == {"k": "v", "x": "y"}
        await api.create("/api/v1/namespaces/default/secrets", {"metadata": {"name": "s"}, "stringData": {"k": "v"}}, Audit_ID="s")
        (secret,) = await events_of(log, "s", 1)
        assert "requestObject" not in secret
        assert "responseObject" not in secret
        async with api.watch(f"{CONFIGMAPS}?watch=true", Audit_ID="w") as watch:
            await watch.next()
            (started,) = await events_of(log, "w", 1)
        assert (started["stage"], started["responseStatus"]) == ("ResponseStarted", {"metadata": {}, "code": 200})

    secrets = {"level": "Metadata", "resources": [{"group": "", "resources": ["secrets"]}]}
    audited(tmp_path, test, secrets, {"level": "RequestResponse"}, omitStages=["RequestReceived"], omitManagedFields=True)


def test_metrics_count_events_and_levels(tmp_path: Path) -> None:
    async def test(api: Api, log: Path) -> None:
        await api.get(CONFIGMAPS, Audit_ID="g")
        await events_of(log, "g", 2)
        text = (await api.raw("GET", "/metrics")).text
        assert "apiserver_audit_event_total 3.0" in text
        assert 'apiserver_audit_level_total{level="Metadata"} 2.0' in text

    audited(tmp_path, test, {"level": "Metadata"})


def test_nothing_is_recorded_without_a_policy(tmp_path: Path) -> None:
    async def main() -> None:
        async with api_server(tmp_path, audit_log_path=str(tmp_path / "audit.log")) as api:
            await api.get(CONFIGMAPS)
            assert api.state.auditor is None
        assert not (tmp_path / "audit.log").exists()

    asyncio.run(main())


def webhook_kubeconfig(tmp_path: Path, port: int) -> Path:
    """Of a server on that port."""
    kubeconfig = tmp_path / "webhook.yaml"
    kubeconfig.write_text(yaml.safe_dump({
        "apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "u", "user": {}}],
        "clusters": [{"name": "k", "cluster": {"server": f"http://127.0.0.1:{port}/audit"}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
    }))  # fmt: skip
    return kubeconfig


def test_a_webhook_gets_events_in_lists(tmp_path: Path) -> None:
    async def main() -> None:
        got: asyncio.Queue[Any] = asyncio.Queue(100)

        async def receive(request: web.BaseRequest) -> web.StreamResponse:
            got.put_nowait(await request.json())
            return web.Response()

        listener = await asyncio.get_running_loop().create_server(web.Server(receive), "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        kubeconfig = webhook_kubeconfig(tmp_path, port)
        flags = {"audit_policy_file": str(policy(tmp_path, {"level": "Metadata"})), "audit_webhook_config_file": str(kubeconfig)}
        async with api_server(tmp_path, **flags) as api:
            await api.get(CONFIGMAPS, Audit_ID="g")
            async with asyncio.timeout(5):
                events = (await got.get())
        listener.close()
        assert (events["kind"], events["apiVersion"]) == ("EventList", "audit.k8s.io/v1")
        assert {event["stage"] for event in events["items"] if event["auditID"] == "g"} == {"RequestReceived", "ResponseComplete"}

    asyncio.run(main())


def test_the_log_rotates_and_keeps_as_many_as_told(tmp_path: Path) -> None:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    file = RotatingFile(str(tmp_path / "audit.log"), size_max_mib=1, backups_max=2, age_max_days=0)
    for n in range(5):
        if file.write(bytes([48 + n]) * MEBIBYTE, now + timedelta(seconds=n)):
            file.tidy(now)
    file.close()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["audit-2026-11-21T00-00-03.000.log", "audit-2026-11-21T00-00-04.000.log", "audit.log"]
    assert (tmp_path / "audit.log").read_bytes()[:1] == b"4"
    assert (tmp_path / "audit.log").stat().st_mode & 0o777 == 0o600


def test_old_logs_are_compressed_and_those_beyond_the_bounds_removed(tmp_path: Path) -> None:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    file = RotatingFile(str(tmp_path / "audit.log"), size_max_mib=1, backups_max=2, age_max_days=0, compresses=True)
    for n in range(5):
        if file.write(bytes([48 + n]) * MEBIBYTE, now + timedelta(seconds=n)):
            file.tidy(now)
    file.close()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["audit-2026-11-21T00-00-03.000.log.gz", "audit-2026-11-21T00-00-04.000.log.gz", "audit.log"]
    assert gzip.decompress((tmp_path / names[1]).read_bytes()) == b"3" * MEBIBYTE


class Collected:
    """A sink that remembers its batches."""

    name = "test"

    def __init__(self) -> None:
        self.is_closing = False
        self.batches: list[tuple[float, list[bytes]]] = []

    def write(self, events: Sequence[bytes]) -> bool:
        raise NotImplementedError

    async def write_behind(self, events: Sequence[bytes]) -> bool:
        self.batches.append((asyncio.get_running_loop().time(), list(events)))
        return True

    async def run(self) -> None:
        """Nothing to look after."""


def gathered(batching: Batching, events: Sequence[bytes], seconds: float) -> list[tuple[float, list[bytes]]]:
    """The batches, with their times, of events that come all at once."""

    async def main() -> list[tuple[float, list[bytes]]]:
        sink, clock = Collected(), VirtualClock()
        backend = Buffered(sink, clock, batching)
        start = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(backend.run())
            for event in events:
                backend.add(event)
            await clock.sleep(seconds)
            found = list(sink.batches)
            running.cancel()
        return [(round(at - start, 3), batch) for at, batch in found]

    return run_virtual(main())


def test_batches_are_bounded_in_number_size_and_pace() -> None:
    events = [b"%d" % i for i in range(5)]
    assert gathered(Batching(batch_events_max=2, wait_seconds=1.0), events, 5.0) == [
        (1.0, [b"0", b"1"]), (1.0, [b"2", b"3"]), (1.0, [b"4"]),
    ]  # fmt: skip
    assert [at for at, _ in gathered(Batching(batch_events_max=1, wait_seconds=0.0, batches_per_second=2.0, burst=3), events, 5.0)] == [
        0.0, 0.0, 0.0, 0.5, 1.0,
    ]  # fmt: skip
    assert [batch for _, batch in gathered(Batching(batch_bytes_max=2), [b"aaaa", b"b", b"c", b"d"], 5.0)] == [
        [b"aaaa"], [b"b", b"c"], [b"d"],
    ]  # fmt: skip
    assert [batch for _, batch in gathered(Batching(buffer_events_max=2), events, 5.0)] == [[b"0", b"1"]]


def test_a_blocking_log_has_the_event_before_the_answer_is_sent(tmp_path: Path) -> None:
    async def main() -> None:
        log = tmp_path / "audit.log"
        flags = {"audit_policy_file": str(policy(tmp_path, {"level": "Metadata"})), "audit_log_path": str(log)}
        async with api_server(tmp_path, **flags, audit_log_mode="blocking") as api:
            for i in range(20):
                await api.get(CONFIGMAPS, Audit_ID=f"g{i}")
                assert [event["stage"] for event in read_log(log) if event["auditID"] == f"g{i}"] == ["RequestReceived", "ResponseComplete"]

    asyncio.run(main())


@pytest.mark.parametrize(("mode", "code"), [("blocking", 200), ("blocking-strict", 500)])
def test_only_the_strict_mode_fails_requests_that_cannot_be_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, code: int
) -> None:
    def full(self: RotatingFile, data: bytes, now: datetime) -> bool:
        raise OSError(28, "No space left on device")

    async def main() -> None:
        omitted = {"level": "None", "nonResourceURLs": ["/metrics"]}
        rules = policy(tmp_path, omitted, {"level": "Metadata"})
        flags = {"audit_policy_file": str(rules), "audit_log_path": str(tmp_path / "audit.log"), "audit_log_mode": mode}
        async with api_server(tmp_path, **flags) as api:
            monkeypatch.setattr(RotatingFile, "write", full)
            reply = await api.raw("GET", CONFIGMAPS)
            assert reply.status == code
            metrics = (await api.raw("GET", "/metrics")).text
            if code == 500:
                assert reply.text == f'Internal Server Error: "{CONFIGMAPS}": failed to store audit event\n'
                assert "apiserver_audit_requests_rejected_total 1.0" in metrics
            else:
                assert 'apiserver_audit_error_total{plugin="log"} 2.0' in metrics

    asyncio.run(main())


def test_large_events_lose_their_objects_and_say_so(tmp_path: Path) -> None:
    async def main() -> None:
        log = tmp_path / "audit.log"
        rules = policy(tmp_path, {"level": "RequestResponse", "omitStages": ["RequestReceived"]})
        flags = {"audit_policy_file": str(rules), "audit_log_path": str(log), "audit_log_mode": "blocking"}
        async with api_server(tmp_path, **flags, audit_log_truncate_enabled=True, audit_log_truncate_max_event_size=2000) as api:
            await api.create(CONFIGMAPS, configmap("small"), Audit_ID="small")
            await api.create(CONFIGMAPS, configmap("large", {"k": "x" * 2000}), Audit_ID="large")
        small, large = ([event for event in read_log(log) if event["auditID"] == name] for name in ("small", "large"))
        assert "responseObject" in small[0]
        assert "audit.k8s.io/truncated" not in small[0]["annotations"]
        assert not {"requestObject", "responseObject"} & set(large[0])
        assert large[0]["annotations"]["audit.k8s.io/truncated"] == "true"
        assert large[0]["annotations"]["authorization.k8s.io/decision"] == "allow"

    asyncio.run(main())


@pytest.mark.parametrize("mode", ["blocking", "blocking-strict"])
def test_a_blocking_webhook_is_asked_before_the_request_goes_on(tmp_path: Path, mode: str) -> None:
    async def main() -> None:
        seen: list[str] = []
        answers = iter([200, 200])

        async def receive(request: web.BaseRequest) -> web.StreamResponse:
            seen.append((await request.json())["items"][0]["stage"])
            return web.Response(status=next(answers, 400))

        listener = await asyncio.get_running_loop().create_server(web.Server(receive), "127.0.0.1", 0)
        kubeconfig = webhook_kubeconfig(tmp_path, listener.sockets[0].getsockname()[1])
        flags = {"audit_policy_file": str(policy(tmp_path, {"level": "Metadata"})), "audit_webhook_config_file": str(kubeconfig)}
        async with api_server(tmp_path, **flags, audit_webhook_mode=mode, audit_webhook_initial_backoff=0.001) as api:
            await api.get(CONFIGMAPS)
            assert seen == ["RequestReceived", "ResponseComplete"]
            assert (await api.raw("GET", CONFIGMAPS)).status == (500 if mode == "blocking-strict" else 200)
        listener.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"audit_log_mode": "strict"}, "--audit-log-mode 'strict': expected one of batch, blocking, blocking-strict"),
        ({"audit_log_version": "audit.k8s.io/v2"}, "--audit-log-version 'audit.k8s.io/v2': expected audit.k8s.io/v1"),
    ],
)
def test_flags_that_cannot_be_meant_are_refused(tmp_path: Path, flags: dict[str, Any], words: str) -> None:
    async def main() -> None:
        audit: dict[str, Any] = {
            "audit_policy_file": str(policy(tmp_path, {"level": "Metadata"})), "audit_log_path": str(tmp_path / "log"), **flags,
        }  # fmt: skip
        with pytest.raises(StartupError) as refused:
            build_auditor(AuditFlags(**audit), RealClock())
        assert words in str(refused.value)

    asyncio.run(main())


def test_streams_to_kubelets_tell_when_they_begin_and_end(tmp_path: Path) -> None:
    async def main() -> None:
        log = tmp_path / "audit.log"
        flags = {"audit_policy_file": str(policy(tmp_path, {"level": "Metadata"}, omitStages=["RequestReceived"])),
                 "audit_log_path": str(log), "audit_log_mode": "blocking"}  # fmt: skip
        async with cluster_of_one(tmp_path, **flags) as (api, _):
            reader, writer = await upgrade(api, f"{PODS}/web/exec?command=sh&stdin=true")
            assert b"101" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            begun = [event for event in read_log(log) if (event.get("objectRef") or {}).get("subresource") == "exec"]
            assert [(event["stage"], event["responseStatus"]["code"]) for event in begun] == [("ResponseStarted", 101)]
            writer.close()
            done = await events_of(log, begun[0]["auditID"], 2)
            assert (done[1]["stage"], done[1]["responseStatus"]["code"], done[1]["verb"]) == ("ResponseComplete", 101, "create")
            await api.raw("GET", f"{PODS}/web/log", Audit_ID="log")
            assert [event["stage"] for event in await events_of(log, "log", 2)] == ["ResponseStarted", "ResponseComplete"]
            await api.raw("GET", f"{PODS}/none/log", Audit_ID="none")
            found = await events_of(log, "none", 2)
            assert [(event["stage"], event["responseStatus"]["code"]) for event in found] == [
                ("ResponseStarted", 404), ("ResponseComplete", 404),
            ]  # fmt: skip

    asyncio.run(main())


def test_the_legacy_format_is_a_line_of_text(tmp_path: Path) -> None:
    async def main() -> None:
        log = tmp_path / "audit.log"
        rules = policy(tmp_path, {"level": "Metadata", "omitStages": ["RequestReceived"]})
        async with api_server(tmp_path, audit_policy_file=str(rules), audit_log_path=str(log), audit_log_format="legacy") as api:
            await api.get(CONFIGMAPS, Audit_ID="g", User_Agent="tool/1")
        line = next(line for line in log.read_text().splitlines() if 'id="g"' in line)
        assert 'stage="ResponseComplete" ip="127.0.0.1" method="list" user="admin"' in line
        assert line.endswith(f'user-agent="tool/1" namespace="default" uri="{CONFIGMAPS}" response="200"')

    asyncio.run(main())
