"""One request as its audit events tell it. Imitates apiserver/pkg/audit/request.go."""

from __future__ import annotations

from typing import Any

import orjson

from kubecosm.api.resources import Object

from ..authn.user import User
from ..http.request import Request
from ..http.response import JSON, Answer, Response
from .encoding import document, origin, plain_status, reference, user_info
from .policy import COMPLETE, STAGES, Verdict

PATCH_PREFIX = "patch.webhook.admission.k8s.io/"
"""Annotations with the patches of mutating webhooks; told from level Request on."""
AUTHORIZATION_ANNOTATIONS = 2
"""So many are there always; only where there are more is looked for what must not be told."""
FORWARDED_FOR, REAL_ADDRESS = "X-Forwarded-For", "X-Real-Ip"
STAGE_KEYS = {stage: b',"stage":' + document(stage) for stage in STAGES}
_URI, _VERB, _USER = b',"requestURI":', b',"verb":"', b'","user":'
_RECEIVED, _STAGE_TIME = b',"requestReceivedTimestamp":', b',"stageTimestamp":'


class Record:
    """Collects what becomes known of a request on its way, as pieces of JSON.

    The request knows its record, but not the other way round: a ring of the two would be left to the garbage collector.
    """

    __slots__ = ("_begin", "_info", "_origin", "_reference", "_sent", "_subject", "constraint", "received", "user", "verdict")

    def __init__(self, request: Request, verdict: Verdict, received: bytes) -> None:
        """`received`: when, as a MicroTime in quotes."""
        self.received = received
        self.verdict = verdict
        self.user = request.user
        self.constraint = ""
        """The right by which somebody else is impersonated, if that is a constrained one."""
        self._sent = b""
        """What the client sent: decoded and defaulted, or a patch as it came."""
        caller, self._origin = caller_of(request)
        self._begin = verdict.head + document(request.audit_id)
        self._subject = b"".join([_URI, document(request.message.path), _VERB, request.verb.encode(), _USER, caller])
        info = self._info = request.info
        self._reference = reference(info, info.name) if info.is_resource else b""

    def take(self, obj: Object) -> None:
        """The object of a write, once it is decoded: fills in what its path does not say, and what the policy wants of it."""
        meta, info = obj.get("metadata"), self._info
        if meta and info.is_resource:
            self._reference = reference(
                info, info.name or meta.get("name", ""), meta.get("namespace", ""), meta.get("uid", ""), meta.get("resourceVersion", "")
            )
        self.take_defaulted(obj)

    def take_defaulted(self, obj: Object) -> None:
        """The same object, with its defaults."""
        if self.verdict.has_request:
            self._sent = b',"requestObject":' + document(self._without_managed_fields(obj))

    def take_patch(self, body: bytes) -> None:
        if self.verdict.has_request:
            try:
                patch = orjson.loads(body)
            except orjson.JSONDecodeError:
                return  # a patch in YAML, or none at all
            self._sent = b',"requestObject":' + orjson.dumps(self._without_managed_fields(patch))

    def event(self, request: Request, stage: str, now: bytes, answer: Answer | None, status: Object | None) -> bytes:
        """The event of one stage of the record's request as JSON; `answer` is the response, `status` stands for it where there is none."""
        subject = self._subject
        if request.user is not self.user:
            subject += b',"impersonatedUser":' + user_info(request.user)
            if self.constraint:
                subject += b',"authenticationMetadata":{"impersonationConstraint":%b}' % document(self.constraint)
        outcome = b""
        if status is not None:
            outcome = b',"responseStatus":' + document(status)
        elif answer is not None:
            outcome = self._outcome(answer, whole=stage == COMPLETE)
        annotations = request.audit_annotations
        return b"".join([
            self._begin, STAGE_KEYS[stage], subject, self._origin, self._reference, outcome, self._sent, _RECEIVED, self.received,
            _STAGE_TIME, now, self._annotations(annotations) if annotations else b"", b"}",
        ])  # fmt: skip

    def _annotations(self, found: dict[str, str]) -> bytes:
        if len(found) > AUTHORIZATION_ANNOTATIONS and not self.verdict.has_request:  # patches of webhooks tell what was in the request
            found = {key: value for key, value in found.items() if not key.startswith(PATCH_PREFIX)}
        return b',"annotations":' + document(found)

    def _outcome(self, answer: Answer, *, whole: bool) -> bytes:
        """responseStatus, and at the level that wants it the responseObject."""
        plain, wants_object = plain_status(answer.status), whole and self.verdict.has_response
        if not isinstance(answer, Response) or answer.content_type != JSON or not self._reference:
            return plain
        if answer.status < 400 and not wants_object and not answer.body.startswith(b'{"kind":"Status"'):
            return plain
        obj = orjson.loads(answer.body)
        if obj.get("kind") == "Status":
            told = {k: obj[k] for k in ("status", "message", "reason", "details") if k in obj}
            plain = b',"responseStatus":' + orjson.dumps({"metadata": {}, **told, "code": answer.status})
        return plain + b',"responseObject":' + orjson.dumps(self._without_managed_fields(obj)) if wants_object else plain

    def _without_managed_fields(self, obj: Any) -> Any:
        if not self.verdict.omit_managed_fields or not isinstance(obj, dict):
            return obj
        if isinstance(obj.get("items"), list):
            return {**obj, "items": [self._without_managed_fields(item) for item in obj["items"]]}
        meta = obj.get("metadata")
        if isinstance(meta, dict) and "managedFields" in meta:
            return {**obj, "metadata": {k: v for k, v in meta.items() if k != "managedFields"}}
        return obj


Caller = tuple[User, str | None, bytes, bytes]
"""What was told of the last request of a connection: its user and agent, and both as JSON."""


def caller_of(request: Request) -> tuple[bytes, bytes]:
    """The user, and where the request came from, as JSON: mostly as for the last request of the connection."""
    headers, connection, user = request.headers, request.connection, request.user
    agent = headers.get("User-Agent")
    if FORWARDED_FOR in headers or REAL_ADDRESS in headers:
        return user_info(user), origin(source_addresses(request), agent)
    known = connection.audited
    if known is None or known[0] is not user or known[1] != agent:
        known = connection.audited = (user, agent, user_info(user), origin(source_addresses(request), agent))
    return known[2], known[3]


def source_addresses(request: Request) -> list[str]:
    """Whom the request says it comes from, then who sent it (net.SourceIPs)."""
    headers, found = request.headers, []
    for name in (FORWARDED_FOR, REAL_ADDRESS):
        found += [part.strip() for part in headers.get(name, "").split(",") if part.strip()]
    peer = request.connection.peer_address
    if peer and (not found or found[-1] != peer):
        found.append(peer)
    return found
