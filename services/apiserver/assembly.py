"""Puts one apiserver together: resources and their stores, caches, admission, filters, and what serves each path."""

from __future__ import annotations

import random
import socket
from collections.abc import Awaitable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kubecosm.api.resources import (
    CUSTOMRESOURCEDEFINITIONS,
    NAMESPACES,
    SERVICEACCOUNTS,
    SERVICES,
    Resource,
    ResourceTable,
    load_builtin,
)
from kubecosm.runtime.clock import Clock
from kubecosm.runtime.errors import StartupError
from kubecosm.runtime.health import HealthEndpoints
from kubecosm.runtime.metrics import Metrics

from .admission.chain import AdmissionChain
from .admission.configuration import load_configuration
from .admission.plugins import Parts, build_admission
from .aggregation.aggregator import Aggregator
from .authn.build import build_identities
from .authn.filter import with_authentication
from .authn.impersonation import with_impersonation
from .authz.bootstrap import RESOURCES as RBAC_RESOURCES
from .authz.filter import with_authorization
from .authz.modes import build_authorizer
from .cache.caches import Caches
from .cache.metrics import CacheMetrics, Stored
from .config import Config
from .configfiles import ReloadMetrics
from .connect.backend import Backends
from .connect.handlers import Connector
from .customresources.store import CustomResourceDefinitionStore
from .discovery.handlers import Discovery
from .flowcontrol.controller import FLOWSCHEMAS, FlowController
from .flowcontrol.filter import with_priority_and_fairness
from .flowcontrol.metrics import FlowMetrics
from .http.alike import Alikes
from .http.errors import with_errors
from .http.filters import build_chain
from .http.handler import Filter, Handler
from .http.limits import Seats, with_max_in_flight, with_timeout
from .http.metrics import RequestMetrics, with_metrics
from .http.request import Request
from .http.requestinfo import with_request_info
from .http.response import Answer
from .identity import identity_of
from .nonresource import NonResources
from .registry.kinds import strategy_for
from .registry.strategy import Settings, Strategy
from .rest.namespaces import NamespaceStore
from .rest.rbac import BindingStore, RoleStore
from .rest.reviews import Reviews
from .rest.router import Router, Virtual
from .rest.services import ServiceStore
from .rest.store import ResourceStore
from .rest.storedkind import selectable_of
from .rest.tokens import TokenRequests
from .rest.versions import stored_rows
from .serviceips.metrics import AllocatorMetrics
from .state import State
from .storage.contract import Store
from .storage.reserve import RESERVE_SUFFIX

if TYPE_CHECKING:
    from .audit.filter import Auditor

DATABASE = "kubecosm.db"
_STORES: dict[Resource, type[ResourceStore]] = {
    NAMESPACES: NamespaceStore, CUSTOMRESOURCEDEFINITIONS: CustomResourceDefinitionStore, SERVICES: ServiceStore,
    **{row: BindingStore if kind.endswith("Binding") else RoleStore for kind, row in RBAC_RESOURCES.items()},
}  # fmt: skip
"""Where the generic store does not do."""


def served_table(runtime_config: Iterable[str]) -> ResourceTable:
    """The built-in resources in their stable versions, and what --runtime-config adds or takes away. Raises StartupError."""
    wanted: dict[str, bool] = {}
    for item in runtime_config:
        name, _, value = item.partition("=")
        if value not in ("", "true", "false"):
            raise StartupError(f"invalid --runtime-config {item!r}: expected name=true or name=false, for example api/beta=true")
        wanted[name] = value != "false"
    return ResourceTable(row for row in load_builtin() if _is_served(row, wanted))


def _is_served(row: Resource, wanted: dict[str, bool]) -> bool:
    level = "alpha" if "alpha" in row.version else "beta" if "beta" in row.version else "ga"
    for name in (row.api_version, f"api/{level}", "api/all"):
        if name in wanted:
            return wanted[name]
    return level == "ga"


def build_state(config: Config, storage: Store, table: ResourceTable, clock: Clock, rng: random.Random) -> State:
    """The state of a server: a cache for each resource that has objects and a store for each version of it."""
    caches = Caches(storage)
    state = State(clock=clock, rng=rng, storage=storage, caches=caches, table=table, admission=AdmissionChain(()))
    add_stores(state, list(table))
    extra = tuple((name, key) for name, _, key in (pair.partition("=") for pair in config.service_account_extra_config_maps))
    tolerated = config.default_not_ready_toleration_seconds, config.default_unreachable_toleration_seconds
    parts = Parts(state, load_configuration(config.admission_control_config_file), extra, tolerated)
    state.admission = build_admission(parts, config.enable_admission_plugins, config.disable_admission_plugins)
    return state


def add_stores(state: State, rows: Iterable[Resource]) -> None:
    """Serve the rows that have objects (those that can be listed)."""
    listed = [row for row in rows if "list" in row.verbs and row.plural != "componentstatuses"]
    stored = stored_rows(listed)
    strategies: dict[Resource, Strategy] = {}
    for row in listed:
        home = stored[row.group, row.plural]
        strategy = strategies.get(home)
        if strategy is None:
            strategy = strategies[home] = strategy_for(home)
        cache = state.caches.add(home.group, home.plural, selectable_of(strategy), namespaced=home.namespaced)
        make = _STORES.get(home, ResourceStore)
        state.stores[row.group, row.version, row.plural] = make(state, row, home, cache, strategy)


