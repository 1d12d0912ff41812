"""One request as its audit events tell it. Imitates apiserver/pkg/audit/request.go."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import orjson

from kubecosm.api.resources import Object

from ..authn.user import User
from ..http.request import Request
from ..http.response import JSON, Answer, Response
from .policy import COMPLETE, GROUP_VERSION, Verdict

PATCH_PREFIX = "patch.webhook.admission.k8s.io/"
"""Annotations with the patches of mutating webhooks; told from level Request on."""


class Record:
    """Collects what becomes known of a request on its way."""

    __slots__ = ("_base", "_request", "received", "request_object", "user", "verdict")

    def __init__(self, request: Request, verdict: Verdict, received: datetime) -> None:
        self._request = request
        self.received = received
        self.verdict = verdict
        self.user = request.user
        self.request_object: Object | bytes | None = None
        """What the client sent: decoded and defaulted, or the bytes of a patch."""
        message = request.message
        base: Object = {
            "kind": "Event", "apiVersion": GROUP_VERSION, "level": verdict.level, "auditID": request.audit_id, "stage": "",
            "requestURI": message.path, "verb": request.verb, "user": user_info(self.user), "sourceIPs": source_addresses(request),
        }  # fmt: skip
        agent = request.headers.get("User-Agent")
        if agent:
            base["userAgent"] = agent
        if request.info.is_resource:
            base["objectRef"] = object_reference(request)
        base["requestReceivedTimestamp"] = micro_time(received)
        self._base = base

    def take(self, obj: Object) -> None:
        """The object of a write, once it is decoded. A copy is made only if the policy wants it."""
        meta = obj.get("metadata") or {}
        reference = self._base.get("objectRef")
        if reference is not None:
            for field, value in (("name", meta.get("name")), ("namespace", meta.get("namespace")), ("uid", meta.get("uid")),
                                 ("resourceVersion", meta.get("resourceVersion"))):  # fmt: skip
                if value and not reference.get(field):
                    reference[field] = value
        if self.verdict.has_request:
            self.request_object = cast(Object, orjson.loads(orjson.dumps(obj)))

    def take_patch(self, body: bytes) -> None:
        if self.verdict.has_request:
            self.request_object = body

    def event(self, stage: str, now: datetime, answer: Answer | None = None, status: Object | None = None) -> Object:
        """The event of one stage; `answer` is the response, `status` stands for it where there is none."""
        event = {**self._base, "stage": stage}
        request = self._request
        if request.user is not self.user:
            event["impersonatedUser"] = user_info(request.user)
        if status is not None:
            event["responseStatus"] = status
        elif answer is not None:
            self._add_answer(event, answer, whole=stage == COMPLETE)
        if self.request_object is not None:
            sent = self._decoded()
            if sent is not None:
                event["requestObject"] = self._without_managed_fields(sent)
        event["stageTimestamp"] = self._base["requestReceivedTimestamp"] if now is self.received else micro_time(now)
        annotations = request.audit_annotations
        if annotations and not self.verdict.has_request:  # patches of webhooks tell what was in the request
            annotations = {key: value for key, value in annotations.items() if not key.startswith(PATCH_PREFIX)}
        if annotations:
            event["annotations"] = dict(annotations)
        return event

    def _decoded(self) -> Any:
        if isinstance(self.request_object, bytes):
            try:
                self.request_object = orjson.loads(self.request_object)
            except orjson.JSONDecodeError:
                self.request_object = None  # a patch in YAML, or none at all
        return self.request_object

    def _add_answer(self, event: Object, answer: Answer, *, whole: bool) -> None:
        event["responseStatus"] = {"metadata": {}, "code": answer.status}
        if not isinstance(answer, Response) or answer.content_type != JSON or not event.get("objectRef"):
            return
        if answer.status < 400 and not (whole and self.verdict.has_response) and not answer.body.startswith(b'{"kind":"Status"'):
            return
        obj = orjson.loads(answer.body)
        if obj.get("kind") == "Status":
            event["responseStatus"] = {"metadata": {}, **{k: obj[k] for k in ("status", "message", "reason", "details") if k in obj},
                                       "code": answer.status}  # fmt: skip
        if whole and self.verdict.has_response:
            event["responseObject"] = self._without_managed_fields(obj)

    def _without_managed_fields(self, obj: Any) -> Any:
        if not self.verdict.omit_managed_fields or not isinstance(obj, dict):
            return obj
        if isinstance(obj.get("items"), list):
            return {**obj, "items": [self._without_managed_fields(item) for item in obj["items"]]}
        meta = obj.get("metadata")
        if isinstance(meta, dict) and "managedFields" in meta:
            return {**obj, "metadata": {k: v for k, v in meta.items() if k != "managedFields"}}
        return obj


def user_info(user: User) -> Object:
    info: Object = {"username": user.name}
    if user.uid:
        info["uid"] = user.uid
    if user.groups:
        info["groups"] = list(user.groups)
    if user.extra:
        info["extra"] = {key: list(values) for key, values in user.extra.items()}
    return info


def object_reference(request: Request) -> Object:
    info = request.info
    reference: Object = {"resource": info.resource}
    if info.namespace:
        reference["namespace"] = info.namespace
    if info.name:
        reference["name"] = info.name
    if info.group:
        reference["apiGroup"] = info.group
    reference["apiVersion"] = info.version
    if info.subresource:
        reference["subresource"] = info.subresource
    return reference


def source_addresses(request: Request) -> list[str]:
    """Whom the request says it comes from, then who sent it (net.SourceIPs)."""
    headers, found = request.headers, []
    for name in ("X-Forwarded-For", "X-Real-Ip"):
        found += [part.strip() for part in headers.get(name, "").split(",") if part.strip()]
    peer = request.connection.peer_address
    if peer and (not found or found[-1] != peer):
        found.append(peer)
    return found


def micro_time(moment: datetime) -> str:
    """metav1.MicroTime. Twice a request: isoformat costs a quarter of strftime."""
    in_utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return in_utc.isoformat(timespec="microseconds")[:-6] + "Z"
