"""What a program of the toolbox sees: its arguments' surroundings, standard streams, and the machine (container) it runs in."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from kubecosm.runtime.clock import Clock

from ..cri.streams import Pipe, TerminalSize
from ..volumes.filesystem import FileSystem
from .terminal import Terminal

CODE_NOT_FOUND = 127
CODE_CANNOT_RUN = 126
CODE_TERMINATED = 143
CODE_KILLED = 137
CODE_BROKEN_PIPE = 141


class Sink(Protocol):
    """Where a program writes: a pipe, a file, a log."""

    async def write(self, data: bytes) -> None: ...


class NetworkAccess(Protocol):
    """The cluster network as a container reaches it."""

    async def resolve(self, name: str) -> list[str]:
        """IPv4 addresses by the container's resolv.conf; LookupError if there are none."""

    async def lookup(self, name: str, record: str) -> tuple[str, list[str]]:
        """Answers of the cluster DNS as (queried name, text lines); LookupError with the response code's name."""

    async def connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A TCP connection from the pod's address; OSError or LookupError."""

    async def exchange(self, host: str, port: int, data: bytes, timeout: float) -> bytes:
        """Send one datagram from the pod's address and wait for its answer, empty if none comes; OSError or LookupError."""

    @property
    def dns_server(self) -> str: ...


class NullSink:
    """/dev/null."""

    async def write(self, data: bytes) -> None:
        return


UnknownProgram = Callable[["Process", list[str]], Awaitable[int]]


@dataclass(slots=True)
class Machine:
    """One container, as its programs see it. `unknown` decides what a program does that the toolbox lacks."""

    fs: FileSystem
    hostname: str
    clock: Clock
    rng: random.Random
    network: NetworkAccess
    signal_main: Callable[[str], None]
    """Sends a signal to process 1: `TERM`, `KILL`, …"""
    unknown: UnknownProgram
    main_command: tuple[str, ...] = ("init",)
    uid: int = 0
    gid: int = 0
    ignored_signals: set[str] = field(default_factory=set)
    """What process 1 has turned off, by `trap '' TERM`."""
    head_start: float = 0.0
    """Seconds of sleep that are skipped: a main process taken up again after a restart of the kubelet has slept them before."""


@dataclass(slots=True)
class Process:
    """A running program's surroundings. Children get a copy (`child`)."""

    machine: Machine
    env: dict[str, str]
    cwd: str
    stdin: Pipe | None
    stdout: Sink
    stderr: Sink
    is_tty: bool = False
    is_main: bool = False
    is_lenient: bool = False
    """Programs that the toolbox lacks succeed: probes and hooks of simulated images."""
    terminal: Terminal | None = None
    window: Callable[[], TerminalSize | None] = lambda: None
    """How large the terminal is now, as far as the client has told."""
    depth: int = 0
    """How many shells stand above this process."""

    @property
    def fs(self) -> FileSystem:
        return self.machine.fs

    def path(self, name: str) -> str:
        return self.fs.resolve(name, self.cwd)

    async def out(self, text: str) -> None:
        await self.stdout.write(text.encode(errors="surrogateescape"))

    async def complain(self, text: str) -> None:
        await self.stderr.write(f"{text}\n".encode(errors="surrogateescape"))

    async def sleep(self, seconds: float) -> None:
        """Cluster time; a resumed main process first uses up what it slept before."""
        machine = self.machine
        if machine.head_start > 0:
            skipped = min(machine.head_start, seconds)
            machine.head_start -= skipped
            seconds -= skipped
        if seconds > 0:
            await machine.clock.sleep(seconds)

    async def read_input(self) -> bytes:
        return await self.stdin.read_all() if self.stdin is not None else b""


Program = Callable[[Process, list[str]], Awaitable[int]]
"""Runs with its arguments (without its own name); returns the exit code. OSErrors are reported by the shell as `name: …`."""


class UsageError(Exception):
    """Wrong options: `name: message`, exit code 2 (1 for those programs that use it)."""

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(message)
        self.code = code


def describe(failure: OSError) -> str:
    """`file: No such file or directory`, as programs print it."""
    text = failure.strerror or str(failure)
    return f"{failure.filename}: {text}" if failure.filename else text


def split_options(args: list[str], flags: str, valued: str = "") -> tuple[dict[str, str], list[str]]:
    """getopt: `flags` stand alone, `valued` take a value; long options pass as their name with `--`. UsageError if unknown."""
    options: dict[str, str] = {}
    rest: list[str] = []
    queue = list(args)
    while queue:
        arg = queue.pop(0)
        if arg == "--":
            return options, rest + queue
        if arg.startswith("--"):
            name, _, value = arg.partition("=")
            options[name] = value
        elif len(arg) > 1 and arg[0] == "-":
            letters = arg[1:]
            while letters:
                letter, letters = letters[0], letters[1:]
                if letter in valued:
                    if not letters and not queue:
                        raise UsageError(f"option requires an argument -- '{letter}'")
                    options[letter] = letters or queue.pop(0)
                    letters = ""
                elif letter in flags:
                    options[letter] = ""
                else:
                    raise UsageError(f"invalid option -- '{letter}'")
        else:
            rest.append(arg)
    return options, rest
