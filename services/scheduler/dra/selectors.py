"""Device selectors: CEL over one device, compiled once per expression. Imitates dynamic-resource-allocation/cel."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from kubecosm.cel.environment import Environment, Program
from kubecosm.cel.issues import CompileError
from kubecosm.cel.types import BOOL, DYN, STRING, map_of, object_of, opaque
from kubecosm.cel.values import CelError, CostExceeded

EXPRESSIONS_MAX = 1024
"""Compiled expressions that are kept."""
_QUANTITY = opaque("kubernetes.Quantity")
_DEVICE = object_of("kubernetes.DRADevice", {
    "driver": STRING, "attributes": map_of(STRING, map_of(STRING, DYN)), "capacity": map_of(STRING, map_of(STRING, _QUANTITY)),
    "allowMultipleAllocations": BOOL,
})  # fmt: skip
_ENVIRONMENT = Environment({"device": _DEVICE})


class Domains(dict[str, "dict[str, Any]"]):
    """Attributes or capacities by domain: a domain that a device does not know is an empty one."""

    def __missing__(self, key: str) -> dict[str, Any]:
        return {}


@lru_cache(maxsize=EXPRESSIONS_MAX)
def _compiled(text: str) -> Program:
    return _ENVIRONMENT.compile(text)


def evaluate(text: str, variables: Mapping[str, Any]) -> Any:
    """What the expression gives for a device. Raises CelError with what is wrong, be it at compile time or later."""
    try:
        return _compiled(text).evaluate(variables)[0]
    except CompileError as error:
        raise CelError(str(error)) from None
    except CostExceeded:
        raise CelError("actual cost limit exceeded") from None
