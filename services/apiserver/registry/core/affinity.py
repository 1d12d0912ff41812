"""Validation of where pods may run: affinity, node selectors, tolerations, taints, topology spread."""

from __future__ import annotations

from collections.abc import Sequence

from kubecosm.api.field import duplicate, forbidden_field, invalid_value, not_supported, required
from kubecosm.api.resources import Object

from ..formats import NOT_POSITIVE, Errors, is_dns1123_label, is_dns1123_subdomain, is_label_value
from ..gotypes import dump
from ..meta import NOT_AN_OPERATOR, check_label_name, check_label_selector, check_requirement_names, check_set_operator
from ..values import sorted_map

TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
TOLERATION_OPERATORS = ("Equal", "Exists")
SCHEDULE_ACTIONS = ("DoNotSchedule", "ScheduleAnyway")
INCLUSION_POLICIES = ("Honor", "Ignore")
REQUIRED_TERMS = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED_TERMS = "preferredDuringSchedulingIgnoredDuringExecution"


def check_affinity(affinity: Object, path: str, errors: Errors, *, allow_invalid_values: bool = False) -> None:
    """spec.affinity. `allow_invalid_values` keeps objects updatable that already carry bad label values."""
    node = affinity.get("nodeAffinity")
    if node is not None:
        if REQUIRED_TERMS in node:
            where = f"{path}.nodeAffinity.{REQUIRED_TERMS}"
            check_node_selector(node[REQUIRED_TERMS], where, errors, allow_invalid_values=allow_invalid_values)
        for i, term in enumerate(node.get(PREFERRED_TERMS) or ()):
            where = f"{path}.nodeAffinity.{PREFERRED_TERMS}[{i}]"
            _check_weight(term, where, errors)
            _check_node_term(term.get("preference") or {}, f"{where}.preference", errors, allow_invalid_values=True)
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(kind)
        if rules is None:
            continue
        for i, term in enumerate(rules.get(REQUIRED_TERMS) or ()):
            _check_pod_term(term, f"{path}.{kind}.{REQUIRED_TERMS}[{i}]", errors, allow_invalid_values)
        for i, weighted in enumerate(rules.get(PREFERRED_TERMS) or ()):
            where = f"{path}.{kind}.{PREFERRED_TERMS}[{i}]"
            _check_weight(weighted, where, errors)
            _check_pod_term(weighted.get("podAffinityTerm") or {}, f"{where}.podAffinityTerm", errors, allow_invalid_values)


def _check_weight(term: Object, path: str, errors: Errors) -> None:
    weight = term.get("weight", 0)
    if not 1 <= weight <= 100:
        errors.append(invalid_value(f"{path}.weight", weight, "must be in the range 1-100"))


def check_node_selector(selector: Object, path: str, errors: Errors, *, allow_invalid_values: bool = False) -> None:
    """A NodeSelector: terms of which one must match."""
    terms = selector.get("nodeSelectorTerms") or ()
    if not terms:
        errors.append(required(f"{path}.nodeSelectorTerms", "must have at least one node selector term"))
    for i, term in enumerate(terms):
        _check_node_term(term, f"{path}.nodeSelectorTerms[{i}]", errors, allow_invalid_values=allow_invalid_values)


def _check_node_term(term: Object, path: str, errors: Errors, *, allow_invalid_values: bool) -> None:
    for i, requirement in enumerate(term.get("matchExpressions") or ()):
        _check_node_expression(requirement, f"{path}.matchExpressions[{i}]", errors, allow_invalid_values)
    for i, requirement in enumerate(term.get("matchFields") or ()):
        _check_node_field(requirement, f"{path}.matchFields[{i}]", errors)


def _check_node_expression(requirement: Object, path: str, errors: Errors, allow_invalid_values: bool) -> None:
    operator = requirement.get("operator", "")
    if operator in ("Gt", "Lt"):
        if len(requirement.get("values") or ()) != 1:
            errors.append(required(f"{path}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'"))
    elif not check_set_operator(requirement, path, errors):
        errors.append(invalid_value(f"{path}.operator", operator, NOT_AN_OPERATOR))
    check_requirement_names(requirement, path, errors, allow_invalid_values)


