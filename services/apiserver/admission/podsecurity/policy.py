"""What the labels of a namespace ask for: a level and a version for each of enforce, audit and warn."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from kubecosm.api.field import FieldError, invalid_value
from kubecosm.api.names import POD_SECURITY_PREFIX

PRIVILEGED, BASELINE, RESTRICTED = "privileged", "baseline", "restricted"
LEVELS = (PRIVILEGED, BASELINE, RESTRICTED)
"""From the least to the most strict."""
LATEST = 1 << 30
"""The version `latest`; others are the N of v1.N."""
MODES = ("enforce", "audit", "warn")
_VERSION = re.compile(r"v1\.(0|[1-9][0-9]*)\Z", re.ASCII)


class Standard(NamedTuple):
    """A level in a version."""

    level: str = PRIVILEGED
    version: int = LATEST

    def __str__(self) -> str:
        return f"{self.level}:{'latest' if self.version == LATEST else f'v1.{self.version}'}"

    def is_relaxed_from(self, old: Standard) -> bool:
        """Of the same version, and no stricter."""
        return self.version == old.version and LEVELS.index(self.level) <= LEVELS.index(old.level)


ANYTHING = Standard()


@dataclass(frozen=True)
class Policy:
    """What a namespace asks for."""

    enforce: Standard = ANYTHING
    audit: Standard = ANYTHING
    warn: Standard = ANYTHING

    @property
    def is_privileged(self) -> bool:
        return self.enforce.level == self.audit.level == self.warn.level == PRIVILEGED

    def of(self, mode: str) -> Standard:
        found: Standard = getattr(self, mode)
        return found

    def compact(self) -> str:
        """The modes that are not privileged."""
        return ", ".join(f"{mode}={self.of(mode)}" for mode in MODES if self.of(mode).level != PRIVILEGED)


def parse_version(text: str) -> int:
    """Raises ValueError with the words of Kubernetes."""
    if text == "latest":
        return LATEST
    match = _VERSION.match(text)
    if match is None:
        raise ValueError('must be "latest" or "v1.x"')
    return int(match[1])


def parse_level(text: str) -> str:
    """Raises ValueError with the words of Kubernetes."""
    if text not in LEVELS:
        raise ValueError(f"must be one of {', '.join(LEVELS)}")
    return text


def policy_of(labels: Mapping[str, str], defaults: Policy) -> tuple[Policy, list[FieldError]]:
    """The policy and what is wrong with the labels (PolicyToEvaluate).

    A level that cannot be understood is enforced as restricted, but neither audited nor warned about.
    """
    policy, errors = defaults, []
    for mode in MODES:
        level, version = policy.of(mode)
        label = f"{POD_SECURITY_PREFIX}{mode}"
        if label in labels:
            try:
                level = parse_level(labels[label])
            except ValueError as error:
                level = RESTRICTED if mode == "enforce" else PRIVILEGED
                errors.append(invalid_value(f"metadata.labels[{label}]", labels[label], str(error)))
        label += "-version"
        if label in labels:
            try:
                version = parse_version(labels[label])
            except ValueError as error:
                version = LATEST
                errors.append(invalid_value(f"metadata.labels[{label}]", labels[label], str(error)))
        policy = replace(policy, **{mode: Standard(level, version)})
    return policy, errors
