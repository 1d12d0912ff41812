"""ServiceAccount token controller: fills Secrets of type service-account-token, which name an account by annotation.

Watches Secrets and ServiceAccounts. Writes such Secrets' data; deletes them when their account is gone. Imitates
pkg/controller/serviceaccount/tokens_controller.go, but asks the server for a token that is bound to the Secret instead of signing one, so
this process needs no signing key.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path

from kubecosm.api.errors import Conflict, NotFound
from kubecosm.api.meta import Key, annotations_of, is_deleting, key_of, uid_of
from kubecosm.api.names import ANNOTATION_SERVICE_ACCOUNT_UID
from kubecosm.api.resources import SECRETS, SERVICEACCOUNTS, Object
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done
from kubecosm.client.http import PatchType
from kubecosm.runtime.errors import StartupError

from ..common.tokensecrets import account_of
from ..config import Config

TOKEN_SECONDS = 10 * 365 * 24 * 3600
"""Such tokens are meant to last; they die with their Secret or account."""


def is_complete(secret: Object, account: Object) -> bool:
    """It has its token and names the account that exists now."""
    return "token" in (secret.get("data") or {}) and annotations_of(secret).get(ANNOTATION_SERVICE_ACCOUNT_UID) == uid_of(account)


def plan_request(secret: Object) -> Object:
    """The TokenRequest for a token that is good as long as the Secret exists."""
    meta = secret["metadata"]
    bound = {"apiVersion": "v1", "kind": "Secret", "name": meta["name"], "uid": meta["uid"]}
    spec = {"audiences": [], "expirationSeconds": TOKEN_SECONDS, "boundObjectRef": bound}
    return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}


def plan_patch(secret: Object, account: Object, token: str, root_ca: str) -> Object:
    """What the Secret lacks."""
    data = {"token": token, "namespace": secret["metadata"]["namespace"], **({"ca.crt": root_ca} if root_ca else {})}
    encoded = {name: base64.b64encode(text.encode()).decode() for name, text in data.items()}
    return {"metadata": {"uid": uid_of(secret), "annotations": {ANNOTATION_SERVICE_ACCOUNT_UID: uid_of(account)}}, "data": encoded}


class Tokens:
    """The controller; `SPEC` and `reconcile` are what the runner asks for."""

    def __init__(self, root_ca: str) -> None:
        self.SPEC = SPEC
        self._root_ca = root_ca

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        secret = ctx.cache(SECRETS).get(key)
        name = account_of(secret) if secret is not None else ""
        if secret is None or not name or is_deleting(secret):
            return done()
        account = ctx.cache(SERVICEACCOUNTS).get(Key(key.namespace, name))
        try:
            if account is None:
                await self._delete_orphan(ctx, secret, name)
            elif not is_complete(secret, account):
                answer = await ctx.client.create(SERVICEACCOUNTS, plan_request(secret), key.namespace, name=name, subresource="token")
                patch = plan_patch(secret, account, answer["status"]["token"], self._root_ca)
                written = await ctx.client.patch(SECRETS, key.name, patch, key.namespace, patch_type=PatchType.MERGE)
                ctx.expect_written(written)
        except NotFound:
            return done()  # Secret or account went meanwhile
        return done()

    async def _delete_orphan(self, ctx: Context, secret: Object, name: str) -> None:
        """Its account is gone, as far as the server itself knows."""
        meta = secret["metadata"]
        try:
            await ctx.client.get(SERVICEACCOUNTS, name, meta["namespace"])
        except NotFound:
            try:
                await ctx.client.delete(SECRETS, meta["name"], meta["namespace"], options={"preconditions": {"uid": uid_of(secret)}})
            except Conflict:
                return  # another Secret of its name
            ctx.expect_deleted(secret)


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
