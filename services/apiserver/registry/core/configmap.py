"""ConfigMaps. Imitates ValidateConfigMap(Update)."""

from __future__ import annotations

from kubecosm.api.field import FieldError, forbidden_field, invalid_value, too_long
from kubecosm.api.resources import Object

from ..formats import Errors, is_config_key
from ..strategy import Strategy

DATA_BYTES_MAX = 1024 * 1024
"""All values of a ConfigMap or Secret together."""
IMMUTABLE_COMPLAINT = "field is immutable when `immutable` is set"


class ConfigMapStrategy(Strategy):
    """A ConfigMap."""

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
        size = 0
        for key, value in data.items():
            for complaint in is_config_key(key):
                errors.append(invalid_value(f"data[{key}]", key, complaint))
            if key in binary:
                errors.append(invalid_value(f"data[{key}]", key, "duplicate of key present in binaryData"))
            size += len(value)
        for key, value in binary.items():
            for complaint in is_config_key(key):
                errors.append(invalid_value(f"binaryData[{key}]", key, complaint))
            size += decoded_size(value)
        if size * 4 > DATA_BYTES_MAX:  # a character has at most four bytes
            size = sum(len(value.encode()) for value in data.values()) + sum(map(decoded_size, binary.values()))
            if size > DATA_BYTES_MAX:
                errors.append(too_long("", DATA_BYTES_MAX))
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        check_still_immutable(obj, old, ("data", "binaryData"), errors)
        return errors + self.validate(obj)


def decoded_size(base64: str) -> int:
    """The number of bytes that base64 text stands for."""
    return len(base64) // 4 * 3 - base64[-2:].count("=")


def check_still_immutable(obj: Object, old: Object, fields: tuple[str, ...], errors: Errors) -> None:
    """Once `immutable` is set, neither it nor the data may change."""
    if not old.get("immutable"):
        return
    if not obj.get("immutable"):
        errors.append(forbidden_field("immutable", IMMUTABLE_COMPLAINT))
    for field in fields:
        if (obj.get(field) or {}) != (old.get(field) or {}):
            errors.append(forbidden_field(field, IMMUTABLE_COMPLAINT))
