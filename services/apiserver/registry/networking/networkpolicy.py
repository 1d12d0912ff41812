"""NetworkPolicies. Imitates ValidateNetworkPolicySpec and SetDefaults_NetworkPolicy."""

from __future__ import annotations

from kubecosm.api.field import FieldError, forbidden_field, invalid_value, not_supported, required
from kubecosm.api.resources import Object

from ..formats import CIDR_COMPLAINT, Errors, check_port, is_port_name, parse_cidr
from ..meta import check_label_selector
from ..strategy import SpecStrategy

POLICY_TYPES = ("Egress", "Ingress")
PROTOCOLS = ("TCP", "UDP", "SCTP")


class NetworkPolicyStrategy(SpecStrategy):
    """A NetworkPolicy."""

    def default(self, obj: Object) -> None:
        spec = obj.setdefault("spec", {})
        for direction in ("ingress", "egress"):
            for rule in spec.get(direction) or ():
                for port in rule.get("ports") or ():
                    port.setdefault("protocol", "TCP")
        if not spec.get("policyTypes"):
            spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        spec = obj["spec"]
        check_label_selector(spec.get("podSelector"), "spec.podSelector", errors)
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for i, rule in enumerate(spec.get(direction) or ()):
                path = f"spec.{direction}[{i}]"
                for j, port in enumerate(rule.get("ports") or ()):
                    _check_port(port, f"{path}.ports[{j}]", errors)
                for j, peer in enumerate(rule.get(peers) or ()):
                    _check_peer(peer, f"{path}.{peers}[{j}]", errors)
        types = spec.get("policyTypes") or []
        if len(types) > len(POLICY_TYPES):
            errors.append(invalid_value("spec.policyTypes", types, "may not specify more than two policyTypes"))
            return errors
        for i, kind in enumerate(types):
            if kind not in POLICY_TYPES:
                errors.append(not_supported(f"spec.policyTypes[{i}]", kind, POLICY_TYPES))
        return errors


def _check_port(entry: Object, path: str, errors: Errors) -> None:
    protocol, port, end = entry.get("protocol"), entry.get("port"), entry.get("endPort")
    if protocol is not None and protocol not in PROTOCOLS:
        errors.append(not_supported(f"{path}.protocol", protocol, PROTOCOLS))
    if port is None:
        if end is not None:
            errors.append(invalid_value(f"{path}.endPort", end, "may not be specified when `port` is not specified"))
    elif isinstance(port, int):
        check_port(port, f"{path}.port", errors)
        if end is not None:
            if end < port:
                errors.append(invalid_value(f"{path}.endPort", port, "must be greater than or equal to `port`"))
            check_port(end, f"{path}.endPort", errors)
    else:
        if end is not None:
            errors.append(invalid_value(f"{path}.endPort", end, "may not be specified when `port` is non-numeric"))
        for complaint in is_port_name(port):
            errors.append(invalid_value(f"{path}.port", port, complaint))


def _check_peer(peer: Object, path: str, errors: Errors) -> None:
    fields = [field for field in ("podSelector", "namespaceSelector", "ipBlock") if field in peer]
    for field in fields:
        if field == "ipBlock":
            _check_block(peer[field], f"{path}.ipBlock", errors)
        else:
            check_label_selector(peer[field], f"{path}.{field}", errors)
    if not fields:
        errors.append(required(path, "must specify a peer"))
    elif len(fields) > 1 and "ipBlock" in fields:
        errors.append(forbidden_field(path, "may not specify both ipBlock and another peer"))


def _check_block(block: Object, path: str, errors: Errors) -> None:
    text = block.get("cidr", "")
    if not text:
        errors.append(required(f"{path}.cidr"))
        return
    outer = parse_cidr(text)
    if outer is None:
        errors.append(invalid_value(f"{path}.cidr", text, CIDR_COMPLAINT))
    for i, excluded in enumerate(block.get("except") or ()):
        inner = parse_cidr(excluded)
        if inner is None:
            errors.append(invalid_value(f"{path}.except[{i}]", excluded, CIDR_COMPLAINT))
        elif outer is not None and (inner.ip not in outer.network or inner.network.prefixlen <= outer.network.prefixlen):
            errors.append(invalid_value(f"{path}.except[{i}]", excluded, "must be a strict subset of `cidr`"))
