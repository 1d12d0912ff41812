"""Secrets. Imitates ValidateSecret(Update) and the conversion that folds stringData into data."""

from __future__ import annotations

import base64

import orjson

from kubecosm.api import names
from kubecosm.api.field import FieldError, invalid_value, required, too_long
from kubecosm.api.resources import Object

from ..formats import Errors, check_immutable, is_config_key
from ..strategy import Strategy
from .configmap import DATA_BYTES_MAX, check_still_immutable, decoded_size

_JSON_KEYS = {names.SECRET_DOCKERCFG: ".dockercfg", names.SECRET_DOCKERCONFIGJSON: ".dockerconfigjson"}


class SecretStrategy(Strategy):
    """A Secret."""

    def default(self, obj: Object) -> None:
        texts = obj.pop("stringData", None)
        if texts:
            encoded = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
            obj["data"] = {**(obj.get("data") or {}), **encoded}
        if not obj.get("type"):
            obj["type"] = names.SECRET_OPAQUE

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        if not obj.get("type"):
            obj["type"] = old.get("type", "")

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        data = obj.get("data") or {}
        size = 0
        for key, value in data.items():
            for complaint in is_config_key(key):
                errors.append(invalid_value(f"data[{key}]", key, complaint))
            size += decoded_size(value)
        if size > DATA_BYTES_MAX:
            errors.append(too_long("data", DATA_BYTES_MAX))
        _check_type(obj, data, errors)
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        check_immutable(obj.get("type", ""), old.get("type", ""), "type", errors)
        check_still_immutable(obj, old, ("data",), errors)
        return errors + self.validate(obj)

    def selectable_fields(self, obj: Object) -> dict[str, str]:
        return {"type": obj.get("type", "")}

    def selectable_field_names(self) -> tuple[str, ...]:
        return ("type",)


def _check_type(secret: Object, data: dict[str, str], errors: Errors) -> None:
    kind = secret.get("type", "")
    if kind == names.SECRET_SERVICE_ACCOUNT_TOKEN:
        if not (secret["metadata"].get("annotations") or {}).get(names.ANNOTATION_SERVICE_ACCOUNT_NAME):
            errors.append(required(f"metadata.annotations[{names.ANNOTATION_SERVICE_ACCOUNT_NAME}]"))
    elif kind in _JSON_KEYS:
        key = _JSON_KEYS[kind]
        if key not in data:
            errors.append(required(f"data[{key}]"))
        elif not _is_json_object(data[key]):
            errors.append(invalid_value(f"data[{key}]", "<secret contents redacted>", "unexpected end of JSON input"))
    elif kind == names.SECRET_BASIC_AUTH:
        if "username" not in data and "password" not in data:
            errors += [required("data[username]"), required("data[password]")]
    elif kind == names.SECRET_SSH_AUTH:
        if not data.get("ssh-privatekey"):
            errors.append(required("data[ssh-privatekey]"))
    elif kind == names.SECRET_TLS:
        errors.extend(required(f"data[{key}]") for key in ("tls.crt", "tls.key") if key not in data)


def _is_json_object(value: str) -> bool:
    try:
        return isinstance(orjson.loads(base64.b64decode(value)), dict)
    except ValueError:
        return False
