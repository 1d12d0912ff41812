"""One table: Status reason ↔ HTTP code ↔ exception.

A server raises an ApiError, one filter turns it into a Status body, a client turns the body back into the same class.
Transport failures (refused, reset, timed out) are not ApiErrors: they stay the HTTP library's own exceptions.
A class exists only where some code reacts to it. Imitates k8s.io/apimachinery/pkg/api/errors.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from kubecosm.api.resources import Object, Resource


class ApiError(Exception):
    """A failure that a client sees as a Status object. Subclasses fix the reason and the code."""

    reason = ""
    code = 500

    def __init__(
        self, message: str, *, details: Object | None = None, reason: str | None = None, code: int | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.message = message
        self.details = details
        self.metadata: Object = {}
        """The Status' ListMeta: an expired continue token brings a new one here."""
        if reason is not None:
            self.reason = reason
        if code is not None:
            self.code = code
        self.retry_after_seconds = retry_after_seconds
        if retry_after_seconds is not None:
            self.details = {**(details or {}), "retryAfterSeconds": retry_after_seconds}

    def status(self) -> Object:
        """The Status object (apiVersion v1) that tells of this failure."""
        body: Object = {"kind": "Status", "apiVersion": "v1", "metadata": self.metadata, "status": "Failure", "message": self.message}
        if self.reason:
            body["reason"] = self.reason
        if self.details is not None:
            body["details"] = self.details
        body["code"] = self.code
        return body


class BadRequest(ApiError):
    reason, code = "BadRequest", 400


class Unauthorized(ApiError):
    reason, code = "Unauthorized", 401


class Forbidden(ApiError):
    reason, code = "Forbidden", 403


class NotFound(ApiError):
    reason, code = "NotFound", 404


class MethodNotAllowed(ApiError):
    reason, code = "MethodNotAllowed", 405


class NotAcceptable(ApiError):
    reason, code = "NotAcceptable", 406


class AlreadyExists(ApiError):
    reason, code = "AlreadyExists", 409


class Conflict(ApiError):
    reason, code = "Conflict", 409


class Gone(ApiError):
    """The asked continue token or position is no longer available."""

    reason, code = "Gone", 410


class Expired(ApiError):
    """The asked resourceVersion is too old; the client must list again."""

    reason, code = "Expired", 410


class RequestEntityTooLarge(ApiError):
    reason, code = "RequestEntityTooLarge", 413


class UnsupportedMediaType(ApiError):
    reason, code = "UnsupportedMediaType", 415


class Invalid(ApiError):
    reason, code = "Invalid", 422


class TooManyRequests(ApiError):
    reason, code = "TooManyRequests", 429


class InternalError(ApiError):
    reason, code = "InternalError", 500


class ServiceUnavailable(ApiError):
    reason, code = "ServiceUnavailable", 503


class ServerTimeout(ApiError):
    """The server could not finish in time; the request may be repeated."""

    reason, code = "ServerTimeout", 500


class Timeout(ApiError):
    reason, code = "Timeout", 504


BY_REASON: dict[str, type[ApiError]] = {
    cls.reason: cls
    for cls in (
        BadRequest, Unauthorized, Forbidden, NotFound, MethodNotAllowed, NotAcceptable, AlreadyExists, Conflict, Gone, Expired,
        RequestEntityTooLarge, UnsupportedMediaType, Invalid, TooManyRequests, InternalError, ServiceUnavailable, ServerTimeout, Timeout,
    )
}  # fmt: skip

BY_CODE: dict[int, type[ApiError]] = {
    400: BadRequest, 401: Unauthorized, 403: Forbidden, 404: NotFound, 405: MethodNotAllowed, 406: NotAcceptable, 409: Conflict,
    410: Gone, 413: RequestEntityTooLarge, 415: UnsupportedMediaType, 422: Invalid, 429: TooManyRequests, 503: ServiceUnavailable,
    504: Timeout,
}  # fmt: skip


