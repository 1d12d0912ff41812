"""Whether an object fits its structural schema, in the words of kube-openapi's validator and apiextensions-apiserver.

Imitates k8s.io/kube-openapi/pkg/validation and apiextensions' validation.go, schema/listtype and, for updates, ratcheting: what was wrong
before and has not changed is no fault of an update.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import orjson

from kubecosm.api.field import FieldError, duplicate, invalid_value, not_supported, required, too_long, too_many, type_invalid
from kubecosm.api.resources import Object
from kubecosm.api.schema.embedded import embedded_resources
from kubecosm.api.schema.structural import EMBEDDED
from kubecosm.api.validation import dns1035_label

from ..registry.formats import is_path_segment
from ..registry.meta import check_generic_meta
from .formats import has_format, is_in_range, is_known
from .matches import closest, expected_type, is_of_type, type_name

if TYPE_CHECKING:
    from kubecosm.cel.patterns import Pattern

Schema = Mapping[str, Any]
Path = tuple[str | int, ...]
Problem = tuple[Path, FieldError]
"""A complaint and the path of the value that was checked."""
_ABSENT: Any = object()
LIST_TYPE = "x-kubernetes-list-type"
NOWHERE = "<nil>"
"""Where complaints stand whose text alone names their place: those of junctors and of ranges of numbers."""


def validate(schema: Schema, obj: Object) -> list[FieldError]:
    """Complaints about a whole object: about values, then about whole objects within it, then about lists that are sets or maps."""
    return validate_at(schema, obj, "")


def is_simple(schema: Any) -> bool:
    """Whether a schema has no whole objects in it, nor lists that are sets or maps: then complaints about values are all there are."""
    if isinstance(schema, list):
        return all(map(is_simple, schema))
    if not isinstance(schema, dict):
        return True
    return not schema.get(EMBEDDED) and schema.get(LIST_TYPE) not in ("set", "map") and all(map(is_simple, schema.values()))


def value_problems(schema: Schema, obj: Object) -> list[FieldError]:
    """Complaints about the values of a whole object."""
    return _once(error for _, error in _problems(schema, obj, ()))


def validate_at(schema: Schema, value: Any, path: str) -> list[FieldError]:
    """Complaints about a value that stands at a path."""
    start = (path,) if path else ()
    values = _once(error for _, error in _problems(schema, value, start))
    if path:
        values = [replace(error, field=path) if error.field == NOWHERE else error for error in values]
    return [*values, *embedded_problems(schema, value, path), *repeats(schema, value, start)]


def validate_update(schema: Schema, obj: Object, old: Object) -> list[FieldError]:
    """Complaints about what an update changes; lists may go on repeating what they repeated."""
    found = value_problems_of_update(schema, obj, old)
    found += embedded_problems(schema, obj, "")
    lists = repeats(schema, obj, ())
    return found if lists and repeats(schema, old, ()) else [*found, *lists]


def value_problems_of_update(schema: Schema, obj: Object, old: Object) -> list[FieldError]:
    """Complaints about the values that an update changes."""
    return _once(error for at, error in _problems(schema, obj, ()) if not at or _differs(schema, obj, old, at))


def _once(errors: Iterable[FieldError]) -> list[FieldError]:
    """The same complaint, of a schema and of a part of its allOf perhaps, is told once."""
    found: list[FieldError] = []
    for error in errors:
        if error not in found:
            found.append(error)
    return found


def _differs(schema: Schema, new: Any, old: Any, at: Path) -> bool:
    """Whether a value is another one than the one it corresponds to; items of lists correspond by their keys if they have some."""
    for step in at:
        if isinstance(step, int):
            twin = _twin(schema, new[step], old)
            child: Any = schema.get("items")
        else:
            atomic = schema.get("x-kubernetes-map-type") == "atomic"
            twin = old.get(step, _ABSENT) if isinstance(old, dict) and not atomic else _ABSENT
            child = (schema.get("properties") or {}).get(step, schema.get("additionalProperties"))
        if twin is _ABSENT:
            return bool(new != old) if isinstance(step, int) or schema.get("x-kubernetes-map-type") == "atomic" else True
        new, old, schema = new[step], twin, child if isinstance(child, dict) else {}
    return bool(new != old)


def _twin(schema: Schema, item: Any, old: Any) -> Any:
    """The item of an old list that a new item corresponds to."""
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    if schema.get(LIST_TYPE) != "map" or not keys or not isinstance(old, list) or not isinstance(item, dict):
        return _ABSENT
    wanted = [item.get(key) for key in keys]
    return next((one for one in old if isinstance(one, dict) and [one.get(key) for key in keys] == wanted), _ABSENT)


def text_of(path: Path) -> str:
    """`spec.items[0].name`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _problems(schema: Schema, value: Any, path: Path) -> list[Problem]:
    """All complaints about a value and what is below it, in the order of kube-openapi's checks."""
    if value is None and schema.get("nullable"):
        return []
    here = text_of(path)
    found = [(path, error) for error in _check_type(schema, value, here)]
    found += _check_junctors(schema, value, path)
    found += [(path, error) for error in _check_scalar(schema, value, here)]
    if isinstance(value, list):
        found += _check_list(schema, value, path)
    found += [(path, error) for error in _check_enum(schema, value, here)]
    if isinstance(value, dict):
        found += _check_object(schema, value, path)
    return found


