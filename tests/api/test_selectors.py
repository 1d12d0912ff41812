"""Selectors match what Kubernetes would match and complain in its words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubecosm.api.selectors import (
    NOTHING,
    FieldRequirement,
    SelectorError,
    from_label_selector,
    from_labels,
    parse_fields,
    parse_labels,
)  # fmt: skip

WEB = {"app": "web", "tier": "front", "weight": "10", "empty": ""}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [("", True), ("app", True), ("!app", False), ("app=web", True), ("app==api", False), ("app!=api", True), ("nolabel!=x", True),
     ("app in (web,api)", True), ("app notin (web)", False), ("other notin (web)", True), ("app in (web),tier=front,!gone", True),
     ("weight>9", True), ("weight<10", False), ("app>1", False), ("empty=", True), ("empty in (,x)", True), ("app in ()", False),
     (" app = web , tier ", True), ("in in (in)", False)],
)  # fmt: skip
def test_a_label_selector_matches_as_in_kubernetes(selector: str, expected: bool) -> None:
    assert parse_labels(selector).matches(WEB) is expected


@pytest.mark.parametrize(
    ("selector", "message"),
    [("a===b,,", "unable to parse requirement: found '=', expected: identifier"),
     ("a=b,", "found '', expected: identifier after ','"),
     ("a=b c", "found 'c', expected: ',' or 'end of string'"),
     ("=x", "found '=', expected: !, identifier, or 'end of string'"),
     ("a in x", "unable to parse requirement: found 'x' expected: '('"),
     ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
     ("a in (=)", "unable to parse requirement: found '=', expected: ',', ')' or identifier"),
     ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
     ("a>x", "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer"),
     ("/a=b", 'unable to parse requirement: <nil>: Invalid value: "/a": prefix part must be non-empty')],
)  # fmt: skip
def test_a_malformed_label_selector_is_refused_with_kubernetes_words(selector: str, message: str) -> None:
    with pytest.raises(SelectorError) as caught:
        parse_labels(selector)
    assert str(caught.value) == message


def test_a_bad_label_value_is_told_with_its_place() -> None:
    with pytest.raises(SelectorError, match=r'values\[0\]\[a\]: Invalid value: "-b": a valid label must be an empty string'):
        parse_labels("a=-b")


def test_label_selector_objects_select() -> None:
    selector = {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["front", "back"]}]}
    assert from_label_selector(selector).matches(WEB)
    assert not from_label_selector({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}).matches(WEB)
    assert from_label_selector({}).matches(WEB)
    assert from_label_selector(None) is NOTHING
    assert not NOTHING.matches({})
    with pytest.raises(SelectorError, match='"Near" is not a valid label selector operator'):
        from_label_selector({"matchExpressions": [{"key": "a", "operator": "Near"}]})
    with pytest.raises(SelectorError, match="values set can't be empty"):
        from_label_selector({"matchExpressions": [{"key": "a", "operator": "In"}]})


def test_an_exact_value_can_be_looked_up_for_indexes() -> None:
    assert parse_labels("app=web,tier!=x").exact_value("app") == "web"
    assert parse_labels("app in (web,api)").exact_value("app") is None
    assert parse_fields("spec.nodeName=n1").exact_value("spec.nodeName") == "n1"
    assert parse_fields("spec.nodeName!=n1").exact_value("spec.nodeName") is None


def test_field_selectors_parse_match_and_escape() -> None:
    selector = parse_fields(r"status.phase!=Failed,spec.nodeName==a\,b")
    assert selector.requirements == (FieldRequirement("spec.nodeName", "a,b"), FieldRequirement("status.phase", "Failed", negated=True))
    assert selector.matches({"spec.nodeName": "a,b", "status.phase": "Running"})
    assert not selector.matches({"spec.nodeName": "a,b", "status.phase": "Failed"})
    assert parse_fields("spec.nodeName=").matches({})
    assert str(selector) == r"spec.nodeName=a\,b,status.phase!=Failed"


@pytest.mark.parametrize(
    ("selector", "message"),
    [("metadata.name", "invalid selector: 'metadata.name'; can't understand 'metadata.name'"),
     ("a=b=c", "invalid field selector: unescaped character in value: 61"),
     (r"a=\x", r"invalid field selector: invalid escape sequence: \x")],
)  # fmt: skip
def test_a_malformed_field_selector_is_refused(selector: str, message: str) -> None:
    with pytest.raises(SelectorError) as caught:
        parse_fields(selector)
    assert str(caught.value) == message


names = st.from_regex(r"[a-z]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)


@given(st.dictionaries(names, names, max_size=4))
def test_a_printed_selector_parses_to_itself(labels: dict[str, str]) -> None:
    selector = from_labels(labels)
    assert str(parse_labels(str(selector))) == str(selector)
    assert selector.matches(labels)


@given(st.text(max_size=30))
def test_any_text_either_parses_or_is_refused(text: str) -> None:
    for parse in (parse_labels, parse_fields):
        try:
            selector = parse(text)
        except SelectorError:
            continue
        assert selector.matches(WEB) in (True, False)
