"""CEL rules of custom resources (x-kubernetes-validations): compiled once for a schema, run for each write.

Imitates apiextensions-apiserver's schema/cel (compilation.go, validation.go). Rules of what has not changed are not held against an
update, unless they look at the old value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubecosm.api.field import FieldError, duplicate, forbidden_field, invalid_value, required
from kubecosm.api.schema.structural import EMBEDDED
from kubecosm.cel.environment import PER_CALL_LIMIT, CompileError, Environment, Program
from kubecosm.cel.types import Type, optional_of
from kubecosm.cel.values import NONE, CelError, CostExceeded, Optional

from ..aside import TooLong
from .celschema import LIST_KEYS, LIST_TYPE, converted, declared_type, is_plain, with_object_fields
from .strategy import mentions_rules

Schema = Mapping[str, Any]
RULES = "x-kubernetes-validations"
BUDGET = 10_000_000
"""What all rules of one object may cost together."""
MESSAGE_BYTES_MAX = 5 * 1024
_ABSENT: Any = object()


@dataclass
class Rule:
    """One rule; without a program it could not be compiled, and `problem` says why."""

    spec: Mapping[str, Any]
    program: Program | None = None
    message: Program | None = None
    problem: str = ""
    message_problem: str = ""
    uses_old: bool = False


@dataclass
class Level:
    """The rules of a schema and of what is below it."""

    schema: Schema
    kind: str
    plain: bool
    rules: list[Rule]
    properties: dict[str, Level] = field(default_factory=dict)
    items: Level | None = None
    additional: Level | None = None
    parts: list[Level] = field(default_factory=list)
    """The same values, seen by the parts of allOf."""


def compile_rule(spec: Mapping[str, Any], self_type: Type) -> Rule:
    """A rule about values of a type."""
    if not (spec.get("rule") or "").strip():
        return Rule(spec)
    old = optional_of(self_type) if spec.get("optionalOldSelf") else self_type
    environment = Environment({"self": self_type, "oldSelf": old})
    try:
        program = environment.compile(spec["rule"])
    except CompileError as error:
        return Rule(spec, problem=f"compilation failed: {error}")
    if program.type.kind != "bool":
        return Rule(spec, problem="cel expression must evaluate to a bool")
    rule = Rule(spec, program, uses_old=program.mentions("oldSelf"))
    if spec.get("messageExpression"):
        try:
            rule.message = environment.compile(spec["messageExpression"])
        except CompileError as error:
            rule.message_problem = f"messageExpression compilation failed: {error}"
        else:
            if rule.message.type.kind != "string":
                rule.message, rule.message_problem = None, "messageExpression must evaluate to a string"
    return rule


def compile_level(schema: Schema, *, is_root: bool, name: str = "selfType", rules_of: Schema | None = None) -> Level | None:
    """The rules of a schema; None if there are none. `rules_of`: a part of allOf, whose rules are about values of the schema."""
    source = schema if rules_of is None else rules_of
    if not mentions_rules(source):
        return None
    typed = declared_type(schema, name, is_root=is_root)
    specs = source.get(RULES) or ()
    rules = [compile_rule(spec, typed) for spec in specs] if typed is not None else []
    seen = with_object_fields(schema) if is_root else schema
    level = Level(seen, schema.get("type", ""), is_plain(seen), rules)
    for field_name, child in (source.get("properties") or {}).items():
        own = (schema.get("properties") or {}).get(field_name)
        below = _below(own, child, f"{name}.{field_name}") if own is not None else None
        if below is not None:
            level.properties[field_name] = below
    level.items = _below(schema.get("items"), source.get("items"), f"{name}.@idx")
    level.additional = _below(schema.get("additionalProperties"), source.get("additionalProperties"), f"{name}.@prop")
    for part in source.get("allOf") or ():
        below = compile_level(schema, is_root=is_root, name=name, rules_of=part)
        if below is not None:
            level.parts.append(below)
    return level


def _below(schema: Any, source: Any, name: str) -> Level | None:
    if not isinstance(schema, dict) or not isinstance(source, dict):
        return None
    return compile_level(schema, is_root=bool(schema.get(EMBEDDED)), name=name, rules_of=source)


class Check:
    """One object under the rules of its schema."""

    def __init__(self, level: Level, obj: Any, old: Any = None, *, patience: int = BUDGET) -> None:
        """Raises TooLong if it costs more than `patience`."""
        self._budget, self._patience = BUDGET, patience
        self._errors: list[FieldError] = []
        self.warnings: list[str] = []
        """What would have been an error if the update had changed it."""
        self._visit(level, obj, old, "", old is not None and obj == old)

    @property
    def errors(self) -> list[FieldError]:
        return self._errors

    def _visit(self, level: Level, obj: Any, old: Any, path: str, unchanged: bool) -> None:
        """`old` is None where nothing corresponds; `unchanged`: it, or what it is part of, is as it was."""
        if obj is None or self._budget < 0:
            return
        if level.rules:
            self._run_all(level, obj, old, path, unchanged)
        for part in level.parts:
            self._visit(part, obj, old, path, False)
        if isinstance(obj, dict):
            self._visit_object(level, obj, old, path, unchanged)
        elif isinstance(obj, list) and level.items is not None:
            self._visit_list(level, level.items, obj, old, path, unchanged)

    def _visit_object(self, level: Level, obj: dict[str, Any], old: Any, path: str, unchanged: bool) -> None:
        before = old if isinstance(old, dict) and level.schema.get("x-kubernetes-map-type") != "atomic" else {}
        for name, value in obj.items():
            below = level.properties.get(name)
            if below is not None:
                where = f"{path}.{name}" if path else name
            elif level.additional is not None:
                below, where = level.additional, f"{path}[{name}]"
            else:
                continue
            its_old = before.get(name)
            self._visit(below, value, its_old, where, unchanged or (its_old is not None and its_old == value))

    def _visit_list(self, level: Level, items: Level, obj: list[Any], old: Any, path: str, unchanged: bool) -> None:
        keys = level.schema.get(LIST_KEYS) if level.schema.get(LIST_TYPE) == "map" else None
        before = {_keys(item, keys): item for item in old} if keys and isinstance(old, list) else {}
        for index, item in enumerate(obj):
            its_old = before.get(_keys(item, keys)) if keys else None
            self._visit(items, item, its_old, f"{path}[{index}]", unchanged or (its_old is not None and its_old == item))

    # ---- one level

    def _run_all(self, level: Level, obj: Any, old: Any, path: str, unchanged: bool) -> None:
        see: Callable[[Any], Any] = (lambda value: value) if level.plain else (lambda value: converted(level.schema, value))
        variables: dict[str, Any] = {"self": see(obj)}
        seen_old = _ABSENT
        for rule in level.rules:
            if self._budget < 0:
                return
            if rule.uses_old:
                is_optional = rule.spec.get("optionalOldSelf")
                if old is None and not is_optional:
                    continue
                if seen_old is _ABSENT and old is not None:
                    seen_old = see(old)
                variables["oldSelf"] = seen_old if not is_optional else NONE if old is None else Optional(seen_old)
            self._run(rule, level.kind, variables, path, tolerated=unchanged and not rule.uses_old)

    def _run(self, rule: Rule, kind: str, variables: dict[str, Any], path: str, *, tolerated: bool) -> None:
        if rule.program is None:
            if rule.problem:
                self._fail(path, kind, f"rule compile error: {rule.problem}")
            return
        told = (rule.spec.get("message") or rule.spec.get("rule") or "").strip()
        try:
            holds = self._evaluate(rule.program, variables)
        except CostExceeded as error:
            self._budget = -1
            about = f"'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {told}"
            self._fail(path, kind, about)
            return
        except CelError as error:
            text = f"{error} evaluating rule: {told}"
            if str(error).startswith("no such overload"):
                text = f"'{error}': call arguments did not match a supported operator, function or macro signature for rule: {told}"
            self._fail(path, kind, text)
            return
        if holds is True:
            return
        found = self._described(rule, kind, variables, path)
        if tolerated:
            self.warnings.append(str(found))
        else:
            self._errors.append(found)

    def _evaluate(self, program: Program, variables: dict[str, Any]) -> Any:
        """Raises CelError, CostExceeded, TooLong."""
        limit = min(PER_CALL_LIMIT, self._budget)
        try:
            value, cost = program.evaluate(variables, min(limit, self._patience))
        except CostExceeded:
            if self._patience < limit:
                raise TooLong from None
            raise
        self._budget -= cost
        self._patience -= cost
        return value

    def _fail(self, path: str, kind: str, detail: str) -> None:
        self._errors.append(invalid_value(path or "<nil>", kind, detail))

    def _described(self, rule: Rule, kind: str, variables: dict[str, Any], path: str) -> FieldError:
        spec = rule.spec
        detail = self._message(rule, variables) or (spec.get("message") or "").strip() or f"failed rule: {spec['rule'].strip()}"
        where = path + (spec.get("fieldPath") or "").strip()
        where = re.sub(r"\['([^']*)'\]", r"[\1]", where).removeprefix(".") or "<nil>"
        reason = spec.get("reason")
        if reason == "FieldValueForbidden":
            return forbidden_field(where, detail)
        if reason == "FieldValueRequired":
            return required(where, detail)
        if reason == "FieldValueDuplicate":
            return duplicate(where, kind)
        return invalid_value(where, kind, detail)

    def _message(self, rule: Rule, variables: dict[str, Any]) -> str:
        """What the message expression says; empty if nothing that may be shown."""
        if rule.message is None:
            return ""
        try:
            text = self._evaluate(rule.message, variables)
        except CostExceeded:
            self._budget = -1
            return "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run"
        except CelError:
            return ""
        shown = text.strip() if isinstance(text, str) else ""
        return shown if len(shown.encode()) <= MESSAGE_BYTES_MAX and "\n" not in shown else ""


def _keys(item: Any, keys: Any) -> str:
    return repr([item.get(key) for key in keys]) if isinstance(item, dict) and keys else repr(item)
