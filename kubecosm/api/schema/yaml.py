"""YAML bodies read as the API server reads them: YAML 1.1 words for booleans, but neither dates nor base-60 numbers.

Imitates sigs.k8s.io/yaml, which turns YAML into JSON. Left out: go-yaml's own wording of rarer syntax errors (libyaml's is used).
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Any

import orjson


class YamlError(ValueError):
    """The text is not YAML, or holds what JSON cannot; the message starts as go-yaml's does."""


def load(text: str | bytes) -> tuple[Any, list[str]]:
    """The first document as JSON values, and complaints about repeated keys (`line 3: key "a" already set in map`)."""
    if text[:1] in (b"{", "{") and (value := _plain_json(text)) is not None:
        return value, []
    import yaml

    complaints: list[str] = []
    try:
        loader = _loader_class()(text)
        try:
            node = loader.get_single_node() if not isinstance(text, bytes) else loader.get_node() if loader.check_node() else None
            budget = _Budget(max(NODES_MIN, len(text)))
            return (_value(budget, node, complaints, 0) if node is not None else None), complaints
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise YamlError(f"yaml: {where}{getattr(error, 'problem', None) or error}") from None
    except UnicodeDecodeError:
        raise YamlError("yaml: invalid leading UTF-8 octet") from None
    except RecursionError:
        raise YamlError("yaml: exceeded max depth") from None


def _plain_json(text: str | bytes) -> Any:
    """What most clients send: JSON, which is YAML. None if it is not, or may repeat keys, which takes a closer look."""
    data = text.encode() if isinstance(text, str) else text
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return value if b"\\u0022" not in data and data.count(b'"') == orjson.dumps(value).count(b'"') else None


NODES_MIN = 10_000
"""Values that any document may have, however short its text: some aliasing is fine."""
INTEGER_DIGITS_MAX = 18
"""Longer integers become floats: 64 bits may not hold them."""
_INT = re.compile(r"[-+]?(?:0b[01_]+|0o[0-7_]+|0[0-7_]*|0x[0-9a-fA-F_]+|[1-9][0-9_]*)\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_TRUE = frozenset(["y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE"])
_FALSE = frozenset(["n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE"])
_PLAIN_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "timestamp", "value"))
_NULL = frozenset(("", "~", "null", "Null", "NULL"))


@lru_cache(maxsize=1)
def _loader_class() -> Any:
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Budget:
    """How many more values a document may have: as many as its text has characters, unless aliases multiply them."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left


def _value(budget: _Budget, node: Any, complaints: list[str], depth: int) -> Any:
    if depth > 500:
        raise YamlError("yaml: exceeded max depth")
    budget.left -= 1
    if budget.left < 0:
        raise YamlError("yaml: document contains excessive aliasing")
    if node.id == "scalar":
        return _scalar(node)
    if node.id == "sequence":
        return [_value(budget, item, complaints, depth + 1) for item in node.value]
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if key_node.id != "scalar":
            raise YamlError("yaml: invalid map key")
        value = _value(budget, value_node, complaints, depth + 1)
        if key_node.tag == "tag:yaml.org,2002:merge" or (key_node.value == "<<" and not key_node.style):
            for merged in value if isinstance(value, list) else [value]:
                result = {**merged, **result}
            continue
        key = _key(_scalar(key_node))
        if key in result:
            complaints.append(f'line {key_node.start_mark.line + 1}: key "{key}" already set in map')
        result[key] = value
    return result


def _key(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else value if isinstance(value, str) else _number_text(value)


def _number_text(value: int | float) -> str:
    return str(value) if isinstance(value, int) or not value.is_integer() else str(int(value))


def _scalar(node: Any) -> Any:
    text, tag = node.value, node.tag
    if tag == "tag:yaml.org,2002:binary":
        return text
    explicit_text = tag == "tag:yaml.org,2002:str" and text.isdigit()
    if node.style or explicit_text or tag not in _PLAIN_TAGS:
        return text
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if text[0] not in "0123456789.+-":
        return text
    plain = text.replace("_", "")
    if _INT.match(text):
        return _integer(plain)
    if _FLOAT.match(plain):
        number = float(plain)
        return int(number) if number.is_integer() and abs(number) < 2**53 else number  # Go prints whole floats without a point
    if plain.lower() in (".inf", "+.inf", "-.inf", ".nan"):
        raise YamlError(f"json: unsupported value: {'NaN' if 'n' in plain.lower()[-1] else math.inf}")
    return text


def _integer(text: str) -> int | float | str:
    sign = -1 if text[0] == "-" else 1
    digits = text.lstrip("+-")
    if len(digits) > INTEGER_DIGITS_MAX:
        return float(text) if digits.isdigit() else text
    if digits.startswith(("0b", "0o", "0x")):
        return sign * int(digits, 0)
    return sign * int(digits, 8 if len(digits) > 1 and digits[0] == "0" else 10)