def _fits(schema: Schema, value: Any) -> bool:
    return not _problems(schema, value, ())


# ---- types and formats


def _check_type(schema: Schema, value: Any, path: str) -> Iterable[FieldError]:
    if not is_of_type(schema, value):
        actual = type_name(value)
        yield type_invalid(path, actual, f'{path} in body must be of type {expected_type(schema)}: "{actual}"')


def _check_format(schema: Schema, value: Any, path: str) -> Iterable[FieldError]:
    form = schema.get("format", "")
    if isinstance(value, str) and schema.get("type") == "string" and form and not has_format(form, value):
        yield type_invalid(path, value, f'{path} in body must be of type {form}: "{value}"')


# ---- scalars


def _check_scalar(schema: Schema, value: Any, path: str) -> Iterable[FieldError]:
    if isinstance(value, str):
        yield from _check_text(schema, value, path)
        yield from _check_format(schema, value, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _check_number(schema, value, path)


def _check_enum(schema: Schema, value: Any, path: str) -> Iterable[FieldError]:
    enum = schema.get("enum")
    if enum and not any(value == allowed and type_name(value) == type_name(allowed) for allowed in enum):
        yield not_supported(path, value, [v if isinstance(v, str) else orjson.dumps(v).decode() for v in enum])


def _check_text(schema: Schema, value: str, path: str) -> Iterable[FieldError]:
    """The first complaint, if any."""
    longest, shortest, pattern = schema.get("maxLength"), schema.get("minLength"), schema.get("pattern")
    if longest is not None and len(value) > longest:
        yield too_long(path, longest)
    elif shortest is not None and len(value) < shortest:
        yield invalid_value(path, value, f"{path} in body should be at least {shortest} chars long")
    elif pattern and (compiled := _pattern(pattern)) is not None and not compiled.is_in(value):
        yield invalid_value(path, value, f"{path} in body should match '{pattern}'")


def pattern_problem(text: str) -> str:
    """Why a pattern cannot be used, in the words of Go; empty if it can."""
    from kubecosm.cel.patterns import PatternError, translate

    try:
        translate(text)
    except PatternError as error:
        return str(error)
    return ""


def _pattern(text: str) -> Pattern | None:
    """A pattern of Go; None for one that is none (stored before patterns were checked), which then fits everything."""
    from kubecosm.cel.patterns import PatternError, translate  # who has no patterns does not load CEL

    try:
        return translate(text)
    except PatternError:
        return None


def _check_number(schema: Schema, value: float, path: str) -> Iterable[FieldError]:
    most, least, multiple = schema.get("maximum"), schema.get("minimum"), schema.get("multipleOf")
    yield from _check_range(schema, value, path, "Checked")
    if multiple:
        yield from _check_range(schema, multiple, path, "MultipleOf")
        if (value / multiple) % 1:
            yield invalid_value(path, value, f"{path} in body should be a multiple of {_limit(multiple, value)}")
    if least is not None:
        yield from _check_range(schema, least, path, "Minimum boundary")
        if value < least or (schema.get("exclusiveMinimum") and value == least):
            bound = "greater than" if schema.get("exclusiveMinimum") else "greater than or equal to"
            yield invalid_value(path, value, f"{path} in body should be {bound} {_limit(least, value)}")
    if most is not None:
        yield from _check_range(schema, most, path, "Maximum boundary")
        if value > most or (schema.get("exclusiveMaximum") and value == most):
            bound = "less than" if schema.get("exclusiveMaximum") else "less than or equal to"
            yield invalid_value(path, value, f"{path} in body should be {bound} {_limit(most, value)}")


def _check_range(schema: Schema, value: float, path: str, what: str) -> Iterable[FieldError]:
    """Whether a value, or a limit for values, can be written in the format of numbers."""
    kind, form = schema.get("type", ""), schema.get("format", "")
    if kind != "string" and form and is_known(kind, form) and not is_in_range(form, value):
        yield invalid_value(NOWHERE, "", f"{what} value must be of type {kind} with format {form} in {path}")


def _limit(limit: float, value: float) -> str:
    """A limit as Go prints it: whole beside whole numbers, else the shortest float, with an exponent from a million on (%v)."""
    if isinstance(value, int):
        return str(int(limit))
    exact = Decimal(repr(limit)).normalize()
    if exact and not -4 <= exact.adjusted() < 6:
        mantissa = f"{exact.scaleb(-exact.adjusted()):f}"
        return f"{mantissa}e{exact.adjusted():+03d}"
    return f"{exact:f}"


# ---- objects and lists


def _check_object(schema: Schema, value: Object, path: Path) -> list[Problem]:
    """Nothing within an object that has too many properties or too few is looked at."""
    properties, additional = schema.get("properties") or {}, schema.get("additionalProperties")
    here = text_of(path)
    most, least = schema.get("maxProperties"), schema.get("minProperties")
    if least is not None and len(value) < least:
        return [(path, invalid_value(here, value, f"{here} in body should have at least {least} properties"))]
    if most is not None and len(value) > most:
        return [(path, too_many(here, len(value), most))]
    found: list[Problem] = []
    for name, item in value.items():
        child = properties.get(name, additional if isinstance(additional, dict) else None)
        if child is not None and not (not path and name in ("apiVersion", "kind")):
            found += _problems(child, item, (*path, name))
    return found + [(path, required(text_of((*path, name)))) for name in schema.get("required") or () if name not in value]


def _check_list(schema: Schema, value: list[Any], path: Path) -> list[Problem]:
    here, items = text_of(path), schema.get("items")
    found: list[Problem] = []
    if isinstance(items, dict):
        for index, item in enumerate(value):
            found += _problems(items, item, (*path, index))
    most, least = schema.get("maxItems"), schema.get("minItems")
    if least is not None and len(value) < least:
        found.append((path, invalid_value(here, value, f"{here} in body should have at least {least} items")))
    if most is not None and len(value) > most:
        found.append((path, too_many(here, len(value), most)))
    return found


def repeats(schema: Schema, value: Any, path: Path) -> list[FieldError]:
    """Items of sets, and keys of lists that are maps, stand but once."""
    found: list[FieldError] = []
    if isinstance(value, list):
        items = schema.get("items")
        if schema.get(LIST_TYPE) in ("set", "map"):
            found += _repeats_in(schema, value, path)
        if isinstance(items, dict):
            for index, item in enumerate(value):
                found += repeats(items, item, (*path, index))
    elif isinstance(value, dict):
        properties, additional = schema.get("properties") or {}, schema.get("additionalProperties")
        for name, item in value.items():
            child = properties.get(name, additional if isinstance(additional, dict) else None)
            if child is not None and isinstance(item, dict | list):
                found += repeats(child, item, (*path, name))
    return found


def _repeats_in(schema: Schema, value: list[Any], path: Path) -> list[FieldError]:
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    found: list[FieldError] = []
    seen: set[bytes] = set()
    for index, item in enumerate(value):
        shown = {key: item[key] for key in keys if key in item} if keys and isinstance(item, dict) else item
        mark = orjson.dumps(shown, option=orjson.OPT_SORT_KEYS)
        if mark in seen:
            found.append(duplicate(text_of((*path, index)), shown))
        seen.add(mark)
    return found


def embedded_problems(schema: Schema, value: Any, path: str) -> list[FieldError]:
    """Complaints about the identity and the metadata of whole objects."""
    found: list[FieldError] = []
    for where, obj in embedded_resources(schema, value, path):
        version, kind, meta = obj.get("apiVersion"), obj.get("kind"), obj.get("metadata")
        found += [required(f"{where}.{name}", "must not be empty") for name in ("apiVersion", "kind") if not obj.get(name)]
        if isinstance(version, str) and version.count("/") > 1:
            found.append(invalid_value(f"{where}.apiVersion", version, f"unexpected GroupVersion string: {version}"))
        if isinstance(kind, str) and kind and (complaints := dns1035_label(kind.lower())):
            detail = f"may have mixed case, but should otherwise match: {','.join(complaints)}"
            found.append(invalid_value(f"{where}.kind", kind, detail))
        if isinstance(meta, dict):
            named = {"name": "fakename", **{key: item for key, item in meta.items() if key != "name" or item}}
            check_generic_meta(named, namespaced=bool(meta.get("namespace")), name_check=_segment, errors=found, path=f"{where}.metadata")
    return found


def _segment(name: str, *, prefix: bool) -> Sequence[str]:
    return is_path_segment(f"{name}x" if prefix else name)


# ---- allOf, anyOf, oneOf, not


def _check_junctors(schema: Schema, value: Any, path: Path) -> list[Problem]:
    found: list[Problem] = []
    here = text_of(path)

    def complain(why: str) -> None:
        found.append((path, invalid_value(NOWHERE, "", f'"{here}" must {why}')))

    if any_of := schema.get("anyOf"):
        attempts = [_problems(part, value, path) for part in any_of]
        if all(attempts):
            complain("validate at least one schema (anyOf)")
            found += attempts[closest(any_of, value, _fits)]
    if one_of := schema.get("oneOf"):
        attempts = [_problems(part, value, path) for part in one_of]
        if all(attempts):
            complain("validate one and only one schema (oneOf). Found none valid")
            found += attempts[closest(one_of, value, _fits)]
        elif (fitting := sum(not attempt for attempt in attempts)) > 1:
            complain(f"validate one and only one schema (oneOf). Found {fitting} valid alternatives")
    if all_of := schema.get("allOf"):
        attempts = [_problems(part, value, path) for part in all_of]
        found += [problem for attempt in attempts for problem in attempt]
        if any(attempts):
            complain(f"validate all the schemas (allOf){'. None validated' if all(attempts) else ''}")
    if isinstance(schema.get("not"), dict) and not _problems(schema["not"], value, path):
        complain("not validate the schema (not)")
    return found
