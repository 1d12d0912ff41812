"""What /livez and /readyz look at, under the names that kube-apiserver has for it.

The post-start hooks run before the server takes its first request here, so that they are done whenever somebody asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from kubecosm.runtime.health import Check

from .authz.modes import uses_rbac
from .cache.caches import ROOT
from .config import Config
from .state import State
from .storage.contract import StorageError

STORAGE_SECONDS_MAX = 2.0
HOOKS = (
    "start-apiserver-admission-initializer", "generic-apiserver-start-informers", "start-apiextensions-informers",
    "start-apiextensions-controllers", "crd-informer-synced", "start-system-namespaces-controller", "bootstrap-controller",
    "scheduling/bootstrap-system-priority-classes", "start-cluster-authentication-info-controller",
    "start-kube-apiserver-identity-lease-controller", "start-legacy-token-tracking-controller", "apiservice-registration-controller",
    "apiservice-discovery-controller",
)  # fmt: skip
FLOW_HOOKS = ("priority-and-fairness-config-consumer", "priority-and-fairness-config-producer", "priority-and-fairness-filter")


def _done() -> None:
    return None


def alive_checks(state: State, config: Config) -> Mapping[str, Check]:
    """Name → check; `ping` is added by the endpoints themselves."""

    async def storage() -> str | None:
        try:
            async with asyncio.timeout(STORAGE_SECONDS_MAX):
                await state.storage.get(key=f"{ROOT}health")
        except (StorageError, TimeoutError):
            return "reason withheld"
        return None

    def plugins() -> str | None:
        found = state.encryption.plugins if state.encryption is not None else ()
        return next((complaint for plugin in found if (complaint := plugin.complaint()) is not None), None)

    kms = {"kms-providers": plugins} if state.encryption is not None and state.encryption.plugins else {}
    hooks = [*HOOKS, *(FLOW_HOOKS if state.flow_control else ()), *(("rbac/bootstrap-roles",) if uses_rbac(config) else ())]
    return {"log": _done, "etcd": storage, **kms, **{f"poststarthook/{hook}": _done for hook in hooks}}


def ready_checks(state: State) -> Mapping[str, Check]:
    """What readiness asks for besides."""

    def shutdown() -> str | None:
        return "reason withheld" if state.is_stopping else None

    return {"informer-sync": _done, "shutdown": shutdown}
