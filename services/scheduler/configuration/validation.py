"""What kube-scheduler objects to in a configuration, in its words (pkg/scheduler/apis/config/validation)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kubecosm.api import names
from kubecosm.api.field import FieldError, duplicate, invalid_value, required
from kubecosm.api.validation import qualified_name
from kubecosm.runtime.flags import parse_duration

from ..framework.defaults import DEFAULT_SCHEDULER_NAME, POINTS
from .pluginargs import validate_args

Document = Mapping[str, Any]

DEFAULT_RESOURCE_LOCK = "leases"
REMOVED_PLUGINS = ("AzureDiskLimits", "CinderLimits", "EBSLimits", "GCEPDLimits")
REMOVED = 'was invalid in version "v1" (KubeSchedulerConfiguration is version "kubescheduler.config.k8s.io/v1")'
NATIVE_DOMAIN = f"{names.DOMAIN}/"


def validate(document: Document) -> list[FieldError]:
    """All complaints about a decoded document whose fields are of the right types."""
    return [
        *_client_connection(document.get("clientConnection") or {}),
        *_leader_election(document.get("leaderElection") or {}),
        *_figures(document),
        *_profiles(document.get("profiles") or [{}]),
        *_backoffs(document),
        *_extenders(document.get("extenders") or []),
    ]


def _client_connection(connection: Document) -> Iterator[FieldError]:
    if (connection.get("burst") or 0) < 0:
        yield invalid_value("clientConnection.burst", connection["burst"], "must be non-negative")


def _leader_election(election: Document) -> Iterator[FieldError]:
    if election.get("leaderElect") is False:
        return
    lease, renew, retry = (
        float(parse_duration(election.get(name) or default))
        for name, default in (("leaseDuration", "15s"), ("renewDeadline", "10s"), ("retryPeriod", "2s"))
    )
    for name, seconds in (("leaseDuration", lease), ("renewDeadline", renew), ("retryPeriod", retry)):
        if seconds <= 0:
            yield invalid_value(f"leaderElection.{name}", election[name], "must be greater than zero")
    if lease < renew:
        why = "LeaseDuration must be greater than RenewDeadline"
        yield invalid_value("leaderElection.leaseDuration", election.get("renewDeadline"), why)
    lock = election.get("resourceLock") or DEFAULT_RESOURCE_LOCK
    if lock != DEFAULT_RESOURCE_LOCK:
        yield invalid_value("leaderElection.resourceLock", lock, 'resourceLock value must be "leases"')


def _figures(document: Document) -> Iterator[FieldError]:
    parallelism = document.get("parallelism")
    if parallelism is not None and parallelism <= 0:
        yield invalid_value("parallelism", parallelism, "should be an integer value greater than zero")


def _percentage(path: str, value: int | None) -> Iterator[FieldError]:
    if value is not None and not 0 <= value <= 100:
        yield invalid_value(path, value, "not in valid range [0-100]")


def _backoffs(document: Document) -> Iterator[FieldError]:
    yield from _percentage("percentageOfNodesToScore", document.get("percentageOfNodesToScore"))
    initial, highest = document.get("podInitialBackoffSeconds"), document.get("podMaxBackoffSeconds")
    initial, highest = 1 if initial is None else initial, 10 if highest is None else highest
    if initial <= 0:
        yield invalid_value("podInitialBackoffSeconds", initial, "must be greater than 0")
    if highest < initial:
        yield invalid_value("podMaxBackoffSeconds", highest, "must be greater than or equal to PodInitialBackoffSeconds")


def _profiles(profiles: Sequence[Document]) -> Iterator[FieldError]:
    seen: dict[str, int] = {}
    for index, profile in enumerate(profiles):
        path = f"profiles[{index}]"
        name = profile.get("schedulerName") or ("" if len(profiles) > 1 else DEFAULT_SCHEDULER_NAME)
        if not name:
            yield required(f"{path}.schedulerName")
        yield from _percentage(f"{path}.percentageOfNodesToScore", profile.get("percentageOfNodesToScore"))
        yield from _removed_plugins(f"{path}.plugins", profile.get("plugins") or {})
        yield from _plugin_config(path, profile.get("pluginConfig") or [])
        if name in seen:
            yield duplicate(f"{path}.schedulerName", f"profiles[{seen[name]}].schedulerName")
        seen[name] = index
    first = _queue_sort(profiles[0])
    if len(first.get("enabled") or ()) > 1:
        yield invalid_value("profiles[0].plugins.queueSort.Enabled", len(first["enabled"]), "only one queue sort plugin can be enabled")
    for index, profile in enumerate(profiles):
        if _queue_sort(profile) != first:
            yield invalid_value(f"profiles[{index}].plugins.queueSort", _queue_sort(profile), "must be the same for all profiles")


def _queue_sort(profile: Document) -> Document:
    found: Document = (profile.get("plugins") or {}).get("queueSort") or {}
    return found


def _plugin_config(path: str, configs: Sequence[Document]) -> Iterator[FieldError]:
    seen: set[str] = set()
    for index, config in enumerate(configs):
        name = config.get("name") or ""
        here = f"{path}.pluginConfig[{index}]"
        if name in seen:
            yield duplicate(here, name)
        seen.add(name)
        if name in REMOVED_PLUGINS:
            yield invalid_value(here, name, REMOVED)
        else:
            yield from validate_args(name, config.get("args") or {}, f"{here}.args")


def _removed_plugins(path: str, sets: Document) -> Iterator[FieldError]:
    """What is enabled of plugins that there were once."""
    for point in POINTS:
        for index, plugin in enumerate((sets.get(point) or {}).get("enabled") or ()):
            if plugin.get("name") in REMOVED_PLUGINS:
                yield invalid_value(f"{path}.{point}.enabled[{index}]", plugin["name"], REMOVED)


def _extenders(extenders: Sequence[Document]) -> Iterator[FieldError]:
    binders = 0
    seen: set[str] = set()
    for index, extender in enumerate(extenders):
        path = f"extenders[{index}]"
        if extender.get("prioritizeVerb") and (extender.get("weight") or 0) <= 0:
            yield invalid_value(f"{path}.weight", extender.get("weight") or 0, "must have a positive weight applied to it")
        binders += bool(extender.get("bindVerb"))
        for number, resource in enumerate(extender.get("managedResources") or ()):
            where, name = f"{path}.managedResources[{number}].name", resource.get("name") or ""
            yield from _extended_resource(where, name)
            if name in seen:
                yield invalid_value(where, name, "duplicate extender managed resource name")
            seen.add(name)
    if binders > 1:
        yield invalid_value("extenders", f"found {binders} extenders implementing bind", "only one extender can implement bind")


def _extended_resource(path: str, name: str) -> Iterator[FieldError]:
    problems = qualified_name(name)
    for problem in problems:
        yield invalid_value(path, name, problem)
    if not problems and ("/" not in name or NATIVE_DOMAIN in name):
        yield invalid_value(path, name, "is an invalid extended resource name")
