"""Node selectors and node affinity, compiled to requirements over the label columns of the node table.

Imitates k8s.io/component-helpers/scheduling/corev1/nodeaffinity: terms are alternatives, the requirements of a term must all hold, a term
without requirements matches nothing, and matchFields knows metadata.name only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import orjson

from kubecosm.api.resources import Object

COMPILED_SELECTORS_MAX = 4096

REQUIRED, PREFERRED = "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"


class NodeRequirement(NamedTuple):
    """One expression; operator is In, NotIn, Exists, DoesNotExist, Gt or Lt."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeTerm:
    labels: tuple[NodeRequirement, ...] = ()
    fields: tuple[NodeRequirement, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeTerms:
    """What a node must be: it has all `selector` labels and matches one of `terms` (None: no terms were asked for)."""

    selector: tuple[NodeRequirement, ...] = ()
    terms: tuple[NodeTerm, ...] | None = None

    @property
    def only_names(self) -> frozenset[str] | None:
        """The node names to which every term is bound by metadata.name; None if some term is not, so all nodes are candidates."""
        if not self.terms:
            return None
        names: set[str] = set()
        for term in self.terms:
            bound = None
            for requirement in term.fields:
                if requirement.key == "metadata.name" and requirement.operator == "In":
                    bound = set(requirement.values) if bound is None else bound & set(requirement.values)
            if bound is None:
                return None
            names |= bound
        return frozenset(names)


    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether one node, described by its name and labels, is such a node. NodeMatcher asks this of all nodes at once."""
        if not all(_holds(one, labels) for one in self.selector):
            return False
        fields = {"metadata.name": name}
        return self.terms is None or any(
            all(_holds(one, labels) for one in term.labels) and all(_holds(one, fields) for one in term.fields) for term in self.terms
        )


def integer(text: str) -> int | None:
    """A label value as Gt and Lt read it; None if it is no integer."""
    try:
        return int(text) if text.isascii() and "_" not in text and text == text.strip() else None
    except ValueError:
        return None


def _holds(requirement: NodeRequirement, labels: Mapping[str, str]) -> bool:
    key, operator, values = requirement
    if operator in ("Exists", "DoesNotExist"):
        return (key in labels) is (operator == "Exists")
    if operator in ("In", "NotIn"):
        return (labels.get(key) in values) is (operator == "In")
    number, bound = integer(labels.get(key, "")), integer(values[0]) if len(values) == 1 else None
    if number is None or bound is None:
        return False
    return number > bound if operator == "Gt" else number < bound if operator == "Lt" else False


def compile_required(node_selector: Mapping[str, str] | None, affinity: Object | None) -> NodeTerms | None:
    """nodeSelector and required node affinity together; None if the pod asks for neither."""
    required = (affinity or {}).get(REQUIRED)
    if not node_selector and required is None:
        return None
    return _compile_required(orjson.dumps([node_selector or {}, required], option=orjson.OPT_SORT_KEYS))


def compile_preferred(affinity: Object | None) -> tuple[tuple[int, NodeTerms], ...]:
    """(weight, terms) of each preferred term that can match anything."""
    preferred = (affinity or {}).get(PREFERRED)
    return _compile_preferred(orjson.dumps(preferred)) if preferred else ()


def compile_selector(selector: Object | None) -> NodeTerms | None:
    """A bare NodeSelector object, such as a PersistentVolume's nodeAffinity.required."""
    return None if selector is None else _compile_required(orjson.dumps([{}, selector]))


@lru_cache(maxsize=COMPILED_SELECTORS_MAX)
def _compile_required(raw: bytes) -> NodeTerms:
    node_selector, required = orjson.loads(raw)
    selector = tuple(NodeRequirement(key, "In", (value,)) for key, value in node_selector.items())
    return NodeTerms(selector, None if required is None else _terms(required.get("nodeSelectorTerms") or ()))


@lru_cache(maxsize=COMPILED_SELECTORS_MAX)
def _compile_preferred(raw: bytes) -> tuple[tuple[int, NodeTerms], ...]:
    weighted = ((item.get("weight") or 0, _terms((item.get("preference") or {},))) for item in orjson.loads(raw))
    return tuple((weight, NodeTerms((), terms)) for weight, terms in weighted if weight and terms)


def _terms(terms: list[Object] | tuple[Object, ...]) -> tuple[NodeTerm, ...]:
    compiled = (NodeTerm(_requirements(term.get("matchExpressions")), _requirements(term.get("matchFields"))) for term in terms)
    return tuple(term for term in compiled if term.labels or term.fields)


def _requirements(expressions: list[Object] | None) -> tuple[NodeRequirement, ...]:
    return tuple(NodeRequirement(e.get("key") or "", e["operator"], tuple(e.get("values") or ())) for e in expressions or ())
