"""IntOrString fields (`maxUnavailable: 25%`, `targetPort: http`). Imitates k8s.io/apimachinery/pkg/util/intstr."""

from __future__ import annotations

import re

IntOrString = int | str

_PERCENT = re.compile(r"[+-]?[0-9]+%\Z", re.ASCII)


def scaled_value(value: IntOrString, total: int, *, round_up: bool) -> int:
    """An absolute number: an int as it is, `25%` of total rounded up or down. ValueError for any other text."""
    if isinstance(value, int):
        return value
    if not value.endswith("%"):
        raise ValueError(f"invalid value for IntOrString: invalid type: string is not a percentage: {value!r}")
    if not _PERCENT.match(value):
        raise ValueError(f"invalid value for IntOrString: invalid value {value!r}")
    product = int(value[:-1]) * total
    return -(-product // 100) if round_up else product // 100


def is_percent(value: object) -> bool:
    """Whether this is text such as `25%` or `100%` (unsigned digits, as validation demands)."""
    return isinstance(value, str) and value[:-1].isascii() and value[:-1].isdigit() and value.endswith("%")


def int_value(value: IntOrString) -> int:
    """The number in an int or numeric string; 0 for other text (intstr.IntOrString.IntValue)."""
    if isinstance(value, int):
        return value
    try:
        return int(value)
    except ValueError:
        return 0
