"""Device selectors: expressions over one device, as claims and classes of resource.k8s.io have them.

Imitates k8s.io/dynamic-resource-allocation/cel. Compiled expressions are kept.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from .environment import Environment, Program
from .estimation import estimate
from .issues import CompileError
from .types import BOOL, DYN, STRING, Type, map_of, object_of, opaque

EXPRESSIONS_MAX = 1024
COST_MAX = 1_000_000
"""CELSelectorExpressionMaxCost."""
DRIVER_LENGTH_MAX = DOMAIN_LENGTH_MAX = 63
ID_LENGTH_MAX, ATTRIBUTES_MAX, ATTRIBUTE_LENGTH_MAX = 32, 32, 64


def _bounded(found: Type, most: int) -> Type:
    """The same type, for values no larger than that."""
    copy = Type(found.kind, found.name, found.params, found.fields)
    copy.size_max = most
    return copy


class _Attributes(dict[str, Type]):
    """Whatever an attribute is called, it is no larger than others."""

    def get(self, name: str, default: Any = None) -> Any:
        return _ATTRIBUTE


_ATTRIBUTE, _ID, _DOMAIN = _bounded(DYN, ATTRIBUTE_LENGTH_MAX), _bounded(STRING, ID_LENGTH_MAX), _bounded(STRING, DOMAIN_LENGTH_MAX)


def _by_domain(value: Type, fields: dict[str, Type] | None = None) -> Type:
    of_domain = _bounded(map_of(_ID, value), ATTRIBUTES_MAX)
    of_domain.fields = fields
    return _bounded(map_of(_DOMAIN, of_domain), ATTRIBUTES_MAX)


_DEVICE = object_of("kubernetes.DRADevice", {
    "driver": _bounded(STRING, DRIVER_LENGTH_MAX), "attributes": _by_domain(_ATTRIBUTE, _Attributes()),
    "capacity": _by_domain(opaque("kubernetes.Quantity")), "allowMultipleAllocations": BOOL,
})  # fmt: skip
_ENVIRONMENT = Environment({"device": _DEVICE}, binds=True)


@lru_cache(maxsize=EXPRESSIONS_MAX)
def compile_selector(text: str) -> Program:
    """Raises CompileError."""
    return _ENVIRONMENT.compile(text)


@lru_cache(maxsize=EXPRESSIONS_MAX)
def problem_of(text: str) -> str:
    """Why an expression cannot be a selector, as validation says it; empty if it can."""
    try:
        found = compile_selector(text).type
    except CompileError as error:
        return f"compilation failed: {error}"
    return "" if found.kind in ("bool", "dyn") else f"must evaluate to bool or the unknown type, not {found}"


@lru_cache(maxsize=EXPRESSIONS_MAX)
def most_cost(text: str) -> int:
    """What an expression that compiles may cost at most."""
    return estimate(compile_selector(text).tree, _DEVICE).most
