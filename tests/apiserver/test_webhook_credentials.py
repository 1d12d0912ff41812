"""Who the server says it is to admission webhooks: kubeConfigFile in the configuration of the plugins that ask them."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest
import yaml

from kubecosm.client.config import Credentials
from kubecosm.runtime.errors import StartupError
from kubecosm.services.apiserver.admission.configuration import load_configuration
from kubecosm.services.apiserver.webhook.client import read_target
from kubecosm.services.apiserver.webhook.credentials import CredentialBook

from .harness import CONFIGMAPS, Api, admission_configuration, api_server, configmap, with_api
from .outsiders import Authority
from .webhook_server import WebhookServer, allow, mutate, rule, validate


def kubeconfig(folder: Path, users: dict[str, dict[str, str]]) -> Path:
    path = folder / "users.kubeconfig"
    path.write_text(yaml.safe_dump({"kind": "Config", "users": [{"name": name, "user": user} for name, user in users.items()]}))
    return path


def webhooks(path: Path | str) -> dict[str, str]:
    return {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "WebhookAdmissionConfiguration", "kubeConfigFile": str(path)}


def test_webhooks_are_shown_the_token_or_the_certificate_meant_for_them(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "clients")
    certificate, key = authority.issue("apiserver")

    async def main() -> None:
        async with WebhookServer(allow, authority.file) as checks, WebhookServer(allow, authority.file) as changes:
            (tmp_path / "token").write_text("rotates\n")
            shown = {"client-certificate": certificate.name, "client-key": str(key), "tokenFile": "token"}
            users = {f"127.0.0.1:{checks.port}": shown, "*": {"username": "me", "password": "secret"}}
            used = webhooks(kubeconfig(tmp_path, users))
            flags = admission_configuration(tmp_path, ValidatingAdmissionWebhook=used, MutatingAdmissionWebhook=used)
            async with api_server(tmp_path, **flags) as api:
                await validate(api, checks, rule("configmaps"))
                await mutate(api, changes, rule("configmaps"))
                await api.create(CONFIGMAPS, configmap("a"))
                (tmp_path / "token").write_text("rotated")
                await api.create(CONFIGMAPS, configmap("b"))
            assert checks.callers == [("Bearer rotates", "apiserver"), ("Bearer rotated", "apiserver")]
            assert changes.callers == [("Basic " + base64.b64encode(b"me:secret").decode(), "")] * 2
            assert (len(checks.connections), len(changes.connections)) == (1, 1)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("names", "target", "found"),
    [
        (("hook.ns.svc:8443", "hook.ns.svc", "*"), ("hook", "ns", 8443), "hook.ns.svc:8443"),
        (("hook.ns.svc", "*.svc:8443", "*"), ("hook", "ns", 8443), "*.svc:8443"),
        (("hook.ns.svc", "*.svc", "*"), ("hook", "ns", 443), "hook.ns.svc"),
        (("*.svc", "*.ns.svc", "*"), ("hook", "ns", 443), "*.ns.svc"),
        (("hook.ns.svc", "*"), ("hook", "ns", 8443), "*"),
        (("hook.ns.svc", "me"), ("hook", "ns", 8443), "me"),
        (("hook.ns.svc",), ("hook", "ns", 8443), None),
    ],
)
def test_the_closest_name_counts(names: tuple[str, ...], target: tuple[str, str, int], found: str | None) -> None:
    users = {name: Credentials(token=name) for name in names}
    service, namespace, port = target
    config = {"service": {"name": service, "namespace": namespace, "port": port}}
    credentials = CredentialBook(users, "me").of(read_target(config))
    assert (credentials.token if credentials else None) == found


@pytest.mark.parametrize(
    ("configuration", "why"),
    [
        (webhooks("users.kubeconfig"), 'kubeConfigFile: Invalid value: "users.kubeconfig": must be an absolute file path'),
        (webhooks("/nowhere/at/all"), "cannot read /nowhere/at/all"),
        ({"apiVersion": "v1", "kind": "Config"}, "must be apiserver.config.k8s.io/v1 WebhookAdmissionConfiguration or"),
        ({"kubeConfigFile": "/x"}, "not an object without kind"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_told_at_start(tmp_path: Path, configuration: dict[str, str], why: str) -> None:
    flags = admission_configuration(tmp_path, MutatingAdmissionWebhook=configuration)

    async def never(api: Api) -> None:
        raise AssertionError("it started")

    with pytest.raises(StartupError, match=why.replace(".", "\\.")):
        with_api(tmp_path, never, **flags)


def test_users_that_need_a_plugin_are_refused(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, {"me": {"exec": "x"}})
    with pytest.raises(StartupError, match="users with exec are not supported here"):
        CredentialBook.load(str(path), "flag")


def test_a_configuration_without_kind_may_stand_for_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text("podNodeSelectorPluginConfig: {clusterDefaultNodeSelector: 'a=b'}")
    assert list(load_configuration(str(path))) == ["PodNodeSelector"]
