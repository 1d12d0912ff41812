"""PodSecurityConfiguration: the standards of namespaces that have no labels, and who is exempt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kubecosm.api.resources import Object
from kubecosm.runtime.errors import StartupError

from .policy import MODES, Policy, Standard, parse_level, parse_version


@dataclass(frozen=True)
class Configuration:
    """Nothing is asked for by default, and nobody is exempt."""

    defaults: Policy = field(default_factory=Policy)
    namespaces: frozenset[str] = field(default=frozenset())
    usernames: frozenset[str] = field(default=frozenset())
    runtime_classes: frozenset[str] = field(default=frozenset())


def parse_configuration(raw: Object) -> Configuration:
    """Raises StartupError."""
    exempt: Mapping[str, list[str]] = raw.get("exemptions") or {}
    given = raw.get("defaults") or {}
    try:
        standards = {
            mode: Standard(parse_level(given.get(mode) or "privileged"), parse_version(given.get(f"{mode}-version") or "latest"))
            for mode in MODES
        }
    except ValueError as error:
        raise StartupError(f"PodSecurityConfiguration: defaults: {error}") from error
    return Configuration(
        Policy(**standards),
        frozenset(exempt.get("namespaces") or ()),
        frozenset(exempt.get("usernames") or ()),
        frozenset(exempt.get("runtimeClasses") or ()),
    )
