"""Whatever a webhook answers is either a verdict or a failure in words; never anything else."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubecosm.services.apiserver.admission.webhooks.review import denied, read_verdict
from kubecosm.services.apiserver.webhook.client import CallFailed, duration, read_target
from kubecosm.services.apiserver.webhook.failures import of_http_code

scalars = st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.text(max_size=5)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2), max_leaves=4
)
FIELDS = ("uid", "allowed", "patch", "patchType", "warnings", "auditAnnotations", "status")
statuses = st.fixed_dictionaries({}, optional=dict.fromkeys(("message", "reason", "code", "details", "metadata"), values)) | values
responses = st.fixed_dictionaries({}, optional={name: statuses if name == "status" else values for name in FIELDS})


def review(response: Any, **fields: Any) -> bytes:
    return orjson.dumps({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response, **fields})


@given(responses, st.booleans())
def test_every_answer_is_a_verdict_or_a_failure(response: Any, mutating: bool) -> None:
    try:
        verdict = read_verdict(review({"uid": "u", **response}), "u", mutating=mutating)
    except CallFailed:
        return
    if not verdict.allowed:
        status = denied("hook", verdict.status).status()
        assert status["code"] >= 400
        assert status["message"].startswith('admission webhook "hook" denied the request')


@pytest.mark.parametrize(
    ("response", "why"),
    [
        ({"allowed": "yes"}, "cannot unmarshal string into Go struct field AdmissionResponse.response.allowed of type bool"),
        ({"warnings": [1]}, "cannot unmarshal number into Go struct field AdmissionResponse.response.warnings of type string"),
        ({"status": {"code": "x"}}, "cannot unmarshal string into Go struct field Status.response.status.code of type int32"),
        ({"patch": "no base64"}, "illegal base64 data"),
    ],
)
def test_fields_of_the_wrong_type_are_named(response: Any, why: str) -> None:
    with pytest.raises(CallFailed, match=why):
        read_verdict(review({"uid": "u", **response}), "u", mutating=True)


@pytest.mark.parametrize(
    ("code", "body", "why"),
    [
        (404, b"", "the server could not find the requested resource"),
        (500, b'a "b"\n', 'an error on the server ("a \\"b\\"") has prevented the request from succeeding'),
        (503, b"", "the server is currently unable to handle the request"),
        (302, b"", "the server responded with the status code 302 but did not return more information"),
        (403, b"who are you", "who are you"),
    ],
)
def test_http_codes_have_client_gos_words(code: int, body: bytes, why: str) -> None:
    assert of_http_code(code, body, "text/plain") == why


def test_urls_show_what_was_asked() -> None:
    assert read_target({"url": "https://example.com:9443/a/b"}).url(10) == "https://example.com:9443/a/b?timeout=10s"
    assert read_target({"url": "https://example.com"}).url(1) == "https://example.com/?timeout=1s"
    service = {"service": {"namespace": "n", "name": "s", "port": 8443}}
    assert read_target(service).url(30) == "https://s.n.svc:8443/?timeout=30s"
    assert duration(90) == "1m30s"
