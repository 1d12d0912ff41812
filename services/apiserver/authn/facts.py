"""What extension servers must know to believe this one: the ConfigMap kube-system/extension-apiserver-authentication.

Imitates pkg/controlplane/controller/clusterauthenticationtrust. Written at start.
"""

from __future__ import annotations

from pathlib import Path

import orjson

from kubecosm.api.errors import AlreadyExists
from kubecosm.api.names import NAMESPACE_SYSTEM
from kubecosm.api.resources import CONFIGMAPS, Object
from kubecosm.runtime.errors import startup

from ..bootstrap import APISERVER
from ..config import Config
from ..state import State

NAME = "extension-apiserver-authentication"


def authentication_facts(config: Config) -> dict[str, str]:
    """The ConfigMap's data. Raises StartupError."""
    data = {}
    if config.client_ca_file:
        data["client-ca-file"] = _read(config.client_ca_file)
    if config.requestheader_client_ca_file:
        lists = {
            "allowed-names": config.requestheader_allowed_names, "extra-headers-prefix": config.requestheader_extra_headers_prefix,
            "group-headers": config.requestheader_group_headers, "uid-headers": config.requestheader_uid_headers,
            "username-headers": config.requestheader_username_headers,
        }  # fmt: skip
        data |= {f"requestheader-{name}": orjson.dumps(values).decode() for name, values in lists.items()}
        data["requestheader-client-ca-file"] = _read(config.requestheader_client_ca_file)
    return data


async def ensure_authentication_facts(state: State, config: Config) -> None:
    """Create the ConfigMap, or bring it up to date. Raises StartupError."""
    data = authentication_facts(config)
    if not data:
        return
    store = state.store(CONFIGMAPS.group, CONFIGMAPS.version, CONFIGMAPS.plural)
    if store.cache.get(store.key_of(NAMESPACE_SYSTEM, NAME)) is None:
        new: Object = {**store.type_meta, "metadata": {"name": NAME, "namespace": NAMESPACE_SYSTEM}, "data": data}
        try:
            await store.create(new, NAMESPACE_SYSTEM, APISERVER)
        except AlreadyExists:
            pass  # another apiserver was faster
        else:
            return
    await store.update(NAMESPACE_SYSTEM, NAME, lambda live: {**live, "data": {**(live.get("data") or {}), **data}}, APISERVER)


def _read(path: str) -> str:
    with startup(f"read {path}"):
        return Path(path).read_text()
