"""Names and values are judged with the words of Kubernetes."""

from __future__ import annotations

import pytest

from kubecosm.api.field import FieldError, invalid_value
from kubecosm.services.apiserver.registry import formats, meta

LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an "
    "alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)


@pytest.mark.parametrize(
    ("check", "value", "complaints"),
    [
        (formats.is_dns1123_label, "web-0", ()),
        (formats.is_dns1123_label, "Web_0", (LABEL,)),
        (formats.is_dns1123_label, "a.b", ("must not contain dots",)),
        (formats.is_port_name, "http", ()),
        (formats.is_port_name, "8080", ("must contain at least one letter (a-z)",)),
        (formats.is_port_name, "-a--b", ("must not contain consecutive hyphens", "must not begin or end with a hyphen")),
        (formats.is_config_key, "..", ("must not be '..'",)),
        (formats.is_config_key, "..data", ("must not start with '..'",)),
        (formats.is_env_name, "a b", ()),
        (formats.is_env_name, "", ("environment variable name must be non-empty",)),
        (formats.is_path_segment, "a/b", ("may not contain '/'",)),
        (formats.is_path_segment, "system:node", ()),
        (formats.is_port, 0, ("must be between 1 and 65535, inclusive",)),
    ],
)
def test_a_format_complains_in_the_words_of_kubernetes(check, value, complaints):
    assert check(value) == complaints


IPS = [("10.0.0.1", True), ("010.000.000.001", True), ("::1", True), ("10.0.0", False), ("fe80::1%1", False)]


@pytest.mark.parametrize(("text", "is_ip"), IPS)
def test_addresses_are_parsed_as_leniently_as_kubernetes_does(text, is_ip):
    assert (formats.parse_ip(text) is not None) is is_ip


def test_special_addresses_may_not_be_endpoints_but_loopback_ones_may():
    errors: list[FieldError] = []
    for ip in ("127.0.0.1", "0.0.0.0", "169.254.1.1", "10.1.2.3"):
        formats.check_non_special_ip(ip, "ip", errors)
    assert [e.detail for e in errors] == [
        "may not be unspecified (0.0.0.0)",
        "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
    ]


@pytest.mark.parametrize("ip", ["127.16.0.1", "127.47.255.255", "127.48.0.1", "127.64.1.2", "127.127.255.254"])
def test_the_cluster_network_is_no_special_address(ip):
    errors: list[FieldError] = []
    formats.check_non_special_ip(ip, "ip", errors)
    assert errors == []


def complaints_about(metadata, **options):
    errors: list[FieldError] = []
    meta.check_meta(metadata, namespaced=True, name_check=lambda name, prefix: formats.is_dns1123_label(name), errors=errors, **options)
    return [str(e) for e in errors]


def test_metadata_of_a_new_object_is_judged_part_by_part():
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "1", "controller": True}
    assert complaints_about({"name": "a", "namespace": "b", "labels": {"x": "y"}, "ownerReferences": [owner]}) == []
    assert complaints_about({"namespace": "b"}) == ["metadata.name: Required value: name or generateName is required"]
    assert complaints_about({"name": "a"}) == ["metadata.namespace: Required value"]
    assert complaints_about({"name": "a", "namespace": "b", "finalizers": ["mine"]}) == [
        'metadata.finalizers[0]: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified'
    ]
    texts = complaints_about({"name": "a", "namespace": "b", "ownerReferences": [owner, {**owner, "uid": "", "name": "b"}]})
    assert texts[0] == 'metadata.ownerReferences.uid: Invalid value: "": must not be empty'
    assert texts[1].endswith('Only one reference can have Controller set to true. Found "true" in references for Pod/a and Pod/b')


def test_an_update_may_not_change_identity():
    errors: list[FieldError] = []
    old = {"name": "a", "uid": "1", "generation": 4, "deletionTimestamp": "2026-01-01T00:00:00Z"}
    meta.check_meta_update({**old, "uid": "2", "generation": 3, "finalizers": ["a.b/c"]}, old, errors)
    assert [str(e) for e in errors] == [
        "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, "
        'found new finalizers []string{"a.b/c"}',
        'metadata.resourceVersion: Invalid value: "": must be specified for an update',
        "metadata.generation: Invalid value: 3: must not be decremented",
        'metadata.uid: Invalid value: "2": field is immutable',
    ]


def test_values_are_shown_as_encoding_json_would():
    assert invalid_value("a", {"x": "<&>"}, "").body() == 'Invalid value: {"x":"\\u003c\\u0026\\u003e"}'
    assert invalid_value("a", "<", "no").body() == 'Invalid value: "<": no'


def test_selectors_are_judged_down_to_their_values():
    errors: list[FieldError] = []
    selector = {"matchExpressions": [{"key": "a", "operator": "In"}, {"key": "a", "operator": "Exists", "values": ["b"]}, {"key": "a"}]}
    meta.check_label_selector(selector, "s", errors)
    assert [str(e) for e in errors] == [
        "s.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
        "s.matchExpressions[1].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        's.matchExpressions[2].operator: Invalid value: "": not a valid selector operator',
    ]
