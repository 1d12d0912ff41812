"""Field selectors: `spec.nodeName=a,status.phase!=Failed`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

from kubecosm.api.selectors.matching import CACHE_SIZE, Match, SelectorError, all_of


class FieldRequirement(NamedTuple):
    """`field = value`, or `field != value` when negated."""

    field: str
    value: str
    negated: bool = False

    def __str__(self) -> str:
        return f"{self.field}{'!=' if self.negated else '='}{_escape(self.value)}"


@dataclass(frozen=True)
class FieldSelector:
    """All requirements must hold; a field that an object lacks counts as empty text."""

    requirements: tuple[FieldRequirement, ...] = ()

    @cached_property
    def matches(self) -> Match:
        """The compiled test over a dict of selectable fields."""
        return all_of([_field_test(requirement) for requirement in self.requirements])

    @property
    def is_everything(self) -> bool:
        return not self.requirements

    def exact_value(self, field: str) -> str | None:
        """The value that `field` must have, if the selector demands one."""
        return next((r.value for r in self.requirements if r.field == field and not r.negated), None)

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


ALL_FIELDS = FieldSelector()
_TERM = re.compile(r"((?:[^\\,]|\\.)*?)(!=|==|=)(.*)\Z", re.DOTALL)


@lru_cache(maxsize=CACHE_SIZE)
def parse_fields(text: str) -> FieldSelector:
    """Parse a `fieldSelector` query such as `spec.nodeName=a,status.phase!=Failed`; SelectorError if malformed."""
    requirements = []
    for term in sorted(_split_terms(text)):
        match = _TERM.match(term)
        if match is None:
            raise SelectorError(f"invalid selector: '{text}'; can't understand '{term}'")
        requirements.append(FieldRequirement(match[1], _unescape(match[3]), match[2] == "!="))
    return FieldSelector(tuple(requirements)) if requirements else ALL_FIELDS


def _field_test(requirement: FieldRequirement) -> Match:
    field, value, negated = requirement
    if negated:
        return lambda fields: fields.get(field, "") != value
    return lambda fields: fields.get(field, "") == value


def _split_terms(text: str) -> list[str]:
    return [term for term in re.findall(r"(?:[^\\,]|\\.|\\\Z)+", text, re.DOTALL) if term]


def _escape(value: str) -> str:
    return re.sub(r"([\\,=])", r"\\\1", value)


def _unescape(value: str) -> str:
    if not re.search(r"[\\,=]", value):
        return value

    def plain(match: re.Match[str]) -> str:
        sequence = match[0]
        if len(sequence) == 2 and sequence[1] in "\\,=":
            return sequence[1]
        if sequence[0] == "\\":
            raise SelectorError(f"invalid field selector: invalid escape sequence: {sequence}")
        raise SelectorError(f"invalid field selector: unescaped character in value: {ord(sequence)}")

    return re.sub(r"\\.|\\\Z|[,=]", plain, value, flags=re.DOTALL)