def start_strategies(state: State, config: Config) -> None:
    """Let the kinds that hold something beside their objects take up what is stored; after the caches are filled."""
    settings = Settings(config.service_cluster_ip_range, config.node_ports)
    for store in state.stores.values():
        if store.strategy.is_stateful and store.row == store.stored:
            store.strategy.start(settings, state.rng, (entry.decode() for entry in store.cache.entries()))


def build_flow_control(config: Config, state: State) -> FlowController | None:
    """Priority and fairness over all seats there are; None if it is off, nothing is bounded or its objects are not served."""
    seats = config.max_requests_inflight + config.max_mutating_requests_inflight
    served = (FLOWSCHEMAS.group, FLOWSCHEMAS.version, FLOWSCHEMAS.plural) in state.stores
    if not config.enable_priority_and_fairness or not seats or not served:
        return None
    return FlowController(state.caches, state.storage, state.clock, seats=seats, request_seconds=config.request_timeout)


def load_auditor(config: Config, clock: Clock) -> Auditor | None:
    """None unless flags ask for audit, whose modules are only then loaded. Raises StartupError."""
    if not config.audit_policy_file:
        return None
    from .audit.build import build_auditor

    return build_auditor(config, clock)


def database_bytes(config: Config) -> int:
    """The size of the database and its journal; 0 for storage in memory."""
    files = Path(config.data_dir).glob(f"{DATABASE}*") if config.storage_backend == "sqlite" else ()
    return sum(file.stat().st_size for file in files if not file.name.endswith(RESERVE_SUFFIX))


def stored_rows_of(state: State) -> Iterator[Stored]:
    """What each store writes, and how often it did."""
    for store in state.stores.values():
        calls = {"create": store.creates, "update": store.updates, "delete": store.deletes}
        yield store.stored.group, store.stored.version, store.stored.plural, calls


def metrics_handlers(config: Config, state: State, backends: Backends) -> Mapping[tuple[str, str], Virtual]:
    """What answers metrics.k8s.io, if it is served: its rows join the table, but nothing of it is stored."""
    if not config.enable_metrics_api:
        return {}
    from .resourcemetrics.handlers import ResourceMetrics
    from .resourcemetrics.rows import NODE_METRICS, POD_METRICS

    for row in (NODE_METRICS, POD_METRICS):
        state.table.add(row)
    return ResourceMetrics(state, backends).handlers


def build_handler(
    config: Config, state: State, metrics: Metrics, health: HealthEndpoints, backends: Backends, aggregator: Aggregator,
    server_address: str,
) -> Handler:
    """The whole chain from filter to verb. Raises StartupError."""
    reading, writing = Seats(config.max_requests_inflight), Seats(config.max_mutating_requests_inflight)
    flows = state.flow_control
    request_metrics = state.request_metrics = RequestMetrics(reading, writing, flows.in_flight if flows else None)
    metrics.registry.register(request_metrics)
    state.admission.metrics.register(metrics)
    state.cel_times.register(metrics)
    if flows:
        metrics.registry.register(FlowMetrics(flows))
    metrics.registry.register(CacheMetrics(state.caches, lambda: database_bytes(config), lambda: stored_rows_of(state)))
    metrics.registry.register(AllocatorMetrics(lambda: getattr(state.store("", "v1", "services").strategy, "allocator", None)))
    identities = build_identities(config, state)
    authorizer = state.authorizer = build_authorizer(config, state)
    watched = [*state.config_files, *([state.encryption.reloads] if state.encryption is not None else ())]
    if watched:
        metrics.registry.register(ReloadMetrics(watched, identity_of(socket.gethostname(), server_address)))
    metrics.registry.register(identities.metrics)
    metrics.registry.register(aggregator.metrics)
    if state.encryption is not None:
        metrics.registry.register(state.encryption.metrics)
    metrics.registry.register(state.authorization_metrics)
    audit = state.auditor = load_auditor(config, state.clock)
    behind_authentication: tuple[Filter, ...] = ()
    if audit is not None:
        from .audit.filter import with_audit

        metrics.registry.register(audit)
        behind_authentication = (with_audit(audit),)
    alikes = Alikes()
    filters: tuple[Filter, ...] = (
        with_request_info(state.rng),
        with_metrics(request_metrics, state.clock),
        with_errors(),
        with_authentication(identities.ways, state.clock, identities.metrics, alikes, audit.refused if audit else None),
        *behind_authentication,
        with_impersonation(authorizer, alikes),
        with_timeout(config.request_timeout),
        with_priority_and_fairness(flows, request_metrics) if flows else with_max_in_flight(request_metrics),
        with_authorization(authorizer, state.clock, state.authorization_metrics),
    )
    creates = {(SERVICEACCOUNTS.plural, "token"): TokenRequests(identities.accounts, identities.ways.tokens.api_audiences).create}
    virtual = {**Reviews(authorizer, identities.ways.tokens).handlers, **metrics_handlers(config, state, backends)}
    router = Router(state, Connector(backends).handlers, creates, virtual)

    def stored_row(row: Resource) -> Resource | None:
        store = state.stores.get((row.group, row.version, row.plural))
        return None if store is None else store.stored

    discovery = Discovery(state.table, aggregator.catalog, stored_row, server_address)
    others = NonResources(state, health, discovery, identities.accounts, aggregator, config.service_account_jwks_uri)

    def dispatch(request: Request) -> Awaitable[Answer]:
        if aggregator.remotes and (remote := aggregator.remote_of(request)) is not None:
            return aggregator.forward(remote, request)
        return (router if request.info.is_resource else others).handle(request)

    return build_chain(filters, dispatch)
