"""Root CA publisher: every namespace has the ConfigMap kube-root-ca.crt, by which pods trust the API server.

Watches Namespaces and ConfigMaps. Writes ConfigMaps. Imitates pkg/controller/certificates/rootcacertpublisher.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kubecosm.api.errors import AlreadyExists, ApiError, NotFound
from kubecosm.api.meta import Key, annotations_of
from kubecosm.api.names import ANNOTATION_DESCRIPTION, CONFIGMAP_ROOT_CA
from kubecosm.api.resources import CONFIGMAPS, NAMESPACES, Object
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done
from kubecosm.runtime.errors import StartupError

from ..common.namespaces import is_active_namespace
from ..common.templates import is_namespace_terminating
from ..config import Config

DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or "
    "kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."
)


def plan_config_map(namespace: Object | None, current: Object | None, root_ca: str) -> Object | None:
    """The ConfigMap to create or to write over, or None if all is well."""
    if namespace is None or not is_active_namespace(namespace):
        return None
    data, annotations = {"ca.crt": root_ca}, {ANNOTATION_DESCRIPTION: DESCRIPTION}
    if current is None:
        meta: Object = {"name": CONFIGMAP_ROOT_CA, "namespace": namespace["metadata"]["name"], "annotations": annotations}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}
    if current.get("data") == data and annotations_of(current).get(ANNOTATION_DESCRIPTION):
        return None
    return {**current, "metadata": {**current["metadata"], "annotations": {**annotations_of(current), **annotations}}, "data": data}


def map_config_map(reader: Reader, config_map: Object) -> Iterable[Key]:
    meta = config_map["metadata"]
    return (Key("", meta["namespace"]),) if meta["name"] == CONFIGMAP_ROOT_CA else ()


SPEC = ControllerSpec(name="root_ca_cert_publisher", primary=NAMESPACES, watches={CONFIGMAPS: map_config_map}, workers=16)


class RootCaPublisher:
    """The controller; `SPEC` and `reconcile` are what the runner asks for."""

    SPEC = SPEC

    def __init__(self, root_ca: str) -> None:
        """`root_ca`: certificates in PEM; empty: nothing is published."""
        self._root_ca = root_ca

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        if not self._root_ca:
            return done()
        current = ctx.cache(CONFIGMAPS).get(Key(key.name, CONFIGMAP_ROOT_CA))
        wanted = plan_config_map(ctx.cache(NAMESPACES).get(key), current, self._root_ca)
        if wanted is None:
            return done()
        write = ctx.client.create(CONFIGMAPS, wanted, key.name) if current is None else ctx.client.update(CONFIGMAPS, wanted)
        try:
            ctx.expect_written(await write)
        except (AlreadyExists, NotFound):
            return done()  # the cache was behind, or the namespace has gone
        except ApiError as error:
            if not is_namespace_terminating(error):
                raise
        return done()


def build(config: Config) -> RootCaPublisher:
    """StartupError if --root-ca-file cannot be read."""
    if not config.root_ca_file:
        return RootCaPublisher("")
    try:
        return RootCaPublisher(Path(config.root_ca_file).read_text())
    except OSError as error:
        raise StartupError(f"--root-ca-file: {config.root_ca_file}: {error.strerror}") from error
