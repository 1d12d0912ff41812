"""CustomResourceDefinitions themselves: defaults, validation and updates. Imitates apiextensions-apiserver's validation and strategy.

Fields that all versions have in common are reported at their place in the old, unversioned layout, as Kubernetes does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kubecosm.api.field import FieldError, duplicate, forbidden_field, go_quote, invalid_value, not_supported, required, too_many
from kubecosm.api.resources import Object

from ...customresources.formats import unknown_formats
from ..admissionregistration.rules import check_client_config
from ..formats import FIELD_IMMUTABLE, Errors, is_dns1035_label, is_dns1123_subdomain
from ..strategy import Strategy, bump_generation, keep_field
from .approval import APPROVAL, is_protected
from .rules import followed
from .schema import check_root_beside_status, check_schema

SCOPES = ("Cluster", "Namespaced")
COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
SELECTABLE_FIELDS_MAX = 8
SELECTABLE_TYPES = ("boolean", "integer", "string")
_NAME_RULE = 'must be spec.names.plural+"."+spec.group'


class CustomResourceDefinitionStrategy(Strategy):
    """A CustomResourceDefinition as users create and update it."""

    allow_unconditional_update = False

    def default(self, obj: Object) -> None:
        spec = obj.setdefault("spec", {})
        names = spec.setdefault("names", {})
        kind = names.get("kind", "")
        if kind and not names.get("singular"):
            names["singular"] = kind.lower()
        if kind and not names.get("listKind"):
            names["listKind"] = f"{kind}List"
        conversion = spec.setdefault("conversion", {"strategy": "None"})
        service = ((conversion.get("webhook") or {}).get("clientConfig") or {}).get("service")
        if service is not None:
            service.setdefault("port", 443)
        _show_status(obj.setdefault("status", {}))

    def prepare_for_create(self, obj: Object) -> None:
        obj["metadata"]["generation"] = 1
        obj["status"] = {}
        _show_status(obj["status"])
        obj["status"]["storedVersions"] = [v["name"] for v in obj["spec"].get("versions") or () if v.get("storage") and v.get("name")][:1]

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        keep_field(obj, old, "status")
        bump_generation(obj, old)
        stored = list((obj.get("status") or {}).get("storedVersions") or ())
        for version in obj["spec"].get("versions") or ():
            if version.get("storage") and version.get("name") not in stored:
                obj["status"] = {**(obj.get("status") or {}), "storedVersions": [*stored, version["name"]]}
                break

    def validate(self, obj: Object) -> list[FieldError]:
        return self._checked(obj, ())

    def _checked(self, obj: Object, stored: Sequence[Object]) -> list[FieldError]:
        """`stored`: schemas that the definition has had before."""
        errors: Errors = []
        spec, name = obj["spec"], obj["metadata"].get("name", "")
        if name != f"{(spec.get('names') or {}).get('plural', '')}.{spec.get('group', '')}":
            errors.append(invalid_value("metadata.name", name, _NAME_RULE))
        _check_spec(spec, errors, stored)
        _check_approval(obj, errors)
        return errors

    def warnings(self, obj: Object, old: Object | None = None) -> list[str]:
        known = _unknown_formats(old) if old else set()
        return [f"unrecognized format {go_quote(form)}" for form in sorted(_unknown_formats(obj) - known)]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors = self._checked(obj, [version.get("schema") or {} for version in old["spec"].get("versions") or ()])
        _check_update(obj["spec"], old, errors)
        return errors


def _unknown_formats(crd: Object) -> set[str]:
    return {form for version in crd["spec"].get("versions") or () for form in unknown_formats(_schema_of(version))}


def _show_status(status: Object) -> None:
    status.setdefault("acceptedNames", {"kind": "", "plural": ""})
    status.setdefault("conditions", None)
    status.setdefault("storedVersions", None)


def _check_spec(spec: Object, errors: Errors, stored: Sequence[Object]) -> None:
    group, scope = spec.get("group", ""), spec.get("scope", "")
    if not group:
        errors.append(required("spec.group"))
    elif complaints := is_dns1123_subdomain(group):
        errors.append(invalid_value("spec.group", group, ",".join(complaints)))
    elif "." not in group:
        errors.append(invalid_value("spec.group", group, "should be a domain with at least one dot"))
    if not scope:
        errors.append(required("spec.scope"))
    elif scope not in SCOPES:
        errors.append(not_supported("spec.scope", scope, SCOPES))
    versions = spec.get("versions") or []
    if spec.get("preserveUnknownFields"):
        errors.append(invalid_value("spec.preserveUnknownFields", True, "must be false"))
    _check_versions(versions, errors, stored)
    names = spec.get("names") or {}
    errors.extend(required(f"spec.names.{field}") for field in ("plural", "singular", "kind", "listKind") if not names.get(field))
    _check_names(names, "spec.names", errors)
    common = _common_parts(versions)
    has_status = any("status" in (version.get("subresources") or {}) for version in versions)
    _check_version_parts(common, "spec", errors, stored, has_status=has_status, hoisted=True)
    if versions:
        _check_selectable(common.get("selectableFields") or (), _schema_of(versions[0]), "spec.selectableFields", errors)
    _check_conversion(spec.get("conversion") or {}, "spec.conversion", errors)


_PARTS = ("schema", "subresources", "additionalPrinterColumns", "selectableFields")


def _common_parts(versions: list[Object]) -> Object:
    """What all versions have alike, moved to the top as the unversioned layout has it."""
    if not versions:
        return {}
    first = versions[0]
    return {part: first[part] for part in _PARTS if part in first and all(v.get(part) == first[part] for v in versions)}


def _check_versions(versions: list[Object], errors: Errors, stored: Sequence[Object]) -> None:
    common = _common_parts(versions)
    if "schema" not in common or not (common["schema"] or {}).get("openAPIV3Schema"):
        for i, version in enumerate(versions):
            if not (version.get("schema") or {}).get("openAPIV3Schema"):
                errors.append(required(f"spec.versions[{i}].schema.openAPIV3Schema", "schemas are required"))
    for i, version in enumerate(versions):
        name = version.get("name", "")
        if complaints := is_dns1035_label(name):
            errors.append(invalid_value(f"spec.versions[{i}].name", name, ",".join(complaints)))
        own = {part: value for part, value in version.items() if part in _PARTS and part not in common}
        has_status = "status" in (version.get("subresources") or {})
        _check_version_parts(own, f"spec.versions[{i}]", errors, stored, has_status=has_status, hoisted=False)
        _check_selectable(own.get("selectableFields") or (), _schema_of(version), f"spec.versions[{i}].selectableFields", errors)
    names = [version.get("name", "") for version in versions]
    if len(set(names)) != len(names):
        errors.append(invalid_value("spec.versions", versions, "must contain unique version names"))
    if sum(bool(version.get("storage")) for version in versions) != 1:
        errors.append(invalid_value("spec.versions", versions, "must have exactly one version marked as storage version"))
    if versions and (complaints := is_dns1035_label(names[0])):
        errors.append(invalid_value("spec.version", names[0], ",".join(complaints)))


def _schema_of(version: Object) -> Object:
    return (version.get("schema") or {}).get("openAPIV3Schema") or {}


def _check_version_parts(
    parts: Mapping[str, Any], path: str, errors: Errors, stored: Sequence[Object], *, has_status: bool, hoisted: bool
) -> None:
    """What a version may have of its own, or all have alike (`hoisted`)."""
    schema = (parts.get("schema") or {}).get("openAPIV3Schema")
    if schema:
        where = f"{path}.{'validation' if hoisted else 'schema'}.openAPIV3Schema"
        if has_status:
            check_root_beside_status(schema, where, errors)
        check_schema(schema, where, errors, is_stored=parts["schema"] in stored)
    scale = (parts.get("subresources") or {}).get("scale")
    if scale is not None:
        _check_scale(scale, f"{path}.subresources.scale", errors)
    for i, column in enumerate(parts.get("additionalPrinterColumns") or ()):
        _check_column(column, f"{path}.additionalPrinterColumns[{i}]", errors)


def _check_selectable(fields: Sequence[Object], schema: Mapping[str, Any], path: str, errors: Errors) -> None:
    """Fields that lists can be selected by: they exist, and are scalars."""
    seen: set[str] = set()
    for i, field in enumerate(fields):
        here, text = f"{path}[{i}]", field.get("jsonPath", "")
        if not text:
            errors.append(required(f"{here}.jsonPath"))
            continue
        found, complaint = followed(text, schema) if "[" not in text else (schema, "must be a simple json path with no array notation")
        if complaint:
            errors.append(invalid_value(f"{here}.jsonPath", text, f"is an invalid path: {complaint}"))
            continue
        if text.startswith(".metadata"):
            errors.append(invalid_value(here, text, "must not point to fields in metadata"))
        if found.get("type") not in SELECTABLE_TYPES:
            detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed."
            errors.append(invalid_value(here, text, detail))
        if text in seen:
            errors.append(duplicate(here, text))
        seen.add(text)
    if len(seen) > SELECTABLE_FIELDS_MAX:
        errors.append(too_many(path, len(seen), SELECTABLE_FIELDS_MAX))


def _check_path(value: str, path: str, errors: Errors) -> bool:
    """Whether a JSON path begins as one must."""
    if not value.startswith("."):
        errors.append(invalid_value(path, value, "must be a simple json path starting with ."))
    return value.startswith(".")


def _check_scale(scale: Object, path: str, errors: Errors) -> None:
    for field, root in (("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")):
        value, here = scale.get(field, ""), f"{path}.{field}"
        if not value:
            errors.append(required(here))
        elif _check_path(value, here, errors) and not value.startswith(root):
            errors.append(invalid_value(here, value, f"should be a json path under {root[:-1]}"))
    selector, here = scale.get("labelSelectorPath"), f"{path}.labelSelectorPath"
    if selector and _check_path(selector, here, errors) and not selector.startswith((".spec.", ".status.")):
        errors.append(invalid_value(here, selector, "should be a json path under either .spec or .status"))


def _check_column(column: Object, path: str, errors: Errors) -> None:
    known = f"must be one of {','.join(COLUMN_TYPES)}"
    if not column.get("name"):
        errors.append(required(f"{path}.name"))
    kind, form = column.get("type", ""), column.get("format", "")
    if not kind:
        errors.append(required(f"{path}.type", known))
    elif kind not in COLUMN_TYPES:
        errors.append(invalid_value(f"{path}.type", kind, known))
    if form and form not in COLUMN_FORMATS:
        errors.append(invalid_value(f"{path}.format", form, f"must be one of {','.join(COLUMN_FORMATS)}"))
    if not column.get("jsonPath"):
        errors.append(required(f"{path}.JSONPath"))
    else:
        _check_path(column["jsonPath"], f"{path}.JSONPath", errors)


def _check_names(names: Object, path: str, errors: Errors) -> None:
    for field in ("plural", "singular"):
        value = names.get(field, "")
        if value and (complaints := is_dns1035_label(value)):
            errors.append(invalid_value(f"{path}.{field}", value, ",".join(complaints)))
    for field in ("kind", "listKind"):
        value = names.get(field, "")
        if value and (complaints := is_dns1035_label(value.lower())):
            detail = f"may have mixed case, but should otherwise match: {','.join(complaints)}"
            errors.append(invalid_value(f"{path}.{field}", value, detail))
    for field in ("shortNames", "categories"):
        for i, value in enumerate(names.get(field) or ()):
            if complaints := is_dns1035_label(value):
                errors.append(invalid_value(f"{path}.{field}[{i}]", value, ",".join(complaints)))
    if names.get("kind") and names["kind"] == names.get("listKind"):
        errors.append(invalid_value(f"{path}.listKind", names["listKind"], "kind and listKind may not be the same"))


def _check_conversion(conversion: Object, path: str, errors: Errors) -> None:
    strategy, webhook = conversion.get("strategy", ""), conversion.get("webhook")
    if not strategy:
        errors.append(required(f"{path}.strategy"))
    elif strategy not in ("None", "Webhook"):
        errors.append(not_supported(f"{path}.strategy", strategy, ("None", "Webhook")))
    if strategy == "Webhook":
        config = (webhook or {}).get("clientConfig")
        if config is None:
            errors.append(required(f"{path}.webhookClientConfig", "required when strategy is set to Webhook"))
        else:
            check_client_config(config, f"{path}.webhookClientConfig", errors)
        versions = (webhook or {}).get("conversionReviewVersions") or ()
        if not any(version in ("v1", "v1beta1") for version in versions):
            detail = "must include at least one of v1, v1beta1"
            errors.append(invalid_value(f"{path}.conversionReviewVersions", list(versions), detail))
    elif webhook is not None:
        errors.append(forbidden_field(f"{path}.webhookClientConfig", "should not be set when strategy is not set to Webhook"))


def _check_approval(crd: Object, errors: Errors) -> None:
    """Groups of Kubernetes itself need somebody's approval."""
    group = crd["spec"].get("group", "")
    if not is_protected(group):
        return
    approval = (crd["metadata"].get("annotations") or {}).get(APPROVAL, "")
    path = f"metadata.annotations[{APPROVAL}]"
    about = f"protected groups must have approval annotation \"{APPROVAL}\", see https://github.com/kubernetes/enhancements/pull/1111"
    if not approval:
        errors.append(required(path, about))
    elif not approval.startswith(("https://", "http://", "unapproved")):
        errors.append(invalid_value(path, approval, about))


