"""One table: Status reason ↔ HTTP code ↔ exception.

A server raises an ApiError, one filter turns it into a Status body, a client turns the body back into the same class.
Transport failures (refused, reset, timed out) are not ApiErrors: they stay the HTTP library's own exceptions.
A class exists only where some code reacts to it. Imitates k8s.io/apimachinery/pkg/api/errors.
"""

from __future__ import annotations

from typing import Any

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


def from_status(status: Any, http_code: int = 500) -> ApiError:
    """The exception that a Status body (or any other body) with this HTTP code stands for; the reason decides, then the code."""
    if not isinstance(status, dict) or status.get("kind") != "Status":
        return BY_CODE.get(http_code, InternalError)(str(status)[:500], code=http_code)
    code = status.get("code") or http_code
    reason = status.get("reason") or ""
    cls = BY_REASON.get(reason) or BY_CODE.get(code) or ApiError
    error = cls(status.get("message") or "", details=status.get("details"), reason=reason, code=code)
    error.retry_after_seconds = (status.get("details") or {}).get("retryAfterSeconds")
    return error


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
