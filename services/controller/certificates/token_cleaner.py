"""Token cleaner: deletes bootstrap tokens that have expired.

Watches Secrets. Imitates pkg/controller/bootstrap/tokencleaner.go.
"""

from __future__ import annotations

from collections.abc import Iterable

from kubecosm.api.errors import Conflict, NotFound
from kubecosm.api.meta import Key, key_of, uid_of
from kubecosm.api.resources import SECRETS, Object
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done, requeue

from .bootstrap import expiration_of, is_bootstrap_token


async def reconcile(ctx: Context, key: Key) -> Result:
    secret = ctx.cache(SECRETS).get(key)
    end = expiration_of(secret) if secret is not None and is_bootstrap_token(secret) else None
    if secret is None or end is None:
        return done()
    left = (end - ctx.clock.now()).total_seconds()
    if left > 0:
        return requeue(after_seconds=left)
    try:
        await ctx.client.delete(SECRETS, key.name, key.namespace, options={"preconditions": {"uid": uid_of(secret)}})
    except (Conflict, NotFound):
        return done()
    ctx.expect_deleted(secret)
    return done()


def map_token(reader: Reader, secret: Object) -> Iterable[Key]:
    return [key_of(secret)] if is_bootstrap_token(secret) else []


SPEC = ControllerSpec(name="token_cleaner", component="token-cleaner", watches={SECRETS: map_token}, workers=1)