SERVER_TEXT_MAX = 2048
"""Of a body that is no Status, so much is kept (client-go: maxUnstructuredResponseTextBytes)."""
_UNEXPLAINED = {
    400: "the server rejected our request for an unknown reason",
    401: "the server has asked for the client to provide credentials",
    404: "the server could not find the requested resource",
    405: "the server does not allow this method on the requested resource",
    406: "the server was unable to respond with a content type that the client supports",
    409: "the server reported a conflict",
    422: "the server rejected our request due to an error in our request",
    429: "the server has received too many requests and has asked us to try again later",
    503: "the server is currently unable to handle the request",
    504: "the server was unable to return a response in the time allotted, but may still be processing the request",
}
_TOLD = (403, 406, 415)
"""Codes whose explanation, if there is one, is the server's own."""


class Asked(NamedTuple):
    """What a request was about; without a resource it was about none."""

    method: str = ""
    resource: str = ""
    group: str = ""
    name: str = ""


NOTHING_ASKED = Asked()


def from_status(status: Any, http_code: int = 500, asked: Asked = NOTHING_ASKED) -> ApiError:
    """The exception that a Status body (or any other body) with this HTTP code stands for; the reason decides, then the code."""
    if not isinstance(status, dict) or status.get("kind") != "Status":
        return from_other(status.strip()[:SERVER_TEXT_MAX] if isinstance(status, str) else "unknown", http_code, asked)
    code = status.get("code") or http_code
    reason = status.get("reason") or ""
    cls = BY_REASON.get(reason) or BY_CODE.get(code) or ApiError
    error = cls(status.get("message") or "", details=status.get("details"), reason=reason, code=code)
    error.retry_after_seconds = (status.get("details") or {}).get("retryAfterSeconds")
    return error


def from_other(text: str, code: int, asked: Asked = NOTHING_ASKED) -> ApiError:
    """What an answer without a Status stands for: somebody else's page, or a path that nobody serves. Words of NewGenericServerResponse."""
    message = _UNEXPLAINED.get(code, f"the server responded with the status code {code} but did not return more information")
    if code in _TOLD and text not in ("", "unknown"):
        message = text
    elif code >= 500 and code not in _UNEXPLAINED:
        message = f'an error on the server ("{text}") has prevented the request from succeeding'
    qualified = f"{asked.resource}.{asked.group}" if asked.group else asked.resource
    if asked.resource:
        message += f" ({' '.join(filter(None, (asked.method.lower(), qualified, asked.name)))})"
    about = {"name": asked.name, "group": asked.group, "kind": asked.resource}
    causes = [{"reason": "UnexpectedServerResponse", "message": text}]
    cls = AlreadyExists if code == 409 and asked.method == "POST" else BY_CODE.get(code, InternalError if code >= 500 else ApiError)
    return cls(message, details={key: value for key, value in about.items() if value} | {"causes": causes}, code=code)


def details_of(resource: Resource, name: str) -> Object:
    """`details` as most errors carry it: name, group and the resource (in `kind`, as Kubernetes does)."""
    details: Object = {"name": name} if name else {}
    if resource.group:
        details["group"] = resource.group
    details["kind"] = resource.plural
    return details


def not_found(resource: Resource, name: str) -> NotFound:
    return NotFound(f'{resource.group_resource} "{name}" not found', details=details_of(resource, name))


def already_exists(resource: Resource, name: str) -> AlreadyExists:
    return AlreadyExists(f'{resource.group_resource} "{name}" already exists', details=details_of(resource, name))


def conflict(resource: Resource, name: str, why: str) -> Conflict:
    message = f'Operation cannot be fulfilled on {resource.group_resource} "{name}": {why}'
    return Conflict(message, details=details_of(resource, name))


def modified_conflict(resource: Resource, name: str) -> Conflict:
    """The optimistic lock failed."""
    return conflict(resource, name, "the object has been modified; please apply your changes to the latest version and try again")


def forbidden(resource: Resource, name: str, why: str) -> Forbidden:
    quoted = f' "{name}"' if name else ""
    return Forbidden(f"{resource.group_resource}{quoted} is forbidden: {why}", details=details_of(resource, name))
