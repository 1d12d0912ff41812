"""How instances of a definition are born and changed. Imitates apiextensions-apiserver's registry/customresource."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from kubecosm.api.field import FieldError, invalid_value
from kubecosm.api.resources import CustomResource, Object
from kubecosm.api.schema.structural import fill_defaults

from ..aside import PATIENCE, Laborious, TooLong
from ..registry.strategy import Strategy, keep_field
from .jsonpath import find, printed
from .validation import is_simple, validate, validate_update, value_problems, value_problems_of_update

if TYPE_CHECKING:
    from ..celtimes import CelTimes
    from .rules import Check, Level

_IDENTITY = ("metadata", "kind", "apiVersion")
_BLOCKING = ("FieldValueRequired", "FieldValueTooLong", "FieldValueTooMany", "FieldValueTypeInvalid")
_NOT_CHECKED = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation"


def mentions_rules(schema: Any) -> bool:
    """Whether a schema has rules anywhere."""
    if isinstance(schema, list):
        return any(map(mentions_rules, schema))
    return isinstance(schema, dict) and (bool(schema.get("x-kubernetes-validations")) or any(map(mentions_rules, schema.values())))


class CustomResourceStrategy(Strategy):
    """Instances of one version."""

    allow_unconditional_update = False

    def __init__(self, row: CustomResource, selectable: tuple[str, ...] = (), times: CelTimes | None = None) -> None:
        """`selectable`: the JSON paths of selectableFields; `times` is told how long rules take."""
        super().__init__(row)
        self._times = times
        self._schema = row.schema
        self._known: tuple[Object, Check] | None = None
        """What the rules say of an object that is validated next: they took too long to be asked there."""
        self._selectable = {path.removeprefix("."): path for path in selectable}

    def default(self, obj: Object) -> None:
        fill_defaults(self._schema, obj)

    def prepare_for_create(self, obj: Object) -> None:
        if self.has_status:
            obj.pop("status", None)
        obj["metadata"]["generation"] = 1

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        if self.has_status:
            keep_field(obj, old, "status")
        generation = old["metadata"].get("generation", 0)
        if any(obj.get(name) != old.get(name) for name in obj.keys() | old.keys() if name not in _IDENTITY):
            generation += 1
        obj["metadata"]["generation"] = generation or 1

    def validate(self, obj: Object) -> list[FieldError]:
        errors = (value_problems if self._is_simple else validate)(self._schema, obj)
        return errors if self._rules is None else self._with_rules(errors, obj, None)

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors = (value_problems_of_update if self._is_simple else validate_update)(self._schema, obj, old)
        return errors if self._rules is None else self._with_rules(errors, obj, old)

    @cached_property
    def _is_simple(self) -> bool:
        return is_simple(self._schema)

    @cached_property
    def _rules(self) -> Level | None:
        """Compiled when the first instance is written; without rules CEL is never loaded."""
        if not mentions_rules(self._schema):
            return None
        from .rules import compile_level

        work = partial(compile_level, self._schema, is_root=True)
        return work() if self._times is None else self._times.compiling(work)

    def _with_rules(self, errors: list[FieldError], obj: Object, old: Object | None) -> list[FieldError]:
        self.tolerated = ()
        known, self._known = self._known, None
        if any(error.type in _BLOCKING for error in errors):
            return [*errors, invalid_value("<nil>", None, _NOT_CHECKED)]
        check = known[1] if known is not None and known[0] is obj else self._check(obj, old)
        self.tolerated = check.warnings
        return [*errors, *check.errors]

    def _check(self, obj: Object, old: Object | None) -> Check:
        """Raises Laborious if the rules take too long for the event loop."""
        from .rules import Check

        assert self._rules is not None
        work, timed = partial(Check, self._rules, obj, old), self._times.evaluating if self._times is not None else _plainly
        try:
            return timed(partial(work, patience=PATIENCE))
        except TooLong:
            raise Laborious(partial(timed, work), partial(self._keep, obj)) from None

    def _keep(self, obj: Object, check: Check) -> None:
        self._known = obj, check

    def selectable_fields(self, obj: Object) -> dict[str, str]:
        found = {name: find(path, obj) for name, path in self._selectable.items()}
        return {name: printed(values[0]) if values else "" for name, values in found.items()}

    def selectable_field_names(self) -> tuple[str, ...]:
        return tuple(self._selectable)


def _plainly(work: Callable[[], Check]) -> Check:
    return work()


class CustomStatusStrategy(CustomResourceStrategy):
    """The status subresource: everything but status, and who manages what, stays as it was."""

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        managed = obj["metadata"].get("managedFields")
        for name in obj.keys() | old.keys():
            if name not in ("status", "kind", "apiVersion"):
                keep_field(obj, old, name)
        obj["metadata"] = {**old["metadata"]}
        if managed:
            obj["metadata"]["managedFields"] = managed
        else:
            obj["metadata"].pop("managedFields", None)
