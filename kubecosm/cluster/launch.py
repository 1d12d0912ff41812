"""Bringing a cluster to life from any process: choose or load its spec, hold its lock and addresses, start the supervisor.

Synchronous and light on purpose: the command line and test fixtures use it. The certificates of a first start are made here, while the
supervisor's warm parent is importing.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from kubecosm.cluster import kubeconfig, pki, slots
from kubecosm.cluster import spec as specs
from kubecosm.cluster.control import Client
from kubecosm.cluster.paths import ClusterPaths, check_name, cluster_names, cluster_paths, home
from kubecosm.runtime.clock import Clock
from kubecosm.runtime.errors import StartupError, startup

LOOK_SECONDS = 0.005
"""How often `wait_gone` looks: a lock cannot be waited for with a time limit."""


@dataclass(frozen=True)
class Options:
    """What the user wants of a cluster; None leaves it as it was, or at its default for a new one."""

    name: str = "default"
    data_dir: Path | None = None
    port: int | None = None
    nodes: int | None = None
    components: tuple[str, ...] | None = None
    flags: Mapping[str, Mapping[str, str]] | None = None
    ephemeral: bool = False


@dataclass
class Prepared:
    """A cluster ready to be started, held by this process against every other until `start` or `release`."""

    paths: ClusterPaths
    spec: specs.ClusterSpec
    lock: int
    claim: slots.Claim
    known: specs.ClusterSpec | None
    """What it was before, None if it is new."""
    surplus_nodes: tuple[str, ...] = ()
    """Nodes of the last start that this one does not simulate any more."""

    def release(self) -> None:
        os.close(self.lock)
        self.claim.close()


@dataclass
class Started:
    """A supervisor that was started by this process, and the connection that reports every change of its status."""

    client: Client
    process: subprocess.Popen[bytes]


class AlreadyRunning(StartupError):
    """The cluster has a supervisor."""


def prepare(options: Options, environ: Mapping[str, str] = os.environ) -> Prepared:
    """Chooses or loads the cluster's spec and holds its lock and addresses.

    Raises AlreadyRunning, or StartupError when an option cannot be or the machine refuses.
    """
    _check(options)
    paths = _make_directory(options, environ)
    lock = _lock(paths, options.name)
    try:
        known = specs.load(paths.spec)
        others = [spec for name in cluster_names(environ) if name != options.name and (spec := _spec_of(name, environ))]
        spec, claim = _reuse(known, options, paths) if known else _create(options, paths, others)
        if known != spec:
            specs.save(paths.spec, spec)
    except BaseException:
        os.close(lock)
        raise
    surplus = range(spec.nodes, known.nodes) if known is not None else ()
    return Prepared(paths, spec, lock, claim, known, surplus_nodes=tuple(f"{specs.NODE_NAME_PREFIX}{n}" for n in surplus))


def forget_options(prepared: Prepared) -> None:
    """Takes the options of a start that failed out of the spec again, or every later start would fail of them, too."""
    specs.save(prepared.paths.spec, prepared.known or replace(prepared.spec, components=specs.COMPONENTS, flags={}))


def start(prepared: Prepared, clock: Clock, *, foreground: bool) -> Started:
    """Starts the supervisor. With `foreground` the cluster lives as long as the answered connection. Raises StartupError."""
    try:
        started = _spawn_supervisor(prepared)
    finally:
        prepared.release()
    try:
        pki.ensure(prepared.paths, prepared.spec, clock)
        kubeconfig.write_all(prepared.paths, prepared.spec)
        prepared.paths.powers.unlink(missing_ok=True)  # a cluster that is started has all its machines on
    except BaseException:
        started.client.close()
        started.process.kill()  # it has started nothing yet but the warm parent, which dies with it
        started.process.wait()
        raise
    started.client.send("start", foreground=foreground)
    return started


def is_running(paths: ClusterPaths) -> bool:
    """Whether a supervisor holds the cluster."""
    try:
        descriptor = os.open(paths.lock, os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def wait_gone(paths: ClusterPaths, seconds_max: float) -> bool:
    """Waits until the supervisor has let go of the cluster, as the last thing it does; False if it has not in time."""
    never = threading.Event()
    for _look in range(int(seconds_max / LOOK_SECONDS)):
        if not is_running(paths):
            return True
        never.wait(LOOK_SECONDS)
    return False


def delete(name: str, environ: Mapping[str, str] = os.environ) -> None:
    """Removes a stopped cluster from the disk. StartupError when it runs or the disk refuses."""
    paths = cluster_paths(name, environ)
    if is_running(paths):
        raise AlreadyRunning(f"cluster {name} is running: stop it first with `kubecosm down --name {name}`")
    with startup(f"delete {paths.root}"):
        shutil.rmtree(paths.root)
        link = home(environ) / name
        if link.is_symlink():
            link.unlink()


def _check(options: Options) -> None:
    check_name(options.name)
    if options.nodes is not None and not 0 <= options.nodes <= specs.NODES_MAX:
        raise StartupError(f"invalid --nodes {options.nodes}: a cluster has 0 to {specs.NODES_MAX} nodes")
    if options.port is not None and not 0 <= options.port <= 65535:
        raise StartupError(f"invalid --port {options.port}: expected 1 to 65535, or 0 for any free port")


def _make_directory(options: Options, environ: Mapping[str, str]) -> ClusterPaths:
    entry = home(environ) / options.name
    with startup(f"create {entry}"):
        home(environ).mkdir(parents=True, exist_ok=True)
    if options.data_dir is not None:
        _link(entry, options.data_dir.resolve(), options.name)
    paths = ClusterPaths(entry.resolve())
    if "," in str(paths.root):  # flags that name several files have commas between them
        raise StartupError(f"cannot keep a cluster in {paths.root}: choose a directory without a comma in its path")
    with startup(f"create {paths.root}"):
        paths.root.mkdir(mode=0o700, exist_ok=True)
        paths.logs.mkdir(mode=0o700, exist_ok=True)
        paths.data.mkdir(mode=0o700, exist_ok=True)
    return paths


def _link(entry: Path, target: Path, name: str) -> None:
    """Makes the directory that the user chose, and the symbolic link to it by which the cluster is found."""
    with startup(f"create {target}"):
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
    if target == entry.resolve():
        return
    if entry.exists():
        raise StartupError(f"cluster {name} lies in {entry.resolve()}: drop --data-dir, or choose another --name")
    with startup(f"create {entry}"):
        entry.unlink(missing_ok=True)
        entry.symlink_to(target)


def _lock(paths: ClusterPaths, name: str) -> int:
    with startup(f"open {paths.lock}"):
        descriptor = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise AlreadyRunning(f"cluster {name} is already running") from None
    return descriptor


def _spec_of(name: str, environ: Mapping[str, str]) -> specs.ClusterSpec | None:
    """Another cluster's spec; a broken one is its owner's problem."""
    try:
        return specs.load(cluster_paths(name, environ).spec)
    except StartupError:
        return None


def _create(options: Options, paths: ClusterPaths, others: list[specs.ClusterSpec]) -> tuple[specs.ClusterSpec, slots.Claim]:
    nodes = specs.DEFAULT_NODES if options.nodes is None else options.nodes
    claim = slots.claim_free(slots.slots_needed(nodes), [other.slots for other in others], str(paths.root))
    try:
        spec = specs.ClusterSpec(
            name=options.name,
            port=_port(options.port, claim.slots, [other.port for other in others]),
            slots=claim.slots,
            nodes=nodes,
            components=options.components or specs.COMPONENTS,
            flags=options.flags or {},
            ephemeral=options.ephemeral,
        )
    except BaseException:
        claim.close()
        raise
    return spec, claim


def _reuse(known: specs.ClusterSpec, options: Options, paths: ClusterPaths) -> tuple[specs.ClusterSpec, slots.Claim]:
    """An existing cluster keeps its addresses, and its port unless the user chooses another."""
    nodes = known.nodes if options.nodes is None else options.nodes
    if slots.slots_needed(nodes) > known.slots.count:
        room = known.slots.count * slots.NODES_PER_SLOT
        raise StartupError(f"cluster {known.name} was made for at most {room} nodes: delete it first, or choose another --name")
    claim = slots.claim(known.slots)
    if claim is None:
        raise StartupError(f"the addresses of cluster {known.name} are used by a running cluster of another home directory: stop that one")
    try:
        port = known.port if options.port is None else _port(options.port, known.slots, [])
        if not slots.port_is_free(port):
            raise StartupError(f"port {port} is in use: stop the program that holds it, or choose another with --port (0 takes a free one)")
    except BaseException:
        claim.close()
        raise
    spec = specs.changed(known, nodes=nodes, port=port, components=options.components, flags=options.flags)
    return spec, claim


def _port(wanted: int | None, own: slots.Slots, taken: list[int]) -> int:
    if not wanted:
        return slots.free_port(own, taken)
    if not slots.port_is_free(wanted):
        raise StartupError(f"port {wanted} is in use or not permitted: choose another with --port (0 takes a free one)")
    return wanted


def _spawn_supervisor(prepared: Prepared) -> Started:
    """The supervisor in a session of its own, its log as stderr, a control connection as stdin.

    `-P`: modules in the directory where the user happens to be (`queue.py`) must not stand in for ours and Python's.
    """
    ours, theirs = socket.socketpair()
    held = [prepared.lock, *prepared.claim.filenos()]
    command = [sys.executable, "-P", "-m", "kubecosm.cluster.supervisor", str(prepared.paths.root), *map(str, held)]
    log_path = prepared.paths.log_of("supervisor")
    with startup(f"write the log {log_path}"):
        log = open(log_path, "ab")  # noqa: SIM115  closed below
    with theirs, log, startup(f"start {sys.executable}"):
        process = subprocess.Popen(command, stdin=theirs.fileno(), stdout=log, stderr=log, start_new_session=True, pass_fds=held)
    return Started(Client(ours), process)