def _check_node_field(requirement: Object, path: str, errors: Errors) -> None:
    operator, key, values = requirement.get("operator", ""), requirement.get("key", ""), requirement.get("values") or ()
    if operator not in ("In", "NotIn"):
        errors.append(invalid_value(f"{path}.operator", operator, NOT_AN_OPERATOR))
    elif len(values) != 1:
        errors.append(required(f"{path}.values", "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"))
    if key != "metadata.name":
        errors.append(invalid_value(f"{path}.key", key, "not a valid field selector key"))
        return
    for i, value in enumerate(values):
        for complaint in is_dns1123_subdomain(value):
            errors.append(invalid_value(f"{path}.values[{i}]", value, complaint))


def _check_pod_term(term: Object, path: str, errors: Errors, allow_invalid_values: bool) -> None:
    selector = term.get("labelSelector")
    check_label_selector(selector, f"{path}.labelSelector", errors, allow_invalid_values=allow_invalid_values)
    check_label_selector(term.get("namespaceSelector"), f"{path}.namespaceSelector", errors, allow_invalid_values=allow_invalid_values)
    for namespace in term.get("namespaces") or ():
        for complaint in is_dns1123_label(namespace):
            errors.append(invalid_value(f"{path}.namespace", namespace, complaint))
    if "matchLabelKeys" in term or "mismatchLabelKeys" in term:
        _check_label_keys(term, selector, path, errors)
    topology = term.get("topologyKey", "")
    if not topology:
        errors.append(required(f"{path}.topologyKey", "can not be empty"))
    check_label_name(topology, f"{path}.topologyKey", errors)


def _selector_keys(selector: Object | None) -> list[str]:
    if selector is None:
        return []
    return [*(selector.get("matchLabels") or ()), *(e.get("key", "") for e in selector.get("matchExpressions") or ())]


def _check_label_keys(term: Object, selector: Object | None, path: str, errors: Errors) -> None:
    match, mismatch = term.get("matchLabelKeys") or (), term.get("mismatchLabelKeys") or ()
    for field, keys in (("matchLabelKeys", match), ("mismatchLabelKeys", mismatch)):
        if keys and selector is None:
            errors.append(forbidden_field(f"{path}.{field}", "must not be specified when labelSelector is not set"))
        elif keys:
            for i, key in enumerate(keys):
                check_label_name(key, f"{path}.{field}[{i}]", errors)
    # The store itself adds one expression per matchLabelKey: a key seen twice came from the client as well.
    seen: set[str] = set()
    for key in _selector_keys(selector):
        if key in match and key in seen:
            errors.append(invalid_value(f"{path}[{list(match).index(key)}]", key, "exists in both matchLabelKeys and labelSelector"))
        seen.add(key)
    for i, key in enumerate(match):
        if key in mismatch:
            errors.append(invalid_value(f"{path}.matchLabelKeys[{i}]", key, "exists in both matchLabelKeys and mismatchLabelKeys"))


def check_topology_spread(constraints: Sequence[Object], path: str, errors: Errors) -> None:
    """spec.topologySpreadConstraints."""
    for i, constraint in enumerate(constraints):
        where = f"{path}[{i}]"
        skew, topology, action = constraint.get("maxSkew", 0), constraint.get("topologyKey", ""), constraint.get("whenUnsatisfiable", "")
        if skew <= 0:
            errors.append(invalid_value(f"{where}.maxSkew", skew, NOT_POSITIVE))
        if not topology:
            errors.append(required(f"{where}.topologyKey", "can not be empty"))
        if action not in SCHEDULE_ACTIONS:
            errors.append(not_supported(f"{where}.whenUnsatisfiable", action, SCHEDULE_ACTIONS))
        for other in constraints[i + 1 :]:
            if other.get("topologyKey", "") == topology and other.get("whenUnsatisfiable", "") == action:
                errors.append(duplicate(f"{where}.{{topologyKey, whenUnsatisfiable}}", f"{{{topology}, {action}}}"))
                break
        _check_min_domains(constraint, action, f"{where}.minDomains", errors)
        for field in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            policy = constraint.get(field)
            if policy is not None and policy not in INCLUSION_POLICIES:
                errors.append(not_supported(f"{where}.{field}", policy, INCLUSION_POLICIES))
        selector = constraint.get("labelSelector")
        if constraint.get("matchLabelKeys"):
            _check_label_keys(constraint, selector, where, errors)
        check_label_selector(selector, f"{where}.labelSelector", errors)


