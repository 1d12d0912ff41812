"""Device selectors: CEL over one device, compiled once per expression. Imitates dynamic-resource-allocation/cel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubecosm.cel.devices import compile_selector
from kubecosm.cel.issues import CompileError
from kubecosm.cel.values import CelError, CostExceeded


class Domains(dict[str, "dict[str, Any]"]):
    """Attributes or capacities by domain: a domain that a device does not know is an empty one."""

    def __missing__(self, key: str) -> dict[str, Any]:
        return {}


def evaluate(text: str, variables: Mapping[str, Any]) -> Any:
    """What the expression gives for a device. Raises CelError with what is wrong, be it at compile time or later."""
    try:
        return compile_selector(text).evaluate(variables)[0]
    except CompileError as error:
        raise CelError(str(error)) from None
    except CostExceeded:
        raise CelError("actual cost limit exceeded") from None
