"""Reads a KubeSchedulerConfiguration: strict decoding, validation, and the plugins of each profile (runtime.expandMultiPointPlugins)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kubecosm.runtime.errors import StartupError, startup
from kubecosm.runtime.flags import parse_duration

from ..framework.defaults import DEFAULT_PLUGINS, DEFAULT_SCHEDULER_NAME, POINTS, ProfileConfig
from .settings import ExtenderSettings, LeaderElectionSettings, SchedulerConfiguration

KIND, GROUP, VERSION = "KubeSchedulerConfiguration", "kubescheduler.config.k8s.io", "v1"
API_VERSION = f"{GROUP}/{VERSION}"
EVERYTHING = "*"
Document = Mapping[str, Any]


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
        one_line = " ".join(str(error).split())
        raise StartupError(f"the scheduler configuration {path} is not YAML: {one_line}") from None
    try:
        return from_document(document, percentage)
    except ValueError as error:
        raise StartupError(f"the scheduler configuration {path} is not valid: {error}") from None
    except (TypeError, KeyError, AttributeError) as error:
        raise StartupError(f"the scheduler configuration {path} has a field of the wrong type ({error})") from None


def from_document(document: Any, percentage: int) -> SchedulerConfiguration:
    """The configuration that a decoded file stands for; ValueError with kube-scheduler's words if it cannot be."""
    from .validation import validate

    _check_kind(document)
    _check_fields(document)
    complaints = list(dict.fromkeys(map(str, validate(document))))
    if complaints:
        raise ValueError(complaints[0] if len(complaints) == 1 else f"[{', '.join(complaints)}]")
    share, connection = document.get("percentageOfNodesToScore"), document.get("clientConnection") or {}
    extenders = tuple(_extender(extender) for extender in document.get("extenders") or ())
    profiles = tuple(_profile(p, percentage if share is None else share, extenders) for p in document.get("profiles") or [{}])
    return SchedulerConfiguration(
        profiles, _number(document, "podInitialBackoffSeconds", 1), _number(document, "podMaxBackoffSeconds", 10), extenders,
        _leader_election(document.get("leaderElection") or {}), connection.get("kubeconfig") or "",
        max(0.0, float(connection.get("qps") or 0)), int(connection.get("burst") or 100), document,
    )  # fmt: skip


# ---- is it one at all?


def _check_kind(document: Any) -> None:
    if not isinstance(document, Mapping):
        raise ValueError(f"expected a document with apiVersion: {API_VERSION} and kind: {KIND}")
    kind, version = document.get("kind"), document.get("apiVersion")
    if not kind:
        raise ValueError(f"Object 'Kind' is missing: expected a document with apiVersion: {API_VERSION} and kind: {KIND}")
    if kind != KIND or version != API_VERSION:
        raise ValueError(
            f'no kind "{kind}" is registered for version "{version}": expected a document with apiVersion: {API_VERSION} and kind: {KIND}'
        )


def _check_fields(document: Document) -> None:
    """Strict decoding of the document and of the args of in-tree plugins."""
    from .schema import CONFIGURATION, PLUGIN_ARGS, check

    unknown, wrong = check(document, CONFIGURATION, "", KIND)
    if not wrong:
        for index, profile in enumerate(document.get("profiles") or ()):
            for number, config in enumerate((profile or {}).get("pluginConfig") or ()):
                name, args = config.get("name") or "", config.get("args")
                if name in PLUGIN_ARGS and args is not None:
                    kind = args.get("kind", f"{name}Args") if isinstance(args, Mapping) else f"{name}Args"
                    if kind != f"{name}Args":
                        raise ValueError(f"decoding .profiles[{index}].pluginConfig[{number}]: args for plugin {name} were not of type "
                                         f"{name}Args.{GROUP}, got {kind}.{GROUP}")  # fmt: skip
                    more = check(args, {**PLUGIN_ARGS[name], "apiVersion": "string", "kind": "string"}, "", f"{name}Args")
                    unknown, wrong = unknown + more[0], wrong + more[1]
    if wrong:
        raise ValueError(wrong[0])
    if unknown:
        raise ValueError(f"strict decoding error: {', '.join(unknown)}")


# ---- profiles