def _check_update(spec: Object, old: Object, errors: Errors) -> None:
    before = old["spec"]
    conditions = (old.get("status") or {}).get("conditions") or ()
    established = any(c.get("type") == "Established" and c.get("status") == "True" for c in conditions)
    names, old_names = spec.get("names") or {}, before.get("names") or {}
    if established:
        for value, was, path in (
            (spec.get("scope"), before.get("scope"), "spec.scope"), (names.get("kind"), old_names.get("kind"), "spec.names.kind"),
        ):  # fmt: skip
            if value != was:
                errors.append(invalid_value(path, value, FIELD_IMMUTABLE))
    for value, was, path in (
        (spec.get("group"), before.get("group"), "spec.group"), (names.get("plural"), old_names.get("plural"), "spec.names.plural"),
    ):  # fmt: skip
        if value != was:
            errors.append(invalid_value(path, value, FIELD_IMMUTABLE))
    present = {version.get("name") for version in spec.get("versions") or ()}
    for i, version in enumerate((old.get("status") or {}).get("storedVersions") or ()):
        if version not in present:
            detail = (
                f"missing from spec.versions; {version} was previously a storage version, and must remain in spec.versions until a storage "
                f"migration ensures no data remains persisted in {version} and removes {version} from status.storedVersions"
            )
            errors.append(invalid_value(f"status.storedVersions[{i}]", version, detail))
