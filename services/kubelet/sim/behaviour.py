"""What a container's main process will do: one pure decision from its spec, its image's profile and the pod's annotations."""

from __future__ import annotations

import posixpath
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kubecosm.api.meta import annotations_of, controller_of
from kubecosm.api.resources import Object

from .. import notes
from ..cri.types import ContainerKind
from ..notes import annotation, parse_int, parse_seconds
from ..pods.spec import is_sidecar, probed_host
from .profiles import ImageProfile, programs

COMPLETION_SECONDS = 1.0
"""How long an unknown program runs where it is meant to end: in init containers and Jobs."""
DRAIN_SECONDS = 2.0
"""How long a server answers after SIGTERM, so that no client finds it gone before the proxies know."""


@dataclass(frozen=True, slots=True)
class Serve:
    """Run until stopped, answering on the declared ports, or on those of the image if none is declared."""

    application: str
    ports: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """Run this command in the toolbox."""

    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Exit:
    """End after so long."""

    seconds: float
    code: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """`main` is what the process does; `ends`, if given, ends it whatever it does. Times in seconds."""

    main: Serve | Run | Exit
    ends: Exit | None = None
    startup_seconds: float = 0.0
    drain_seconds: float = DRAIN_SECONDS
    ignores_term: bool = False
    log: tuple[str, ...] = ()


def decide(
    pod: Object, spec: Object, kind: ContainerKind, profile: ImageProfile, has_program: Callable[[str], bool], rng: random.Random
) -> Behaviour:
    """`has_program` tells whether the toolbox has a program of that name."""
    written = annotations_of(pod)
    name = spec["name"]

    def note(behaviour: str) -> str | None:
        return annotation(written, behaviour, name)

    ends = _ends(note, rng)
    log = profile.log
    if (line := note(notes.LOG)) is not None:
        log = (*log, line)
    drain = parse_seconds(note(notes.DRAIN_SECONDS), rng)
    return Behaviour(
        main=_main(pod, spec, kind, profile, has_program),
        ends=ends,
        startup_seconds=parse_seconds(note(notes.STARTUP_SECONDS), rng) or 0.0,
        drain_seconds=DRAIN_SECONDS if drain is None else drain,
        ignores_term=note(notes.IGNORE_TERM) == "true",
        log=log,
    )


def _ends(note: Callable[[str], str | None], rng: random.Random) -> Exit | None:
    if note(notes.CRASH) == "true":
        return Exit(0.0, parse_int(note(notes.EXIT_CODE), 1))
    oom = parse_seconds(note(notes.OOM_SECONDS), rng)
    if oom is not None:
        return Exit(oom, 137, "OOMKilled")
    run = parse_seconds(note(notes.RUN_SECONDS), rng)
    return Exit(run, parse_int(note(notes.EXIT_CODE), 0)) if run is not None else None


def must_complete(pod: Object, spec: Object, kind: ContainerKind) -> bool:
    """Whether the main process is there to end: init containers and the containers of a Job."""
    if kind is ContainerKind.INIT:
        return not is_sidecar(spec)
    owner = controller_of(pod)
    return kind is ContainerKind.REGULAR and owner is not None and owner.get("kind") == "Job"


def _main(pod: Object, spec: Object, kind: ContainerKind, profile: ImageProfile, has_program: Callable[[str], bool]) -> Serve | Run | Exit:
    argv = _argv(spec, profile, has_program)
    if argv:
        program = posixpath.basename(argv[0])
        if has_program(program):
            return Run(argv)
        known = programs().get(program)
        if known is not None and not known.serves:
            return Exit(known.run_seconds, known.exit_code)
    elif profile.kind == "shell":
        return Run(profile.entrypoint or ("sh",))
    if profile.kind == "exit":
        return Exit(profile.run_seconds, profile.exit_code)
    if must_complete(pod, spec, kind):
        return Exit(COMPLETION_SECONDS, 0)
    return Serve("http" if profile.kind == "shell" else profile.application, profile.ports)


def _argv(spec: Object, profile: ImageProfile, has_program: Callable[[str], bool]) -> tuple[str, ...]:
    """The command line that decides: `command` with `args`, or `args` alone where they name a program."""
    args = tuple(spec.get("args") or ())
    if command := spec.get("command"):
        return (*command, *args)
    if not args:
        return ()
    if profile.entrypoint:
        return (*profile.entrypoint, *args)
    if profile.kind == "shell" or (profile.arguments_are_command and has_program(posixpath.basename(args[0]))):
        return args
    return ()


def probed_ports(pod: Object, spec: Object) -> set[int]:
    """The TCP ports of the pod's own address that the container's probes and HTTP hooks name by number."""
    hooks = spec.get("lifecycle") or {}
    asked = [spec.get("startupProbe"), spec.get("readinessProbe"), spec.get("livenessProbe"), *hooks.values()]
    ports = set()
    for handler in filter(None, asked):
        for how in ("httpGet", "tcpSocket", "grpc"):
            target = handler.get(how) or {}
            if isinstance(target.get("port"), int) and not probed_host(pod, target, ""):
                ports.add(target["port"])
    return ports


def behaviour_lookup(pod: Callable[[], Object], container: str) -> Callable[[str], str | None]:
    """Reads a behaviour annotation of the pod as it is now."""

    def lookup(behaviour: str) -> str | None:
        written: Mapping[str, str] | None = pod()["metadata"].get("annotations")
        return annotation(written, behaviour, container) if written else None

    return lookup
