"""Bootstrap signer: signs the ConfigMap cluster-info with each bootstrap token, so that whoever knows one can trust it.

Watches Secrets and ConfigMaps. Writes kube-public/cluster-info, if it exists. Imitates pkg/controller/bootstrap/bootstrapsigner.go.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping

import orjson

from kubecosm.api.errors import Conflict, NotFound
from kubecosm.api.meta import Key, key_of
from kubecosm.api.names import NAMESPACE_PUBLIC
from kubecosm.api.resources import CONFIGMAPS, SECRETS, Object
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done, requeue

from .bootstrap import expiration_of, is_bootstrap_token, text_of

CLUSTER_INFO = Key(NAMESPACE_PUBLIC, "cluster-info")
SIGNED, SIGNATURE_PREFIX = "kubeconfig", "jws-kubeconfig-"
TOKEN_NAME_PREFIX = "bootstrap-token-"
"""A Secret that is not called after its token is none."""
RETRY_SECONDS = 0.1


def sign(content: str, token_id: str, token_secret: str) -> str:
    """A detached JSON web signature (HS256): header and signature, without the content."""
    header = _encoded(orjson.dumps({"alg": "HS256", "kid": token_id}))
    digest = hmac.new(token_secret.encode(), f"{header}.{_encoded(content.encode())}".encode(), hashlib.sha256).digest()
    return f"{header}..{_encoded(digest)}"


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def plan_data(data: Mapping[str, str], tokens: Mapping[str, str]) -> dict[str, str]:
    """The ConfigMap's data with one signature for each token (id → secret), and no others."""
    kept = {key: value for key, value in data.items() if not key.startswith(SIGNATURE_PREFIX)}
    if SIGNED not in kept:
        return dict(data)
    return kept | {f"{SIGNATURE_PREFIX}{token_id}": sign(kept[SIGNED], token_id, secret) for token_id, secret in tokens.items()}


async def reconcile(ctx: Context, key: Key) -> Result:
    try:
        info = await ctx.client.get(CONFIGMAPS, key.name, key.namespace)  # caches keep no data of ConfigMaps
    except NotFound:
        return done()
    data = plan_data(info.get("data") or {}, await _tokens(ctx))
    if data == (info.get("data") or {}):
        return done()
    try:
        await ctx.client.update(CONFIGMAPS, {**info, "data": data})
    except (Conflict, NotFound):
        return requeue(after_seconds=RETRY_SECONDS)
    return done()


async def _tokens(ctx: Context) -> dict[str, str]:
    """Id and secret of each token that may sign."""
    found: dict[str, str] = {}
    for cached in ctx.cache(SECRETS).list():
        if not is_bootstrap_token(cached) or text_of(cached, "usage-bootstrap-signing") != "true":
            continue
        end = expiration_of(cached)
        if end is not None and end <= ctx.clock.now():
            continue
        try:
            secret = await ctx.client.get(SECRETS, cached["metadata"]["name"], cached["metadata"]["namespace"])
        except NotFound:
            continue
        token_id, token_secret = text_of(secret, "token-id"), text_of(secret, "token-secret")
        if token_id and token_secret and secret["metadata"]["name"] == TOKEN_NAME_PREFIX + token_id:
            found[token_id] = token_secret
    return found


def map_token(reader: Reader, secret: Object) -> Iterable[Key]:
    return [CLUSTER_INFO] if is_bootstrap_token(secret) else []


def map_info(reader: Reader, config_map: Object) -> Iterable[Key]:
    return [CLUSTER_INFO] if key_of(config_map) == CLUSTER_INFO else []


SPEC = ControllerSpec(name="bootstrap_signer", component="bootstrap-signer", watches={SECRETS: map_token, CONFIGMAPS: map_info}, workers=1)
