"""Audit events are put together from pieces of JSON: whatever the pieces, the result says what a plain dictionary would say."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from kubecosm.services.apiserver.audit.encoding import Stamps
from kubecosm.services.apiserver.audit.events import Record
from kubecosm.services.apiserver.audit.policy import COMPLETE, LEVELS, METADATA, NONE, RECEIVED, REQUEST_RESPONSE, STAGES, Verdict
from kubecosm.services.apiserver.authn.user import User
from kubecosm.services.apiserver.http.info import PathInfo
from kubecosm.services.apiserver.http.request import Request
from kubecosm.services.apiserver.http.response import Response

STAMP = b'"2026-11-21T08:00:00.000001Z"'
TEXT = st.text(max_size=12)
NAME = st.text(min_size=1, max_size=12)
EXTRA = st.dictionaries(NAME, st.lists(TEXT, max_size=2).map(tuple), max_size=2)
USERS = st.builds(User, NAME, st.lists(TEXT, max_size=3).map(tuple), TEXT, EXTRA)
INFOS = st.one_of(
    st.builds(PathInfo, TEXT),
    st.builds(PathInfo, TEXT, st.just(True), st.just("apis"), TEXT, NAME, TEXT, NAME, TEXT, TEXT),
)  # fmt: skip
ANNOTATIONS = st.none() | st.dictionaries(NAME, TEXT, max_size=4)


def request_of(user: User, info: PathInfo, uri: str, agent: str | None = None, **fields: Any) -> Any:
    headers = CIMultiDict({"User-Agent": agent} if agent is not None else {})
    connection = SimpleNamespace(audited=None, peer_address="127.0.0.1")
    told: dict[str, Any] = {"verb": "create", "audit_id": "id", "audit_annotations": None}
    return SimpleNamespace(user=user, info=info, message=SimpleNamespace(path=uri), headers=headers, connection=connection, **told | fields)


def told_of(user: User) -> dict[str, Any]:
    found: dict[str, Any] = {"username": user.name, "uid": user.uid, "groups": list(user.groups)}
    found["extra"] = {key: list(values) for key, values in user.extra.items()}
    return {key: value for key, value in found.items() if value}


def plain(request: Any, level: str, stage: str, status: dict[str, Any] | None, sent: Any) -> dict[str, Any]:
    """The event as a dictionary, field by field."""
    info = request.info
    event: dict[str, Any] = {
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": level, "auditID": request.audit_id, "stage": stage,
        "requestURI": request.message.path, "verb": request.verb, "user": told_of(request.user), "sourceIPs": ["127.0.0.1"],
        "userAgent": request.headers.get("User-Agent"), "requestReceivedTimestamp": json.loads(STAMP), "stageTimestamp": json.loads(STAMP),
        "responseStatus": status, "requestObject": sent, "annotations": request.audit_annotations,
    }  # fmt: skip
    if info.is_resource:
        meta = (sent or {}).get("metadata", {})
        reference = {
            "resource": info.resource, "namespace": info.namespace or meta.get("namespace"), "name": info.name or meta.get("name"),
            "uid": meta.get("uid"), "apiGroup": info.group, "resourceVersion": meta.get("resourceVersion"), "subresource": info.subresource,
        }  # fmt: skip
        event["objectRef"] = {key: value for key, value in reference.items() if value} | {"apiVersion": info.version}
    return {key: value for key, value in event.items() if value}


@given(
    user=USERS, info=INFOS, uri=NAME, agent=st.none() | TEXT, audit_id=NAME, annotations=ANNOTATIONS,
    level=st.sampled_from([level for level in LEVELS if level != NONE]), stage=st.sampled_from(STAGES),
    status=st.none() | st.fixed_dictionaries({"metadata": st.just({}), "code": st.integers(0, 599), "message": TEXT}),
    meta=st.fixed_dictionaries({}, optional={"name": NAME, "namespace": NAME, "uid": NAME, "resourceVersion": NAME}),
)  # fmt: skip
def test_an_event_says_what_its_dictionary_would_say(
    user: User, info: PathInfo, uri: str, agent: str | None, audit_id: str, annotations: dict[str, str] | None, level: str, stage: str,
    status: dict[str, Any] | None, meta: dict[str, str],
) -> None:  # fmt: skip
    request = request_of(user, info, uri, agent, audit_id=audit_id, audit_annotations=annotations)
    record = Record(cast(Request, request), Verdict(level), STAMP)
    obj = {"metadata": meta, "data": {uri: uri}} if meta else None
    if obj is not None:
        record.take(obj)
    event = orjson.loads(record.event(request, stage, STAMP, None, status))
    expected = plain(request, level, stage, status, obj)
    if level == METADATA:
        expected.pop("requestObject", None)
    assert event == expected
    assert b"\n" not in record.event(request, stage, STAMP, None, status)


def test_what_was_told_of_a_caller_is_told_again_only_of_him() -> None:
    request = request_of(User("a", ("g",)), PathInfo("/x"), "/x", "tool/1")
    first = json.loads(Record(request, Verdict(METADATA), STAMP).event(request, RECEIVED, STAMP, None, None))
    assert (first["user"], first["userAgent"]) == ({"username": "a", "groups": ["g"]}, "tool/1")
    request.user = User("a", ("g",), extra={"k": ("v",)})
    request.headers = CIMultiDict({"User-Agent": "tool/2", "X-Forwarded-For": "10.0.0.1, 10.0.0.2"})
    second = json.loads(Record(request, Verdict(METADATA), STAMP).event(request, RECEIVED, STAMP, None, None))
    assert second["user"] == {"username": "a", "groups": ["g"], "extra": {"k": ["v"]}}
    assert (second["userAgent"], second["sourceIPs"]) == ("tool/2", ["10.0.0.1", "10.0.0.2", "127.0.0.1"])
    del request.headers["X-Forwarded-For"]
    third = json.loads(Record(request, Verdict(METADATA), STAMP).event(request, RECEIVED, STAMP, None, None))
    assert (third["user"], third["userAgent"], third["sourceIPs"]) == (second["user"], "tool/2", ["127.0.0.1"])


def test_bytes_that_are_no_text_do_not_stop_the_log() -> None:
    request = request_of(User("a"), PathInfo("/x"), "/x\udcff", "tool\udcfe")
    event = json.loads(Record(request, Verdict(METADATA), STAMP).event(request, RECEIVED, STAMP, None, None))
    assert (event["requestURI"], event["userAgent"]) == ("/x\ufffd", "tool\ufffd")


def test_an_answer_that_is_indented_is_one_line_in_the_log() -> None:
    request = request_of(User("a"), PathInfo("/x", True, "api", "", "v1", "d", "pods", "p"), "/x")
    record = Record(request, Verdict(REQUEST_RESPONSE), STAMP)
    event = record.event(request, COMPLETE, STAMP, Response(200, b'{\n  "kind": "Pod"\n}'), None)
    assert b"\n" not in event
    assert json.loads(event)["responseObject"] == {"kind": "Pod"}


@pytest.mark.parametrize("micros", [0, 1, 999_999])
def test_times_are_formatted_alike_in_and_out_of_their_second(micros: int) -> None:
    stamps, begin = Stamps(), datetime(2026, 12, 31, 23, 59, 59, micros, tzinfo=UTC)
    for moment in (begin, begin + timedelta(microseconds=1), begin + timedelta(seconds=1), begin - timedelta(days=1)):
        assert json.loads(stamps.of(moment)) == moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