def _profile(profile: Document, share: int, extenders: Sequence[ExtenderSettings]) -> ProfileConfig:
    sets: Mapping[str, Document] = profile.get("plugins") or {}
    everywhere = merged(DEFAULT_PLUGINS, sets.get("multiPoint") or {})
    points = {point: expanded(everywhere, sets[point] or {}) for point in POINTS if point in sets}
    explicit = {point: frozenset(_enabled(sets[point] or {})) for point in POINTS if point in sets}
    own_share = profile.get("percentageOfNodesToScore")
    return ProfileConfig(
        profile.get("schedulerName") or DEFAULT_SCHEDULER_NAME, everywhere, points, _args(profile, extenders),
        share if own_share is None else own_share, explicit,
    )  # fmt: skip


def merged(defaults: Mapping[str, int], change: Document) -> dict[str, int]:
    """The default plugins without the disabled ones; one that is enabled again keeps its place, new ones come last (mergePluginSet)."""
    disabled, enabled = _disabled(change), _enabled(change)
    kept = {} if EVERYTHING in disabled else {name: weight for name, weight in defaults.items() if name not in disabled}
    return {name: enabled.get(name, weight) for name, weight in kept.items()} | {n: w for n, w in enabled.items() if n not in kept}


def expanded(everywhere: Mapping[str, int], change: Document) -> dict[str, int]:
    """The plugins of one extension point: those that it reorders, then the rest of multiPoint, then what is enabled here alone."""
    disabled, enabled = _disabled(change), _enabled(change)
    if EVERYTHING in disabled:
        return dict(enabled)
    overriding = {name: weight for name, weight in enabled.items() if name in everywhere and name not in disabled}
    rest = {name: weight for name, weight in everywhere.items() if name not in disabled and name not in enabled}
    return overriding | rest | enabled


def _enabled(change: Document) -> dict[str, int]:
    return {item.get("name") or "": item.get("weight") or 0 for item in change.get("enabled") or ()}


def _disabled(change: Document) -> set[str]:
    return {item.get("name") or "" for item in change.get("disabled") or ()}


def _args(profile: Document, extenders: Sequence[ExtenderSettings]) -> dict[str, Document]:
    """Plugin → args; what extenders manage and the scheduler is to ignore is none of NodeResourcesFit's business."""
    args: dict[str, Document] = {item.get("name") or "": item.get("args") or {} for item in profile.get("pluginConfig") or ()}
    ignored = sorted(name for extender in extenders for name in extender.ignored_by_scheduler)
    if ignored:
        fit = args.get("NodeResourcesFit", {})
        args["NodeResourcesFit"] = {**fit, "ignoredResources": [*(fit.get("ignoredResources") or ()), *ignored]}
    return args


# ---- the rest


def _extender(extender: Document) -> ExtenderSettings:
    managed = extender.get("managedResources") or ()
    timeout = extender.get("httpTimeout")
    return ExtenderSettings(
        url_prefix=extender.get("urlPrefix") or "", filter_verb=extender.get("filterVerb") or "",
        prioritize_verb=extender.get("prioritizeVerb") or "", preempt_verb=extender.get("preemptVerb") or "",
        bind_verb=extender.get("bindVerb") or "", weight=extender.get("weight") or 0, enable_https=bool(extender.get("enableHTTPS")),
        tls=extender.get("tlsConfig") or {}, http_timeout_seconds=(float(parse_duration(timeout)) if timeout else 0.0) or 5.0,
        node_cache_capable=bool(extender.get("nodeCacheCapable")),
        managed_resources=tuple(resource.get("name") or "" for resource in managed),
        ignored_by_scheduler=frozenset(resource.get("name") or "" for resource in managed if resource.get("ignoredByScheduler")),
        ignorable=bool(extender.get("ignorable")),
    )  # fmt: skip


def _leader_election(election: Document) -> LeaderElectionSettings:
    def seconds(name: str) -> float | None:
        return float(parse_duration(election[name])) if election.get(name) else None

    return LeaderElectionSettings(
        election.get("leaderElect"), seconds("leaseDuration"), seconds("renewDeadline"), seconds("retryPeriod"),
        election.get("resourceName") or None, election.get("resourceNamespace") or None,
    )  # fmt: skip


def _number(document: Document, name: str, default: int) -> float:
    value = document.get(name)
    return float(default if value is None else value)
