"""ControllerRevisions: immutable snapshots of templates. Imitates ValidateControllerRevision."""

from __future__ import annotations

from kubecosm.api.field import FieldError, required
from kubecosm.api.resources import Object

from ..formats import Errors, check_immutable, check_non_negative
from ..strategy import Strategy


class ControllerRevisionStrategy(Strategy):
    """A ControllerRevision."""

    def default(self, obj: Object) -> None:
        obj.setdefault("revision", 0)

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        if obj.get("data") is None:
            errors.append(required("data", "data is mandatory"))
        check_non_negative(obj["revision"], "revision", errors)
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors = self.validate(obj)
        check_immutable(obj.get("data"), old.get("data"), "data", errors)
        return errors
