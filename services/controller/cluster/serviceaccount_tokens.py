"""ServiceAccount token controller: fills Secrets of type service-account-token, which name an account by annotation.

Watches Secrets and ServiceAccounts. Writes such Secrets' data; deletes them when their account is gone, and takes those that are gone out
of their account's `secrets`. Imitates pkg/controller/serviceaccount/tokens_controller.go, but asks the server for a token that is bound to
the Secret instead of signing one, so this process needs no signing key.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from pathlib import Path

from kubecosm.api.errors import Conflict, NotFound
from kubecosm.api.meta import Key, key_of, uid_of
from kubecosm.api.names import ANNOTATION_SERVICE_ACCOUNT_NAME, ANNOTATION_SERVICE_ACCOUNT_UID
from kubecosm.api.resources import SECRETS, SERVICEACCOUNTS, Object
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done
from kubecosm.client.http import PatchType
from kubecosm.runtime.errors import StartupError

from ..common.tokensecrets import TokenSecret, account_of, token_secret
from ..config import Config

TOKEN_SECONDS = 10 * 365 * 24 * 3600
"""Such tokens are meant to last; they die with their Secret or account."""


def plan_request(secret: Object) -> Object:
    """The TokenRequest for a token that is good as long as the Secret exists."""
    meta = secret["metadata"]
    bound = {"apiVersion": "v1", "kind": "Secret", "name": meta["name"], "uid": meta["uid"]}
    spec = {"audiences": [], "expirationSeconds": TOKEN_SECONDS, "boundObjectRef": bound}
    return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}


def plan_missing(secret: Object, root_ca: str) -> frozenset[str]:
    """The keys of its data that are not there, or not right."""
    data = secret.get("data") or {}
    missing = {name for name in ("namespace", "token") if not data.get(name)}
    return frozenset(missing | ({"ca.crt"} if root_ca and data.get("ca.crt") != encoded(root_ca) else set()))


def plan_patch(secret: Object, account: Object, data: Mapping[str, str]) -> Object:
    """What the Secret lacks; refused if it has changed meanwhile."""
    meta = secret["metadata"]
    annotations = {ANNOTATION_SERVICE_ACCOUNT_NAME: account["metadata"]["name"], ANNOTATION_SERVICE_ACCOUNT_UID: uid_of(account)}
    told = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"], "annotations": annotations}
    return {"metadata": told, "data": {name: encoded(text) for name, text in data.items()}}


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class Tokens:
    """The controller; `SPEC` and `reconcile` are what the runner asks for. Remembers whose token each Secret was, for when it is gone."""

    def __init__(self, root_ca: str) -> None:
        self.SPEC = SPEC
        self._root_ca = root_ca
        self._accounts: dict[Key, tuple[str, str]] = {}  # Secret → name and uid of its account

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        token = token_secret(ctx, key)
        if token is None:
            if key not in ctx.cache(SECRETS) and key in self._accounts:
                await _drop_reference(ctx, key, *self._accounts[key])
                del self._accounts[key]
            return done()
        account = await _account(ctx, token, key.namespace)
        if account is None:
            await _delete(ctx, token.secret)
            return done()
        self._accounts[key] = token.account, uid_of(account)
        try:
            await self._fill(ctx, token.secret, account)
        except (Conflict, NotFound):
            return done()  # Secret or account went or changed meanwhile, which wakes us
        return done()

    async def _fill(self, ctx: Context, secret: Object, account: Object) -> None:
        missing = plan_missing(secret, self._root_ca)
        if not missing:
            return
        meta = secret["metadata"]
        data = {"namespace": meta["namespace"], "ca.crt": self._root_ca}
        if "token" in missing:
            name = account["metadata"]["name"]
            answer = await ctx.client.create(SERVICEACCOUNTS, plan_request(secret), meta["namespace"], name=name, subresource="token")
            data["token"] = answer["status"]["token"]
        patch = plan_patch(secret, account, {name: text for name, text in data.items() if name in missing})
        ctx.expect_written(await ctx.client.patch(SECRETS, meta["name"], patch, meta["namespace"], patch_type=PatchType.MERGE))


async def _account(ctx: Context, token: TokenSecret, namespace: str) -> Object | None:
    """The account of a token, as the cache or else the server knows it."""
    cached = ctx.cache(SERVICEACCOUNTS).get(Key(namespace, token.account))
    if token.is_of(cached):
        return cached
    try:
        found = await ctx.client.get(SERVICEACCOUNTS, token.account, namespace)
    except NotFound:
        return None
    return found if token.is_of(found) else None


async def _delete(ctx: Context, secret: Object) -> None:
    """Its account is gone."""
    meta = secret["metadata"]
    try:
        await ctx.client.delete(SECRETS, meta["name"], meta["namespace"], options={"preconditions": {"uid": uid_of(secret)}})
    except (Conflict, NotFound):
        return  # gone, or another Secret of its name
    ctx.expect_deleted(secret)


async def _drop_reference(ctx: Context, secret: Key, name: str, uid: str) -> None:
    """A token Secret is gone: its account names it no longer."""
    account = ctx.cache(SERVICEACCOUNTS).get(Key(secret.namespace, name))
    if account is None or uid_of(account) != uid:
        return
    left = [reference for reference in account.get("secrets") or () if reference.get("name") != secret.name]
    if len(left) == len(account.get("secrets") or ()):
        return
    try:
        ctx.expect_written(await ctx.client.update(SERVICEACCOUNTS, {**account, "secrets": left}))
    except NotFound:
        return


def map_account(reader: Reader, account: Object) -> Iterable[Key]:
    """The token Secrets of an account that came or went."""
    meta = account["metadata"]
    return [key_of(secret) for secret in reader.cache(SECRETS).list(meta["namespace"]) if account_of(secret) == meta["name"]]


SPEC = ControllerSpec(
    name="serviceaccount_tokens",
    component="serviceaccount-token-controller",
    primary=SECRETS,
    watches={SERVICEACCOUNTS: map_account},
    workers=5,
)


def build(config: Config) -> Tokens:
    """StartupError if --root-ca-file cannot be read."""
    if not config.root_ca_file:
        return Tokens("")
    try:
        return Tokens(Path(config.root_ca_file).read_text())
    except OSError as error:
        raise StartupError(f"--root-ca-file: {config.root_ca_file}: {error.strerror}") from error
