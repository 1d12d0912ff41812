"""CEL rules of custom resources: what they see, when they are run, what their failures say, and what definitions may ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubecosm.api.resources import CUSTOMRESOURCEDEFINITIONS
from kubecosm.services.apiserver.customresources.celschema import escape
from kubecosm.services.apiserver.customresources.rules import BUDGET, Check, compile_level
from kubecosm.services.apiserver.customresources.validation import validate_at
from kubecosm.services.apiserver.registry.apiextensions.approval import approval_of
from kubecosm.services.apiserver.registry.apiextensions.crd import CustomResourceDefinitionStrategy
from kubecosm.services.apiserver.registry.apiextensions.schema import check_schema

from .harness import Api, with_api
from .test_customresources import CRDS, CRONTABS, crontab, definition, version

TEXT, NUMBER = {"type": "string"}, {"type": "integer"}
WORD = {"type": "string", "maxLength": 253}


def ruled(schema: dict[str, Any], *rules: str | dict[str, Any]) -> dict[str, Any]:
    return {**schema, "x-kubernetes-validations": [rule if isinstance(rule, dict) else {"rule": rule} for rule in rules]}


def spec_of(*rules: str | dict[str, Any], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"spec": ruled({"type": "object", "properties": properties}, *rules)}}


def told(schema: dict[str, Any], obj: Any, old: Any = None) -> list[str]:
    level = compile_level(schema, is_root=True)
    assert level is not None
    return [str(error) for error in Check(level, obj, old).errors]


def refusals(schema: dict[str, Any]) -> list[str]:
    errors: list[Any] = []
    check_schema(schema, "spec.validation.openAPIV3Schema", errors)
    return [str(error) for error in errors]


def test_rule_that_fails_is_told_at_the_path_of_its_schema() -> None:
    schema = spec_of("self.min <= self.max", min=NUMBER, max=NUMBER)
    assert told(schema, {"spec": {"min": 1, "max": 2}}) == []
    assert told(schema, {"spec": {"min": 3, "max": 2}}) == ['spec: Invalid value: "object": failed rule: self.min <= self.max']


def test_rule_at_the_root_sees_the_name_and_is_told_without_a_path() -> None:
    schema = ruled({"type": "object"}, {"rule": "self.metadata.name.startsWith('a')", "message": "names begin with a"})
    assert told(schema, {"metadata": {"name": "abc"}}) == []
    assert told(schema, {"metadata": {"name": "b"}}) == ['<nil>: Invalid value: "object": names begin with a']


def test_message_expression_reason_and_field_path_shape_the_error() -> None:
    rule = {"rule": "self.n < 5", "message": "no", "messageExpression": "'n is %d'.format([self.n])", "reason": "FieldValueForbidden",
            "fieldPath": ".n"}  # fmt: skip
    assert told(spec_of(rule, n=NUMBER), {"spec": {"n": 7}}) == ["spec.n: Forbidden: n is 7"]
    empty = {**rule, "messageExpression": "''", "reason": "FieldValueRequired"}
    assert told(spec_of(empty, n=NUMBER), {"spec": {"n": 7}}) == ["spec.n: Required value: no"]


def test_message_expression_that_fails_leaves_the_message() -> None:
    rule = {"rule": "self.n < 5", "message": "fallback", "messageExpression": "string(1 / (self.n - self.n))"}
    assert told(spec_of(rule, n=NUMBER), {"spec": {"n": 7}}) == ['spec: Invalid value: "object": fallback']


def test_transition_rules_run_on_updates_only() -> None:
    schema = spec_of(n=ruled(NUMBER, {"rule": "self >= oldSelf", "message": "may only grow"}))
    schema["properties"]["spec"].pop("x-kubernetes-validations")
    assert told(schema, {"spec": {"n": 1}}) == []
    assert told(schema, {"spec": {"n": 1}}, {"spec": {"n": 2}}) == ['spec.n: Invalid value: "integer": may only grow']
    assert told(schema, {"spec": {"n": 1}}, {"spec": {}}) == []


def test_optional_old_self_lets_transition_rules_run_on_creation() -> None:
    rule = {"rule": "oldSelf.hasValue() || self.n == 0", "optionalOldSelf": True, "message": "starts at zero"}
    schema = spec_of(rule, n=NUMBER)
    assert told(schema, {"spec": {"n": 1}}) == ['spec: Invalid value: "object": starts at zero']
    assert told(schema, {"spec": {"n": 1}}, {"spec": {"n": 0}}) == []


def test_what_an_update_leaves_alone_is_not_held_against_it() -> None:
    schema = spec_of(n=ruled(NUMBER, "self < 5"), other=TEXT)
    old = {"spec": {"n": 7, "other": "a"}}
    assert told(schema, {"spec": {"n": 7, "other": "b"}}, old) == []
    assert told(schema, {"spec": {"n": 8, "other": "a"}}, old) == ['spec.n: Invalid value: "integer": failed rule: self < 5']


def test_items_of_list_maps_are_compared_with_those_of_the_same_key() -> None:
    item = ruled({"type": "object", "properties": {"name": TEXT, "n": NUMBER}}, "self.n >= oldSelf.n")
    steps = {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": item}
    schema = {"type": "object", "properties": {"steps": steps}}
    old = {"steps": [{"name": "a", "n": 1}, {"name": "b", "n": 5}]}
    assert told(schema, {"steps": [{"name": "b", "n": 5}, {"name": "a", "n": 2}]}, old) == []
    assert told(schema, {"steps": [{"name": "b", "n": 4}]}, old) == ['steps[0]: Invalid value: "object": failed rule: self.n >= oldSelf.n']


@pytest.mark.parametrize(("name", "escaped"), [
    ("a-b", "a__dash__b"), ("a.b", "a__dot__b"), ("a/b", "a__slash__b"), ("a__b", "a__underscores__b"), ("namespace", "__namespace__"),
    ("plain_1", "plain_1"), ("1a", None), ("a b", None),
])  # fmt: skip
def test_names_of_properties_are_escaped(name: str, escaped: str | None) -> None:
    assert escape(name) == escaped


def test_escaped_names_times_sets_and_int_or_string_are_seen_as_kubernetes_sees_them() -> None:
    names = {"type": "array", "x-kubernetes-list-type": "set", "items": TEXT}
    schema = spec_of(
        "self.a__dash__b == 1 && self.__namespace__ == 'n'", "self.at.getFullYear() == 2024", "self.every > duration('1m')",
        "self.names == ['b', 'a']", "(self.names + ['a', 'c']).size() == 3", "self.port == 80 || self.port == 'http'", "self.raw == b'hi'",
        "self.map['x'] == 1 && has(self.map.x)", "!has(self.gone) && self.?gone.orValue('d') == 'd'",
        **{"a-b": NUMBER, "namespace": TEXT}, at={"type": "string", "format": "date-time"}, every={"type": "string", "format": "duration"},
        names=names, port={"x-kubernetes-int-or-string": True}, raw={"type": "string", "format": "byte"},
        map={"type": "object", "additionalProperties": NUMBER}, gone=TEXT,
    )  # fmt: skip
    spec = {"a-b": 1, "namespace": "n", "at": "2024-05-01T00:00:00Z", "every": "90s", "names": ["a", "b"], "port": "http", "raw": "aGk=",
            "map": {"x": 1}}  # fmt: skip
    assert told(schema, {"spec": spec}) == []


def test_failures_at_run_time_name_the_rule() -> None:
    schema = spec_of("self.port > 5", port={"x-kubernetes-int-or-string": True})
    message = "'no such overload': call arguments did not match a supported operator, function or macro signature for rule: self.port > 5"
    assert told(schema, {"spec": {"port": "http"}}) == [f'spec: Invalid value: "object": {message}']
    assert told(spec_of("self.l[3] == 1", l={"type": "array", "items": NUMBER}), {"spec": {"l": []}}) == [
        'spec: Invalid value: "object": index out of bounds: 3 evaluating rule: self.l[3] == 1'
    ]


def test_rules_end_when_they_cost_too_much() -> None:
    rule = "self.l.all(a, self.l.all(b, self.l.all(c, a + b + c > 0)))"
    found = told(spec_of(rule, "false", l={"type": "array", "items": NUMBER}), {"spec": {"l": [1] * 200}})
    assert len(found) == 1
    assert "actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule" in found[0]
    assert BUDGET == 10_000_000


def test_rules_in_all_of_are_run() -> None:
    schema = {"type": "object", "properties": {"n": NUMBER}, "allOf": [ruled({}, "self.n > 1")]}
    assert told(schema, {"n": 1}) == ['<nil>: Invalid value: "object": failed rule: self.n > 1']


@pytest.mark.parametrize(("rule", "message"), [
    ("self.nope == 1", "undefined field 'nope'"), ("self.n", "cel expression must evaluate to a bool"),
    ("self.n ==", "compilation failed: ERROR: <input>:1:10: Syntax error: mismatched input '<EOF>'"), ("", "rule is not specified"),
    ({"rule": "true\n&& true"}, "message must be specified if rule contains line breaks"),
    ({"rule": "true", "messageExpression": "self.n"}, "messageExpression must evaluate to a string"),
    ({"rule": "true", "messageExpression": "self.x"}, "messageExpression compilation failed: ERROR: <input>:1:5: undefined field 'x'"),
    ({"rule": "true", "reason": "Why"}, 'Unsupported value: "Why": supported values: "FieldValueDuplicate", "FieldValueForbidden",'),
    ({"rule": "true", "fieldPath": ".x"}, "fieldPath must be a valid path"),
    ({"rule": "true", "optionalOldSelf": True}, "may not be set if oldSelf is not used in rule"),
])  # fmt: skip
def test_definition_with_a_rule_that_cannot_work_is_refused(rule: Any, message: str) -> None:
    found = refusals(spec_of(rule, n=NUMBER))
    assert len(found) == 1
    assert message in found[0]
    assert found[0].startswith("spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].")


def test_old_self_has_no_meaning_in_lists_without_keys() -> None:
    schema = {"type": "object", "properties": {"l": {"type": "array", "items": ruled(NUMBER, "self > oldSelf")}}}
    assert "oldSelf cannot be used on the uncorrelatable portion of the schema within" in refusals(schema)[0]


def test_server_refuses_what_breaks_a_rule(tmp_path: Path) -> None:
    rule = {"rule": "self.replicas <= 5", "message": "at most five", "fieldPath": ".replicas"}

    async def check(api: Api) -> None:
        await api.create(CRDS, definition(version(schema=spec_of(rule, cronSpec=TEXT, replicas=NUMBER))))
        made = await api.create(CRONTABS, crontab("good", replicas=5))
        code, found = await api.call("POST", CRONTABS, crontab("bad", replicas=6))
        assert code == 422
        assert found["details"]["causes"] == [
            {"reason": "FieldValueInvalid", "message": 'Invalid value: "object": at most five', "field": "spec.replicas"}
        ]
        made["spec"]["replicas"] = 6
        code, found = await api.call("PUT", f"{CRONTABS}/good", made)
        assert code == 422
        code, found = await api.call("POST", CRONTABS, crontab("worse", replicas="x"))
        assert "some validation rules were not checked because the object was invalid" in found["message"]

    with_api(tmp_path, check)


def test_instances_that_were_there_before_a_rule_can_still_be_changed(tmp_path: Path) -> None:
    async def check(api: Api) -> None:
        crd = await api.create(CRDS, definition(version(schema=spec_of(cronSpec=TEXT, replicas=NUMBER))))
        await api.create(CRONTABS, crontab("old", replicas=9))
        crd = await api.get(f"{CRDS}/{crd['metadata']['name']}")
        limited = spec_of(cronSpec=TEXT, replicas=ruled(NUMBER, "self <= 5"))
        crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = limited
        await api.put(f"{CRDS}/{crd['metadata']['name']}", crd)
        changed = await api.merge(f"{CRONTABS}/old", {"metadata": {"labels": {"a": "b"}}})
        assert changed["metadata"]["labels"] == {"a": "b"}
        code, _ = await api.call("PATCH", f"{CRONTABS}/old", {"spec": {"replicas": 8}}, **{"Content-Type": "application/merge-patch+json"})
        assert code == 422

    with_api(tmp_path, check)


@pytest.mark.parametrize(("schema", "message"), [
    ({"type": "integer", "default": "x"}, '.default: Invalid value: "string": '),
    ({"type": "object", "properties": {"a": TEXT}, "default": {"b": 1}}, "must not have unknown fields"),
    ({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
      "items": {"type": "object", "properties": {"n": TEXT}}}, "must have a default or be a required property"),
    ({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"], "items": {"type": "object"}},
     "entries must all be names of item properties"),
])  # fmt: skip
def test_definition_whose_schema_contradicts_itself_is_refused(schema: dict[str, Any], message: str) -> None:
    found = refusals({"type": "object", "properties": {"f": schema}})
    assert len(found) == 1
    assert message in found[0]


@pytest.mark.parametrize(("group", "note", "expected"), [
    ("example.com", "", None), ("x.k8s.io", "https://example.com/1", ("True", "ApprovedAnnotation", "approved in https://example.com/1")),
    ("x.k8s.io", "unapproved, a trial", ("False", "UnapprovedAnnotation", 'not approved: "unapproved, a trial"')),
])  # fmt: skip
def test_groups_of_kubernetes_tell_who_approved_them(group: str, note: str, expected: Any) -> None:
    crd = {"metadata": {"annotations": {"api-approved.kubernetes.io": note}}, "spec": {"group": group}}
    assert approval_of(crd) == expected


def test_pattern_that_go_cannot_compile_is_refused_when_the_definition_is_made() -> None:
    part = {"type": "string", "pattern": "+", "anyOf": [{"pattern": "("}]}
    told = "must be a valid regular expression, but isn't: error parsing regexp:"
    at = "spec.validation.openAPIV3Schema.properties[foo]"
    assert refusals({"type": "object", "properties": {"foo": part}}) == [
        f'{at}.anyOf[0].pattern: Invalid value: "(": {told} missing closing ): `(`',
        f'{at}.pattern: Invalid value: "+": {told} missing argument to repetition operator: `+`',
    ]


@pytest.mark.parametrize(("pattern", "fitting", "wrong"), [
    (r"^[[:alpha:]]+$", "abc", "ab1"), (r"^(?P<a>x)\z", "x", "x\n"), (r"^\d+$", "12", "\u0661"), (r"^\Qa.b\E$", "a.b", "axb"),
    (r"^[$a]+$", "$a", "b"), (r"(?i)^abc$", "ABC", "abd"), (r"^a$", "a", "a\n"), (r"^\x{41}$", "A", "B"), (r"^\p{L}+$", "é", "1"),
    (r"^[\p{L}\d-]+$", "é-1", "é 1"),
])  # fmt: skip
def test_patterns_mean_what_they_mean_in_go(pattern: str, fitting: str, wrong: str) -> None:
    schema = {"type": "string", "pattern": pattern}
    assert validate_at(schema, fitting, "f") == []
    assert [str(error.field) for error in validate_at(schema, wrong, "f")] == ["f"]


LISTENER = {"type": "object", "properties": {
    "name": WORD, "port": NUMBER, "protocol": WORD, "hostname": WORD, "namespace": WORD,
    "tls": {"type": "object", "properties": {
        "mode": WORD, "options": {"type": "object", "additionalProperties": WORD, "maxProperties": 16},
    }},
    "path": {"type": "object", "properties": {"type": WORD, "value": WORD}},
}}  # fmt: skip
SAME_HOST = "(has(a.hostname) && has(b.hostname) ? a.hostname == b.hostname : !has(a.hostname) && !has(b.hostname))"


@pytest.mark.parametrize("rule", [
    "self.all(a, self.exists_one(b, a.name == b.name))", "self.all(l, l.protocol in ['HTTP', 'TCP'] ? !has(l.tls) : true)",
    "self.all(l, (l.protocol == 'HTTPS' && has(l.tls)) ? (!has(l.tls.mode) || l.tls.mode == 'Terminate') : true)",
    f"self.all(a, self.exists_one(b, a.port == b.port && a.protocol == b.protocol && {SAME_HOST}))",
    "self.filter(l, has(l.path) && l.path.type == 'Prefix').size() <= 1",
    "self.all(l, !has(l.path) || l.path.type != 'Exact' || (!l.path.value.contains('//') && !l.path.value.endsWith('/..')))",
    r'''self.all(l, !has(l.path) || l.path.value.matches(r"""^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+$"""))''',
    "self.size() > 0 ? (self[0].?path.?type.orValue('Prefix') == 'Prefix') : true",
    "self.all(l, !has(l.__namespace__) || l.__namespace__ == 'team' || l.__namespace__.startsWith('team-'))",
    "!self.exists(l, has(l.tls) && has(l.tls.options) && l.tls.options.exists(k, k.startsWith('bad/') && l.tls.options[k] != ''))",
    "size(self.map(l, l.port)) == size(self) && self.map(l, l.port).isSorted() && self.all(l, l.port >= 1 && l.port <= 65535)",
])  # fmt: skip
def test_rules_of_the_shapes_that_real_projects_use_hold(rule: str) -> None:
    schema = {"type": "object", "properties": {"listeners": ruled({"type": "array", "items": LISTENER, "maxItems": 64}, rule)}}
    assert refusals(schema) == []
    listeners = [
        {"name": "a", "port": 80, "protocol": "HTTP", "path": {"type": "Prefix", "value": "/a%20b"}, "namespace": "team-x"},
        {"name": "b", "port": 443, "protocol": "HTTPS", "hostname": "x.example", "tls": {"mode": "Terminate", "options": {"good/a": "1"}}},
        {"name": "c", "port": 8443, "protocol": "HTTPS", "hostname": "y.example", "path": {"type": "Exact", "value": "/c"}},
    ]
    assert told(schema, {"listeners": listeners}) == []


HINT = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
AT = "spec.validation.openAPIV3Schema"


def test_rule_that_may_cost_too_much_is_refused_with_a_hint_of_what_is_missing() -> None:
    names = {"type": "array", "items": TEXT}
    quadratic = spec_of("self.names.all(a, self.names.exists_one(b, a == b))", names=names)
    here = f"{AT}.properties[spec].x-kubernetes-validations[0].rule: Forbidden:"
    assert refusals(quadratic) == [
        f"{here} estimated rule cost exceeds budget by factor of more than 100x {HINT}",
        f"{here} contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema",
        f"{AT}: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of "
        f"more than 100x {HINT}",
    ]
    bounded = spec_of("self.names.all(a, self.names.exists_one(b, a == b))", names={**names, "items": WORD, "maxItems": 64})
    assert refusals(bounded) == []


def test_rule_counts_as_often_as_its_value_may_be_there() -> None:
    def refused(**bounds: int) -> list[str]:
        item = ruled({"type": "string", "maxLength": 100}, "self.contains('abcdefghijk')")
        return refusals({"type": "object", "properties": {"names": {"type": "array", "items": item, **bounds}}})

    told = f"{AT}.properties[names].items.x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of"
    assert refused() == [f"{told} 8.5x {HINT}"]
    assert refused(maxItems=150_000) == [f"{told} 1.215000x {HINT}"]
    assert refused(maxItems=100_000) == []


def test_expression_of_a_message_has_a_budget_too() -> None:
    rule = {"rule": "self.n > 0", "messageExpression": "'n is ' + string(self.n)"}
    told = f"{AT}.properties[spec].x-kubernetes-validations[0].messageExpression: Forbidden:"
    complaint = f"{told} estimated messageExpression cost exceeds budget by factor of more than 100x {HINT}"
    assert complaint in refusals(spec_of(rule, n=NUMBER))
    assert refusals(spec_of({**rule, "messageExpression": "'n is %d'.format([self.n])"}, n=NUMBER)) == []


def test_definition_that_was_stored_with_an_expensive_rule_can_still_be_updated() -> None:
    schema = ruled({"type": "object", "properties": {"a": TEXT}}, f"self.a.contains('{'x' * 400}')")
    strategy = CustomResourceDefinitionStrategy(CUSTOMRESOURCEDEFINITIONS)
    stored = definition(version("v1", schema=schema))
    strategy.default(stored)
    assert any("exceeds budget" in str(error) for error in strategy.validate(stored))
    assert strategy.validate_update({**stored, "metadata": {**stored["metadata"], "labels": {"a": "b"}}}, stored) == []


def test_old_value_within_an_atomic_map_cannot_be_spoken_of() -> None:
    part = {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"n": ruled(NUMBER, "self >= oldSelf")}}
    assert refusals({"type": "object", "properties": {"part": part}}) == [
        f'{AT}.properties[part].properties[n].x-kubernetes-validations[0].rule: Invalid value: "self >= oldSelf": oldSelf cannot be used '
        f"on the uncorrelatable portion of the schema within {AT}.properties[part]",
    ]


def test_metrics_tell_how_long_rules_take(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(CRDS, definition(version("v1", schema=spec_of("self.n < 5", n=NUMBER))))
        await api.create(CRONTABS, crontab("a", n=1))
        await api.refused("POST", CRONTABS, crontab("b", n=7))
        text = (await api.raw("GET", "/metrics")).text
        assert "apiserver_cel_compilation_duration_seconds_count 1.0" in text
        assert "apiserver_cel_evaluation_duration_seconds_count 2.0" in text

    with_api(tmp_path, test)
