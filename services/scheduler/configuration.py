"""A KubeSchedulerConfiguration file (kubescheduler.config.k8s.io/v1): profiles with their plugins and arguments, and back-offs.

Left out: extenders, and the connection and leader election settings, which are flags.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubecosm.runtime.errors import StartupError, startup

from .framework.defaults import DEFAULT_PLUGINS, DEFAULT_SCHEDULER_NAME, POINTS, ProfileConfig

KIND, API_VERSION = "KubeSchedulerConfiguration", "kubescheduler.config.k8s.io/v1"


@dataclass(frozen=True)
class SchedulerConfiguration:
    profiles: tuple[ProfileConfig, ...]
    pod_initial_backoff_seconds: float = 1.0
    pod_max_backoff_seconds: float = 10.0


def load(path: str, percentage: int) -> SchedulerConfiguration:
    """The configuration in a file, or the default one without a file; StartupError says what is wrong with it."""
    if not path:
        return SchedulerConfiguration((ProfileConfig(percentage_of_nodes_to_score=percentage),))
    import yaml  # only who has such a file pays for it

    with startup(f"read the scheduler configuration {path}"):
        text = Path(path).read_text(encoding="utf-8")
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise StartupError(f"the scheduler configuration {path} is not YAML: {error}") from None
    try:
        return from_document(document, percentage)
    except ValueError as error:
        raise StartupError(f"the scheduler configuration {path} is not valid: {error}") from None
    except (TypeError, KeyError, AttributeError) as error:
        raise StartupError(f"the scheduler configuration {path} has a field of the wrong type ({error})") from None


def from_document(document: Mapping[str, Any], percentage: int) -> SchedulerConfiguration:
    """The configuration that a decoded file stands for; ValueError if it cannot be."""
    if not isinstance(document, Mapping) or document.get("kind") != KIND or document.get("apiVersion") != API_VERSION:
        raise ValueError(f"expected a document with apiVersion: {API_VERSION} and kind: {KIND}")
    overall = document.get("percentageOfNodesToScore")
    share = percentage if overall is None else int(overall)
    listed: list[Mapping[str, Any]] = document.get("profiles") or [{}]
    profiles = tuple(_profile(profile, share) for profile in listed)
    names = [profile.scheduler_name for profile in profiles]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"profiles: schedulerName {name!r} appears twice")
    initial = float(document.get("podInitialBackoffSeconds") or 1)
    highest = float(document.get("podMaxBackoffSeconds") or 10)
    if not 0 < initial <= highest:
        raise ValueError("podMaxBackoffSeconds must not be smaller than podInitialBackoffSeconds")
    return SchedulerConfiguration(profiles, initial, highest)


def _profile(profile: Mapping[str, Any], share: int) -> ProfileConfig:
    sets = profile.get("plugins") or {}
    unknown = set(sets) - {*POINTS, "multiPoint"}
    if unknown:
        raise ValueError(f"plugins: {sorted(unknown)[0]!r} is no extension point")
    everywhere = _changed(DEFAULT_PLUGINS, sets.get("multiPoint") or {})
    points = {point: _changed(everywhere, sets[point] or {}) for point in POINTS if point in sets}
    args = {item["name"]: item.get("args") or {} for item in profile.get("pluginConfig") or ()}
    own_share = profile.get("percentageOfNodesToScore")
    return ProfileConfig(
        profile.get("schedulerName") or DEFAULT_SCHEDULER_NAME, everywhere, points, args, share if own_share is None else int(own_share)
    )


def _changed(base: Mapping[str, int], change: Mapping[str, Any]) -> dict[str, int]:
    """A plugin set without what is disabled (`*`: everything) and with what is enabled, which comes last unless it was there."""
    disabled = {item["name"] for item in change.get("disabled") or ()}
    chosen = {} if "*" in disabled else {name: weight for name, weight in base.items() if name not in disabled}
    for item in change.get("enabled") or ():
        chosen[item["name"]] = int(item.get("weight") or 0) or DEFAULT_PLUGINS.get(item["name"], 0)
    return chosen
