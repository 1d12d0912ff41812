"""What a scheduler configuration says, decoded. Light to import: the process reads it before its engine is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..framework.defaults import ProfileConfig


@dataclass(frozen=True)
class LeaderElectionSettings:
    """`leaderElection`: None where the file says nothing, so that the flag counts."""

    leader_elect: bool | None = None
    lease_duration_seconds: float | None = None
    renew_deadline_seconds: float | None = None
    retry_period_seconds: float | None = None
    resource_name: str | None = None
    resource_namespace: str | None = None


@dataclass(frozen=True)
class ExtenderSettings:
    """One of `extenders`. `tls` is its tlsConfig as written."""

    url_prefix: str
    filter_verb: str = ""
    prioritize_verb: str = ""
    preempt_verb: str = ""
    bind_verb: str = ""
    weight: int = 0
    enable_https: bool = False
    tls: Mapping[str, Any] = field(default_factory=dict)
    http_timeout_seconds: float = 5.0
    node_cache_capable: bool = False
    managed_resources: tuple[str, ...] = ()
    ignored_by_scheduler: frozenset[str] = frozenset()
    """Those of the managed resources that NodeResourcesFit leaves to the extender."""
    ignorable: bool = False


@dataclass(frozen=True)
class SchedulerConfiguration:
    profiles: tuple[ProfileConfig, ...]
    pod_initial_backoff_seconds: float = 1.0
    pod_max_backoff_seconds: float = 10.0
    extenders: tuple[ExtenderSettings, ...] = ()
    leader_election: LeaderElectionSettings = field(default_factory=LeaderElectionSettings)
    kubeconfig: str = ""
    """`clientConnection.kubeconfig`, used when the flag is not given."""
    requests_per_second: float = 0.0
    """`clientConnection.qps`; 0: as many as there are."""
    requests_burst: int = 100
    """`clientConnection.burst`"""
    document: Mapping[str, Any] = field(default_factory=dict)
    """As written; empty without a file."""
