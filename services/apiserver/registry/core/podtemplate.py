"""PodTemplates. Imitates ValidatePodTemplate."""

from __future__ import annotations

from kubecosm.api.field import FieldError
from kubecosm.api.resources import Object

from ..formats import Errors
from ..strategy import Strategy
from .pod_defaults import default_pod_template
from .pod_spec import check_pod_template


class PodTemplateStrategy(Strategy):
    """A PodTemplate."""

    def default(self, obj: Object) -> None:
        default_pod_template(obj.setdefault("template", {}))

    def prepare_for_create(self, obj: Object) -> None:
        obj["metadata"]["generation"] = 1

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        changed = obj.get("template") != old.get("template")
        obj["metadata"]["generation"] = old["metadata"].get("generation", 0) + changed

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        check_pod_template(obj["template"], "template", errors)
        return errors
