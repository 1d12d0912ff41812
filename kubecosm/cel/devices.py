"""Device selectors: expressions over one device, as claims and classes of resource.k8s.io have them.

Imitates k8s.io/dynamic-resource-allocation/cel. Compiled expressions are kept.
"""

from __future__ import annotations

from functools import lru_cache

from .environment import Environment, Program
from .issues import CompileError
from .types import BOOL, DYN, STRING, map_of, object_of, opaque

EXPRESSIONS_MAX = 1024
COST_MAX = 1_000_000
"""CELSelectorExpressionMaxCost."""
_DEVICE = object_of("kubernetes.DRADevice", {
    "driver": STRING, "attributes": map_of(STRING, map_of(STRING, DYN)),
    "capacity": map_of(STRING, map_of(STRING, opaque("kubernetes.Quantity"))), "allowMultipleAllocations": BOOL,
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
