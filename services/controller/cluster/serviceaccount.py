"""ServiceAccount controller: every namespace has the ServiceAccount `default`.

Watches Namespaces and ServiceAccounts. Writes ServiceAccounts. Imitates pkg/controller/serviceaccount/serviceaccounts_controller.go.
"""

from __future__ import annotations

from collections.abc import Iterable

from kubecosm.api.errors import AlreadyExists, ApiError
from kubecosm.api.meta import Key
from kubecosm.api.resources import NAMESPACES, SERVICEACCOUNTS, Object
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done

from ..common.namespaces import is_active_namespace
from ..common.templates import is_namespace_terminating

DEFAULT_NAME = "default"


def plan_account(namespace: Object | None, account: Object | None) -> Object | None:
    """The ServiceAccount to create, or None."""
    if namespace is None or account is not None or not is_active_namespace(namespace):
        return None
    meta = {"name": DEFAULT_NAME, "namespace": namespace["metadata"]["name"]}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}


async def reconcile(ctx: Context, key: Key) -> Result:
    account = ctx.cache(SERVICEACCOUNTS).get(Key(key.name, DEFAULT_NAME))
    wanted = plan_account(ctx.cache(NAMESPACES).get(key), account)
    if wanted is None:
        return done()
    try:
        ctx.expect_written(await ctx.client.create(SERVICEACCOUNTS, wanted, key.name))
    except AlreadyExists:
        return done()  # the cache was behind
    except ApiError as error:
        if not is_namespace_terminating(error):
            raise
    return done()


def map_account(reader: Reader, account: Object) -> Iterable[Key]:
    """Only the default account matters, and only when it is gone."""
    meta = account["metadata"]
    return (Key("", meta["namespace"]),) if meta["name"] == DEFAULT_NAME else ()


SPEC = ControllerSpec(name="serviceaccount", primary=NAMESPACES, watches={SERVICEACCOUNTS: map_account}, workers=16)
