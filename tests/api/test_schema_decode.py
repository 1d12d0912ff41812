"""Bodies become what a round trip through Go's types leaves, or are refused in Go's words."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubecosm.api.errors import BadRequest, UnsupportedMediaType
from kubecosm.api.resources import (
    BUILTIN,
    CONFIGMAPS,
    CUSTOMRESOURCEDEFINITIONS,
    DEPLOYMENTS,
    EVENTS,
    PERSISTENTVOLUMES,
    PODS,
    SECRETS,
    SERVICES,
    Resource,
)  # fmt: skip
from kubecosm.api.schema import STRICT, decode, normalize, prune, schemas
from kubecosm.api.schema.explain import decode as explain
from kubecosm.api.schema.fast import checker
from kubecosm.api.schema.gojson import parse, plain, syntax_problem

WIDGETS = Resource("example.com", "v1", "Widget", "widgets", "widget", True)


def pod(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}], **spec}}


def decoded(resource: Resource, obj: Any, validation: str = STRICT) -> Any:
    return decode(resource, json.dumps(obj).encode(), "application/json", validation)[0]


def refusal(resource: Resource, body: Any, media_type: str = "application/json") -> str:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(BadRequest) as caught:
        decode(resource, data, media_type, STRICT)
    return caught.value.message


def test_empty_fields_that_go_omits_are_dropped_and_those_it_writes_are_added() -> None:
    body = pod(hostNetwork=False, nodeSelector={}, tolerations=[], nodeName="", securityContext={}, priority=0, volumes=None)
    found = decoded(PODS, body)
    kept = {"containers": [{"name": "c", "resources": {}}], "securityContext": {}, "priority": 0}
    assert found["spec"] == {**kept, "nodeSelector": {}, "tolerations": []}
    assert found["status"] == {}
    prune(found)
    assert found["spec"] == kept
    assert decoded(DEPLOYMENTS, {"metadata": {"creationTimestamp": None}, "spec": {"template": {}}}) == {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {}, "status": {},
        "spec": {"selector": None, "strategy": {}, "template": {"metadata": {}, "spec": {"containers": None}}},
    }  # fmt: skip


def test_quantities_times_and_bytes_become_canonical() -> None:
    body = pod(containers=[{"name": "c", "resources": {"limits": {"cpu": "1000m", "memory": 1024, "x": None}}}])
    body["metadata"]["creationTimestamp"] = "2026-01-01T02:00:00.5+01:00"
    found = decoded(PODS, body)
    assert found["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "1", "memory": "1024", "x": "0"}
    assert found["metadata"]["creationTimestamp"] == "2026-01-01T01:00:00Z"
    assert decoded(SECRETS, {"data": {"a": "YWI=\n", "b": ""}})["data"] == {"a": "YWI=", "b": ""}
    assert decoded(SERVICES, {"spec": {"ports": [{"port": 80}]}})["spec"]["ports"] == [{"port": 80, "targetPort": 0}]
    assert decoded(EVENTS, {"metadata": {}})["eventTime"] is None


TYPE_ERRORS = [
    (PODS, pod(containers=[{"name": {}}]),
     "json: cannot unmarshal object into Go struct field Container.spec.containers.name of type string"),
    (PODS, pod(restartPolicy=7), "json: cannot unmarshal number into Go struct field PodSpec.spec.restartPolicy of type v1.RestartPolicy"),
    (PODS, pod(containers="x"), "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type []v1.Container"),
    (PODS, pod(securityContext=[]),
     "json: cannot unmarshal array into Go struct field PodSpec.spec.securityContext of type v1.PodSecurityContext"),
    (PODS, pod(priority=1.5), "json: cannot unmarshal number 1.5 into Go struct field PodSpec.spec.priority of type int32"),
    (PODS, pod(priority=2**31), "json: cannot unmarshal number 2147483648 into Go struct field PodSpec.spec.priority of type int32"),
    (PODS, pod(containers=[{"resources": {"limits": []}}]),
     "json: cannot unmarshal array into Go struct field ResourceRequirements.spec.containers.resources.limits of type v1.ResourceList"),
    (PODS, pod(containers=[{"livenessProbe": {"httpGet": {"port": True}}}]),
     "json: cannot unmarshal bool into Go struct field "
     "HTTPGetAction.spec.containers.livenessProbe.ProbeHandler.httpGet.port of type int32"),
    (PODS, {"metadata": {"labels": {"a": 1}}},
     "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string"),
    (PODS, {"metadata": {"creationTimestamp": 1}},
     "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.creationTimestamp of type string"),
    (PODS, {"metadata": {"creationTimestamp": "soon"}},
     'parsing time "soon" as "2006-01-02T15:04:05Z07:00": cannot parse "soon" as "2006"'),
    (PERSISTENTVOLUMES, {"spec": {"hostPath": {"path": 1}}},
     "json: cannot unmarshal number into Go struct field HostPathVolumeSource.spec.PersistentVolumeSource.hostPath.path of type string"),
    (SECRETS, {"data": {"a": "a?c="}}, "illegal base64 data at input byte 1"),
    (CUSTOMRESOURCEDEFINITIONS, {"spec": {"versions": [{"schema": {"openAPIV3Schema": {"additionalProperties": 3}}}]}},
     "boolean or JSON schema expected"),
]  # fmt: skip


@pytest.mark.parametrize(("resource", "body", "why"), TYPE_ERRORS, ids=lambda value: value[:60] if isinstance(value, str) else "")
def test_wrong_types_are_refused_in_the_words_of_gos_decoder(resource: Resource, body: Any, why: str) -> None:
    assert refusal(resource, body) == f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: {why}'


def test_the_first_type_error_wins_unless_a_custom_type_ends_decoding() -> None:
    wrong = {"name": 1, "image": [], "resources": {"limits": {"cpu": "1z"}}}
    assert refusal(PODS, pod(containers=[wrong])).endswith("([eEinumkKMGTP]*[-+]?[0-9]*)$'")
    del wrong["resources"]
    assert "cannot unmarshal number into Go struct field Container.spec.containers.name" in refusal(PODS, pod(containers=[wrong]))


def test_unknown_and_duplicate_fields_are_refused_warned_of_or_ignored() -> None:
    body = b'{"kind":"Pod","metadata":{"labels":{"a":"1","a":"2"}},"spec":{"foo":1,"containers":[{"bar":{},"name":"a","name":"b"}]}}'
    errors = ['duplicate field "metadata.labels.a"', 'unknown field "spec.foo"', 'unknown field "spec.containers[0].bar"',
              'duplicate field "spec.containers[0].name"']  # fmt: skip
    assert refusal(PODS, body) == f'Pod in version "v1" cannot be handled as a Pod: strict decoding error: {", ".join(errors)}'
    obj, warnings = decode(PODS, body, "application/json", "Warn")
    assert warnings == errors
    assert obj["metadata"] == {"labels": {"a": "2"}}
    assert obj["spec"] == {"containers": [{"name": "b", "resources": {}}]}
    assert decode(PODS, body, "application/json", "Ignore") == (obj, [])


HIDDEN = [b'{"data":{"a" :"1", "a":"1"}}', b'{"data":{"\\u0022":"1","a":"x","a":"y"}}', b'{"data":{"a":"\\"","a":"\\""}}']


@pytest.mark.parametrize("body", HIDDEN)
def test_no_way_of_writing_hides_a_duplicate(body: bytes) -> None:
    assert decode(CONFIGMAPS, body)[1] == ['duplicate field "data.a"']


UNRECOGNIZED = [
    (b'{"apiVersion": "v1", ', "couldn't get version/kind; json parse error: unexpected end of JSON input ({\"apiVersion\": \"v1\", )"),
    (b"", "couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)"),
    (b"{'a': 1}",
     "couldn't get version/kind; json parse error: invalid character '\\'' looking for beginning of object key string ({'a': 1})"),
    (b'{"kind": 3}', "couldn't get version/kind; json parse error: json: cannot unmarshal number into Go struct field .kind of type string "
                     '({"kind": 3})'),
    (b'{"apiVersion": "a/b/c"}', 'unexpected GroupVersion string: a/b/c ({"apiVersion": "a/b/c"})'),
]  # fmt: skip


@pytest.mark.parametrize(("body", "why"), UNRECOGNIZED)
def test_a_body_without_readable_kind_is_unrecognized(body: bytes, why: str) -> None:
    assert refusal(PODS, body) == f"the object provided is unrecognized (must be of type Pod): {why}"


def test_other_kinds_and_versions_are_refused() -> None:
    unknown = 'Foo in version "v1" cannot be handled as a Pod: no kind "Foo" is registered for version "v1"'
    assert refusal(PODS, {"kind": "Foo"}).startswith(unknown)
    assert "unknown conversion" in refusal(PODS, {"kind": "ConfigMap"})
    assert refusal(DEPLOYMENTS, {"apiVersion": "apps/v1beta1", "kind": "Deployment"}) == (
        "the API version in the data (apps/v1beta1) does not match the expected API version (apps/v1)"
    )


def test_what_utf8_and_64_bits_cannot_hold_is_mended() -> None:
    assert decode(CONFIGMAPS, b'{"data":{"a":"x\\ud800y","b":"\\ud83d\\ude00"}}')[0]["data"] == {"a": "x\ufffdy", "b": "\U0001f600"}
    assert decode(CONFIGMAPS, b'{"data":{"a":"\xff"}}')[0]["data"] == {"a": "\ufffd"}
    huge = b'{"spec":{"containers":[{"name":"c","resources":{"limits":{"cpu":1000000000000000000000000000000}}}]}}'
    assert decode(PODS, huge)[0]["spec"]["containers"][0]["resources"]["limits"]["cpu"].startswith("1")
    assert "cannot unmarshal number 99999999999999999999999" in refusal(PODS, b'{"spec":{"priority":99999999999999999999999}}')
    assert normalize(WIDGETS, decode(WIDGETS, b'{"spec":99999999999999999999999}')[0])["spec"] == 1e23


def test_media_types_are_told_apart() -> None:
    yaml = b"apiVersion: v1\nkind: ConfigMap\ndata: {a: 'yes', b: '2026-01-01', c: '1:30'}\nimmutable: yes\n"
    assert decode(CONFIGMAPS, yaml, "application/yaml")[0] == {
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "yes", "b": "2026-01-01", "c": "1:30"}, "immutable": True, "metadata": {},
    }  # fmt: skip
    assert decode(CONFIGMAPS, b"data: {a: 1:30}", "application/yaml")[0]["data"] == {"a": "1:30"}
    assert decode(CONFIGMAPS, b"data:\n  a: v\n  a: w\n", "application/yaml")[1] == [
        'yaml: unmarshal errors:\n  line 3: key "a" already set in map'
    ]
    assert "yaml: line 1: " in refusal(CONFIGMAPS, b"a: b: c", "application/yaml")
    with pytest.raises(UnsupportedMediaType, match="the body of the request was in an unknown format"):
        decode(PODS, b"hello", "text/plain")


def test_pruning_reaches_every_depth_and_nulls_what_is_never_omitted() -> None:
    term = {"namespaces": [], "topologyKey": "zone", "labelSelector": {"matchLabels": {}}}
    affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    found = decoded(PODS, pod(containers=[], affinity=affinity))
    prune(found)
    assert found["spec"]["containers"] is None
    assert found["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] == [
        {"topologyKey": "zone", "labelSelector": {}}
    ]


def test_nulls_stay_where_a_type_has_them_for_its_zero_value() -> None:
    budgets = BUILTIN.by_path("policy", "v1", "poddisruptionbudgets")
    assert budgets is not None
    budget = decoded(budgets, {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "status": {"disruptedPods": {"p": None}}})
    assert budget["status"]["disruptedPods"] == {"p": None}


def test_json_schemas_hold_lists_where_a_schema_may_stand_too() -> None:
    schema = {"dependencies": {"a": ["b"], "c": {"type": "string"}}, "items": [{"type": "string"}]}
    spec = {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]}
    found = decoded(CUSTOMRESOURCEDEFINITIONS, {"spec": spec})["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert found == schema


def test_custom_resources_keep_their_fields_but_have_their_metadata_checked() -> None:
    widget = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w", "labels": None}, "spec": {"a": None, "b": {}}}
    assert decoded(WIDGETS, widget) == {**widget, "metadata": {"name": "w"}}
    assert refusal(WIDGETS, {**widget, "metadata": {"name": 1}}).endswith(
        "json: cannot unmarshal number into Go struct field ObjectMeta.name of type string"
    )


def test_subresources_have_kinds_of_their_own() -> None:
    scale = DEPLOYMENTS.subresource("scale")
    assert scale is not None
    found, _ = decode(DEPLOYMENTS, b'{"spec":{"replicas":3}}', subresource=scale)
    assert (found["kind"], found["spec"]) == ("Scale", {"replicas": 3})


def test_built_objects_are_normalized_without_touching_the_original() -> None:
    live = pod(nodeSelector={})
    assert "nodeSelector" not in normalize(PODS, live)["spec"]
    assert live["spec"]["nodeSelector"] == {}


def test_every_built_in_kind_has_a_schema() -> None:
    missing = [row.kind for row in BUILTIN if schemas().of_kind(row.api_version, row.kind) is None]
    assert missing == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**33), 2**33) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
pod_like = st.fixed_dictionaries({}, optional={
    "metadata": st.fixed_dictionaries({}, optional={"name": json_values, "labels": json_values, "annotations": json_values}),
    "spec": st.fixed_dictionaries({}, optional={
        "containers": st.lists(st.fixed_dictionaries({}, optional={
            "name": json_values, "ports": json_values, "resources": st.fixed_dictionaries({}, optional={"limits": json_values}),
            "env": st.lists(st.fixed_dictionaries({}, optional={"name": json_values, "value": json_values}), max_size=2),
        }), max_size=2),
        "nodeSelector": json_values, "hostNetwork": json_values, "priority": json_values, "tolerations": json_values,
    }),
})  # fmt: skip


@given(pod_like)
def test_the_fast_and_the_careful_decoder_agree(body: Any) -> None:
    data = orjson.dumps(body)
    definition = schemas().definition("core.v1.Pod")
    try:
        fast = checker("core.v1.Pod")(orjson.loads(data))
    except Exception:  # noqa: BLE001  any doubt sends a body to the careful decoder
        return
    careful, errors = explain(definition, parse(data), strict=True)
    assert errors == []
    assert checker("core.v1.Pod")(careful) == fast


@given(pod_like)
def test_decoding_is_idempotent_and_never_fails_otherwise(body: Any) -> None:
    try:
        obj, _ = decode(PODS, orjson.dumps(body))
    except BadRequest:
        return
    assert decode(PODS, orjson.dumps(obj), "application/json", STRICT) == (obj, [])


@given(json_values)
def test_the_syntax_checker_accepts_json_and_refuses_its_prefixes(value: Any) -> None:
    text = json.dumps(value)
    assert syntax_problem(text) == ""
    assert plain(parse(text.encode())) == value
    if text[0] in '{["':
        assert syntax_problem(text[:-1]) == "unexpected end of JSON input"


def test_aliases_that_multiply_beyond_measure_are_refused() -> None:
    lines, previous = ["a: &a [x,x,x,x,x,x,x,x,x,x]"], "a"
    for name in "bcdefghij":
        lines.append(f"{name}: &{name} [{','.join(['*' + previous] * 10)}]")
        previous = name
    with pytest.raises(BadRequest, match="document contains excessive aliasing"):
        decode(CONFIGMAPS, "\n".join(lines).encode(), "application/yaml", "Ignore")
