"""The apiserver process: storage, caches, the HTTPS server and its background work."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kubecosm.runtime.clock import Clock
from kubecosm.runtime.errors import StartupError, startup
from kubecosm.runtime.health import HealthEndpoints
from kubecosm.runtime.logs import get_logger
from kubecosm.runtime.metrics import Metrics
from kubecosm.runtime.service import ReadyInfo

from .admission.policies.status import maintain_policy_status
from .aggregation.aggregator import Aggregator
from .aggregation.registration import keep_local_services
from .aggregation.remote import Identity
from .assembly import DATABASE, build_flow_control, build_handler, build_state, served_table, start_strategies
from .authn.facts import ensure_authentication_facts
from .authz.modes import uses_rbac
from .authz.upkeep import ensure_policy
from .background import bookmarks_forever, compact_forever, expire_events_forever
from .bootstrap import APISERVER, ensure_system_objects, keep_system_objects
from .config import Config
from .connect.backend import Backends
from .customresources.registrar import Registrar
from .customresources.upkeep import maintain_definitions
from .flowcontrol.upkeep import maintain_flow_control, start_flow_control
from .healthchecks import alive_checks, ready_checks
from .http.connection import HEADER_SECONDS_MAX, Server
from .identity import ensure_token_tracking, keep_identity
from .peers import keep_endpoints, withdraw
from .serviceips.keeper import AddressKeeper
from .serving import advertised_address, etcd_context, follow_client_certificates, kubelet_context
from .state import State
from .storage.contract import StorageError, Store
from .storage.memory import open_memory
from .tls import ServingTls, reload_forever

if TYPE_CHECKING:
    from .encryption.store import EncryptingStore

log = get_logger("apiserver")

SHUTDOWN_SECONDS = 0.3
"""How long requests under way may take once the server stops; watches end at once."""
BACKLOG = 4096


async def serve(config: Config, *, clock: Clock, stop: asyncio.Event, on_ready: Callable[[ReadyInfo], None]) -> None:
    """Serve until `stop`. Raises StartupError."""
    async with running(config, clock) as (state, port):
        log.info("serving", address=config.bind_address, port=port, revision=state.storage.revision)
        on_ready(ReadyInfo(ports={"secure": port}))
        await stop.wait()
        state.is_stopping = True
        if config.shutdown_delay_duration:
            await clock.sleep(config.shutdown_delay_duration)


@asynccontextmanager
async def running(config: Config, clock: Clock) -> AsyncIterator[tuple[State, int]]:
    """A server that serves while the block runs; gives its state and port."""
    table = served_table(config.runtime_config)
    serving = ServingTls(config, clock)
    storage = await open_storage(config)
    try:
        encryption = load_encryption(config, storage, clock)
        state = build_state(config, encryption or storage, table, clock, random.Random())
        state.encryption = encryption
        registrar = Registrar(state)
        with unreadable_at_start():
            await registrar.load()
            await state.caches.start()
        await registrar.follow()
        start_strategies(state, config)
        addresses = AddressKeeper(state)
        state.admission.start()
        state.flow_control = flows = build_flow_control(config, state)
        serving.register(metrics := Metrics())
        state.min_request_seconds = config.min_request_timeout
        health = HealthEndpoints(metrics, livez=alive_checks(state, config), readyz=ready_checks(state))
        reached_at = advertised_address(config)
        backends = Backends(kubelet_context(config))
        aggregator = Aggregator(state, backends, identity := Identity(config.proxy_client_cert_file, config.proxy_client_key_file))
        follow_client_certificates(config, state, backends.kubelet_tls, identity)
        server = Server(build_handler(config, state, metrics, health, backends, aggregator, f"{reached_at}:{config.secure_port}"))
        async with asyncio.TaskGroup() as tasks:
            state.tasks = tasks
            with startup(f"listen on {config.bind_address}:{config.secure_port}"):
                listener = await asyncio.get_running_loop().create_server(
                    server, config.bind_address, config.secure_port, ssl=serving.context, backlog=BACKLOG, start_serving=False,
                    ssl_handshake_timeout=HEADER_SECONDS_MAX,
                )
            port = listener.sockets[0].getsockname()[1]
            shared = state.is_shared = config.storage_backend == "etcd"
            await ensure_own_objects(state, config, (reached_at, port))
            await aggregator.start(tasks)
            await addresses.start()
            if flows:
                await start_flow_control(state, flows)
            await listener.start_serving()
            parts = Parts(config, serving, registrar, addresses, (reached_at, port), shared)
            background = [tasks.create_task(work, name=name) for name, work in background_work(state, parts)]
            audit_writers = [tasks.create_task(b.run(), name=f"audit-{b.name}") for b in (state.auditor.backends if state.auditor else ())]
            try:
                yield state, port
            finally:
                listener.close()
                registrar.stop()
                aggregator.stop()
                addresses.stop()
                if flows:
                    flows.stop()
                for task in background:
                    task.cancel()
                await end_requests(state, server)
                for task in audit_writers:
                    task.cancel()
                if shared:
                    with suppress(StorageError):
                        await withdraw(state, (reached_at, port))
                await backends.close()
                await state.close()
    finally:
        await storage.close()


async def ensure_own_objects(state: State, config: Config, place: tuple[str, int]) -> None:
    """What a server keeps in its storage, whoever else may have removed it; `place` is where this one is reached."""
    address, port = place
    await ensure_system_objects(
        state, service_range=config.service_cluster_ip_range, address=address, port=port, shared=state.is_shared
    )
    await ensure_authentication_facts(state, config)
    await ensure_token_tracking(state)
    if uses_rbac(config):
        await ensure_policy(state, APISERVER)


class Parts(NamedTuple):
    """What background work is about, besides the state."""

    config: Config
    serving: ServingTls
    registrar: Registrar
    addresses: AddressKeeper
    place: tuple[str, int]
    """Where this server is reached."""
    shared: bool
    """Whether other servers may use the storage."""


def background_work(state: State, parts: Parts) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
    """(name, what runs as long as the server does)."""
    config, place = parts.config, parts.place
    yield "compaction", compact_forever(state, config.compaction_interval)
    yield "bookmarks", bookmarks_forever(state)
    yield "custom-resource-definitions", maintain_definitions(state, parts.registrar)
    yield "apiservice-registration", keep_local_services(state)
    yield "service-addresses", parts.addresses.run(config.service_cluster_ip_range)
    if parts.addresses.claims is not None:
        yield "node-port-claims", parts.addresses.claims.repair_forever()
    yield "system-objects", keep_system_objects(
        state, service_range=config.service_cluster_ip_range, address=place[0], port=place[1], shared=parts.shared
    )
    yield "identity", keep_identity(state, f"{place[0]}:{place[1]}")
    yield "event-expiry", expire_events_forever(state, config.event_ttl)
    yield "certificates", reload_forever(parts.serving, state.clock, (*state.config_files, *state.rotated_files))
    if state.encryption and config.encryption_provider_config_automatic_reload:
        from .encryption import reload

        yield "encryption-config", reload.reload_forever(Path(config.encryption_provider_config), state.encryption, state.clock)
    if state.encryption and (state.encryption.plugins or config.encryption_provider_config_automatic_reload):
        from .encryption import reload

        yield "kms-plugins", reload.ask_plugins_forever(state.encryption, state.clock)
    if state.flow_control:
        yield "priority-and-fairness-config", maintain_flow_control(state, state.flow_control)
        yield "priority-and-fairness-borrowing", state.flow_control.lend_forever(state.clock)
    if config.policy_status:
        yield "policy-status", maintain_policy_status(state)
    if parts.shared:
        yield "peers", keep_endpoints(state, place)


async def end_requests(state: State, server: Server) -> None:
    """End streams in good order, let short requests finish, close what is left."""
    for stream in tuple(state.streams):
        stream.end()
    server.pre_shutdown()
    await server.shutdown(SHUTDOWN_SECONDS)


def load_encryption(config: Config, storage: Store, clock: Clock) -> EncryptingStore | None:
    """What encrypts in front of the storage, if that is configured. Raises StartupError."""
    if not config.encryption_provider_config:
        return None
    from .encryption.config import load_entries
    from .encryption.store import EncryptingStore

    return EncryptingStore(storage, load_entries(Path(config.encryption_provider_config), clock))


@contextmanager
def unreadable_at_start() -> Iterator[None]:
    """What is stored cannot be read, for want of a key mostly: that is for the operator to know, not a crash."""
    try:
        yield
    except StorageError as error:
        raise StartupError(f"cannot read what is stored: {error}") from error
    except ValueError as error:
        advice = "if it is encrypted, start with the --encryption-provider-config it was written with"
        raise StartupError(f"cannot read what is stored: an object is no JSON; {advice}") from error


async def open_storage(config: Config) -> Store:
    """Raises StartupError. Close it in the same task."""
    if config.storage_backend == "memory":
        return open_memory()
    if config.storage_backend == "etcd":
        from .storage.etcd import open_etcd

        return await open_etcd(config.etcd_servers, etcd_context(config))
    return open_database(config)


def open_database(config: Config) -> Store:
    """The SQLite database in --data-dir. Raises StartupError."""
    from .storage.sqlite import open_sqlite

    folder = Path(config.data_dir)
    with startup(f"create the data directory {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    return open_sqlite(folder / DATABASE)
