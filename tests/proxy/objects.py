"""Small builders of Services and EndpointSlices for the proxy's tests."""

from __future__ import annotations

from typing import Any

from kubecosm.api.resources import Object


def service(name: str = "web", namespace: str = "default", **spec: Any) -> Object:
    """A ClusterIP Service with one port 80, unless told otherwise."""
    base = {"type": "ClusterIP", "clusterIP": "127.32.0.20", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": base | spec}


def endpoint(ip: str, node: str = "node-0", *, hostname: str = "", **conditions: bool) -> Object:
    out: Object = {"addresses": [ip], "nodeName": node, "conditions": {"ready": True} | conditions}
    if hostname:
        out["hostname"] = hostname
    return out


def endpoint_slice(*endpoints: Object, port: int = 8080, name: str = "http", protocol: str = "TCP") -> Object:
    return {"addressType": "IPv4", "ports": [{"name": name, "port": port, "protocol": protocol}], "endpoints": list(endpoints)}