def _check_min_domains(constraint: Object, action: str, path: str, errors: Errors) -> None:
    domains = constraint.get("minDomains")
    if domains is None:
        return
    if domains <= 0:
        errors.append(invalid_value(path, domains, NOT_POSITIVE))
    if action != "DoNotSchedule":
        errors.append(invalid_value(path, domains, f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"))


def check_tolerations(tolerations: Sequence[Object], path: str, errors: Errors) -> None:
    """spec.tolerations."""
    for i, toleration in enumerate(tolerations):
        where = f"{path}[{i}]"
        key, operator = toleration.get("key"), toleration.get("operator", "")
        value, effect = toleration.get("value", ""), toleration.get("effect", "")
        if key:
            check_label_name(key, f"{where}.key", errors)
        elif operator != "Exists":
            detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            errors.append(invalid_value(f"{where}.operator", operator, detail))
        if "tolerationSeconds" in toleration and effect != "NoExecute":
            errors.append(invalid_value(f"{where}.effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set"))
        if operator in ("Equal", ""):
            complaints = is_label_value(value)
            if complaints:
                errors.append(invalid_value(f"{where}.operator", value, ";".join(complaints)))
        elif operator == "Exists":
            if value:
                detail = "value must be empty when `operator` is 'Exists'"
                errors.append(invalid_value(f"{where}.operator", dump("Toleration", toleration), detail))
        else:
            errors.append(not_supported(f"{where}.operator", operator, TOLERATION_OPERATORS))
        if effect and effect not in TAINT_EFFECTS:
            errors.append(not_supported(f"{where}.effect", effect, TAINT_EFFECTS))


def check_taints(taints: Sequence[Object], path: str, errors: Errors) -> None:
    """spec.taints of a node."""
    seen: set[tuple[str, str]] = set()
    for i, taint in enumerate(taints):
        where = f"{path}[{i}]"
        key, effect, value = taint.get("key", ""), taint.get("effect", ""), taint.get("value", "")
        check_label_name(key, f"{where}.key", errors)
        complaints = is_label_value(value)
        if complaints:
            errors.append(invalid_value(f"{where}.value", value, ";".join(complaints)))
        if not effect:
            errors.append(required(f"{where}.effect"))
        elif effect not in TAINT_EFFECTS:
            errors.append(not_supported(f"{where}.effect", effect, TAINT_EFFECTS))
        if (key, effect) in seen:
            shown = {"Key": key, "Value": value, "Effect": effect, "TimeAdded": taint.get("timeAdded")}
            repeated = duplicate(where, shown)
            errors.append(type(repeated)(repeated.type, repeated.field, "taints must be unique by key and effect pair", shown))
        seen.add((key, effect))


def check_node_affinity_added(new: Object | None, old: Object | None, path: str, errors: Errors) -> None:
    """A gated pod may only narrow its node affinity (validateNodeAffinityMutation)."""
    if old is None or REQUIRED_TERMS not in old:
        return
    old_terms = old[REQUIRED_TERMS].get("nodeSelectorTerms") or ()
    where = f"{path}.{REQUIRED_TERMS}.nodeSelectorTerms"
    if old_terms and (new is None or REQUIRED_TERMS not in new):
        shown = None if new is None else sorted_map(new)
        errors.append(invalid_value(where, shown, "no additions/deletions to non-empty NodeSelectorTerms list are allowed"))
        return
    new_terms = ((new or {}).get(REQUIRED_TERMS) or {}).get("nodeSelectorTerms") or ()
    if old_terms and len(new_terms) != len(old_terms):
        listed = [sorted_map(term) for term in new_terms]
        errors.append(invalid_value(where, listed, "no additions/deletions to non-empty NodeSelectorTerms list are allowed"))
        return
    for i, (new_term, old_term) in enumerate(zip(new_terms, old_terms, strict=False)):
        for field in ("matchExpressions", "matchFields"):
            kept = (new_term.get(field) or [])[: len(old_term.get(field) or [])]
            if kept != (old_term.get(field) or []):
                shown = sorted_map(new_term)
                errors.append(invalid_value(f"{where}[{i}]", shown, "only additions are allowed (no mutations or deletions)"))
                break
