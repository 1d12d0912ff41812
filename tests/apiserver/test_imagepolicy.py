"""ImagePolicyWebhook: a service outside decides over images; its answers are remembered, its absence is decided by configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from kubecosm.runtime.errors import StartupError
from kubecosm.services.apiserver.admission.imagepolicy import read_settings

from .harness import ACCOUNT, ACCOUNTS, PODS, Api, admission_configuration, pod, with_api
from .webhook_server import WebhookServer, ca_bundle


def settings(tmp_path: Path, url: str, **more: Any) -> dict[str, Any]:
    """Flags of a server that asks the service at `url`."""
    kubeconfig = {
        "clusters": [{"name": "c", "cluster": {"server": url, "certificate-authority-data": ca_bundle()}}],
        "users": [{"name": "u", "user": {}}], "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x", "apiVersion": "v1", "kind": "Config",
    }  # fmt: skip
    (tmp_path / "images.kubeconfig").write_bytes(orjson.dumps(kubeconfig))
    policy = {"kubeConfigFile": str(tmp_path / "images.kubeconfig"), "retryBackoff": 500, **more}
    flags = admission_configuration(tmp_path, ImagePolicyWebhook={"imagePolicy": policy})
    return {"enable_admission_plugins": ("ImagePolicyWebhook",), **flags}


class ImageService(WebhookServer):
    """Refuses images that say so."""

    def __init__(self) -> None:
        super().__init__(lambda _: b"")

    async def _handle(self, request: Any) -> Any:
        from aiohttp import web

        review = orjson.loads(await request.read())
        self.asked.append(review["spec"])
        bad = [each["image"] for each in review["spec"]["containers"] if "bad" in each["image"]]
        status = {"allowed": not bad, "reason": f"{bad[0]} is bad"} if bad else {"allowed": True}
        return web.json_response({**review, "status": status})


def run_with_service(tmp_path: Path, **more: Any) -> None:
    import asyncio

    from .harness import api_server

    async def main() -> None:
        async with ImageService() as service:
            flags = settings(tmp_path, f"https://127.0.0.1:{service.port}/images", **more)
            async with api_server(tmp_path, **flags) as api:
                await check(api, service)

    asyncio.run(main())


async def check(api: Api, service: ImageService) -> None:
    await api.create(ACCOUNTS, ACCOUNT)
    annotated = pod("good")
    annotated["metadata"]["annotations"] = {"team.image-policy.k8s.io/ticket": "7", "other": "x"}
    await api.create(PODS, annotated)
    spec = {"containers": [{"image": "nginx"}], "annotations": {"team.image-policy.k8s.io/ticket": "7"}, "namespace": "default"}
    assert service.asked == [spec]
    bad = pod("bad", containers=[{"name": "c", "image": "bad:1"}])
    for _ in range(2):
        code, status = await api.call("POST", PODS, bad)
        why = "image policy webhook backend denied one or more images: bad:1 is bad"
        assert (code, status["message"]) == (403, f'pods "bad" is forbidden: {why}')
    assert len(service.asked) == 2, "the refusal is remembered"


def test_the_service_decides_over_images_and_its_answers_are_remembered(tmp_path: Path) -> None:
    run_with_service(tmp_path)


@pytest.mark.parametrize("default_allow", [False, True])
def test_a_service_that_is_away_is_decided_by_default_allow(tmp_path: Path, default_allow: bool) -> None:
    async def body(api: Api) -> None:
        [plugin] = [p for p in api.state.admission.plugins if p.name == "ImagePolicyWebhook"]

        async def at_once(_: float) -> None: ...

        plugin._webhook._clock = type("Clock", (), {"sleep": staticmethod(at_once)})()  # type: ignore[attr-defined]
        await api.create(ACCOUNTS, ACCOUNT)
        code, status = await api.call("POST", PODS, pod("p"))
        assert code == (201 if default_allow else 403), status

    with_api(tmp_path, body, **settings(tmp_path, "https://127.0.0.1:9/", defaultAllow=default_allow))


@pytest.mark.parametrize(
    ("configuration", "complaint"),
    [
        (None, "needs its part of --admission-control-config-file"),
        ({"imagePolicy": {}}, "kubeConfigFile is required"),
        ({"imagePolicy": {"kubeConfigFile": "x", "allowTTL": 4000}}, "allowTTL: valid value is between 1s and 1800s, got 4000"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_told_at_start(configuration: Any, complaint: str) -> None:
    with pytest.raises(StartupError, match=complaint.replace("(", r"\(")):
        read_settings(configuration)
