"""The query of a connection as the object that admission sees: PodExecOptions, PodProxyOptions, … (apis/core/v1/conversion.go)."""

from __future__ import annotations

from kubecosm.api.errors import BadRequest
from kubecosm.api.field import FieldError, forbidden_field, invalid_kind, invalid_value
from kubecosm.api.resources import Object, Resource

from ..http.request import Request
from .location import proxy_path

_LOG_NUMBERS = {
    "tailLines": (0, "must be greater than or equal to 0"), "limitBytes": (1, "must be greater than 0"),
    "sinceSeconds": (1, "must be greater than 0"),
}  # fmt: skip
"""What a number in PodLogOptions is at least."""
_STREAMS = ("stdin", "stdout", "stderr", "tty")


def check_log_options(request: Request) -> None:
    """ValidatePodLogOptions. Raises BadRequest, Invalid."""
    found: list[FieldError] = []
    for name, (least, why) in _LOG_NUMBERS.items():
        text = request.param(name)
        if not text or (name == "sinceSeconds" and request.param("sinceTime")):
            continue
        try:
            number = int(text)
        except ValueError:
            raise BadRequest(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None
        if number < least:
            found.append(invalid_value(name, number, why))
    if request.param("sinceSeconds") and request.param("sinceTime"):
        found.append(forbidden_field("", "at most one of `sinceTime` or `sinceSeconds` may be specified"))
    if found:
        raise invalid_kind("", "PodLogOptions", request.info.name, found)


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
