"""A client that acts as a ServiceAccount, against an apiserver in the test's own process."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson

from kubecosm.api.resources import CONFIGMAPS, SERVICEACCOUNTS
from kubecosm.client.accounts import AccountClient, without_credentials
from kubecosm.client.config import ClientConfig
from kubecosm.client.http import ApiClient, PatchType
from kubecosm.runtime.clock import RealClock
from tests.apiserver.harness import ADMIN_TOKEN, api_server

WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
BODY = b'{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}'


def with_account(tmp_path: Path, test: Any) -> None:
    """Run `test(client, owner)` with a client that acts as kube-system/bot."""

    async def main() -> None:
        async with api_server(tmp_path) as api:
            config = ClientConfig(api.base, token=ADMIN_TOKEN, insecure_skip_tls_verify=True)
            shared_client = ApiClient(without_credentials(config), clock=RealClock(), user_agent="kube-controller-manager/v1.36.0")
            async with ApiClient(config, clock=RealClock()) as owner, shared_client as shared:
                await test(AccountClient(shared, owner, "bot"), owner)

    asyncio.run(main())


async def name_of(client: ApiClient) -> str:
    answer = await client.request("POST", WHO, body=BODY, headers={"Content-Type": "application/json"})
    return str(orjson.loads(answer)["status"]["userInfo"]["username"])


def test_the_account_is_made_when_it_is_first_needed(tmp_path: Path) -> None:
    async def test(client: AccountClient, owner: ApiClient) -> None:
        assert await name_of(client) == "system:serviceaccount:kube-system:bot"
        assert (await owner.get(SERVICEACCOUNTS, "bot", "kube-system"))["metadata"]["name"] == "bot"
        made = await client.create(CONFIGMAPS, {"metadata": {"name": "c", "namespace": "default"}, "data": {"a": "b"}})
        assert made["data"] == {"a": "b"}

    with_account(tmp_path, test)


def test_what_an_account_writes_is_owned_in_the_name_of_its_program(tmp_path: Path) -> None:
    async def test(client: AccountClient, owner: ApiClient) -> None:
        assert client.user_agent == "kube-controller-manager/v1.36.0"
        apply = {"fieldManager": "kubectl", "force": "true"}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "b"}}
        made = await owner.patch(CONFIGMAPS, "c", body, "default", patch_type=PatchType.APPLY, params=apply)
        changed = await client.update(CONFIGMAPS, {**made, "data": {"a": "c"}})
        assert [entry["manager"] for entry in changed["metadata"]["managedFields"]] == ["kube-controller-manager"]

    with_account(tmp_path, test)


def test_an_account_that_was_deleted_is_made_again(tmp_path: Path) -> None:
    async def test(client: AccountClient, owner: ApiClient) -> None:
        assert await name_of(client)
        await owner.delete(SERVICEACCOUNTS, "bot", "kube-system")
        assert await name_of(client) == "system:serviceaccount:kube-system:bot"

    with_account(tmp_path, test)


def test_many_requests_at_once_ask_for_one_token(tmp_path: Path) -> None:
    async def test(client: AccountClient, owner: ApiClient) -> None:
        asked = []
        create = owner.create

        async def counting(*arguments: Any, **options: Any) -> Any:
            asked.append(options.get("subresource"))
            return await create(*arguments, **options)

        owner.create = counting  # type: ignore[method-assign]
        assert set(await asyncio.gather(*(name_of(client) for _ in range(10)))) == {"system:serviceaccount:kube-system:bot"}
        assert asked == ["token", None, "token"]  # there was no account at first

    with_account(tmp_path, test)
