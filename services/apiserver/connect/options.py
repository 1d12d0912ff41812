"""The query of a connection as the object that admission sees: PodExecOptions, PodProxyOptions, … (apis/core/v1/conversion.go)."""

from __future__ import annotations

from kubecosm.api.resources import Object, Resource

from ..http.request import Request
from .location import proxy_path

_STREAMS = ("stdin", "stdout", "stderr", "tty")


def connect_options(row: Resource, request: Request) -> Object:
    """The options of a request for one of the row's connect subresources."""
    own = row.subresource(request.info.subresource)
    kind = own.kind if own is not None else ""
    options: Object = {"kind": kind, "apiVersion": "v1"}
    if request.info.subresource == "proxy":
        return {**options, "path": proxy_path(request).partition("?")[0]}
    if request.info.subresource == "portforward":
        ports = [int(port) for value in request.query.get("ports", []) for port in value.split(",") if port.isdigit()]
        return {**options, "ports": ports} if ports else options
    options |= {name: True for name in _STREAMS if request.flag(name)}
    if request.param("container"):
        options["container"] = request.param("container")
    if request.query.get("command"):
        options["command"] = request.query["command"]
    return options
