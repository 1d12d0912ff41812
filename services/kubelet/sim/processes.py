"""Runs toolbox programs inside simulated containers: main processes, exec, attach; and decides about programs the toolbox lacks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from ..cri.streams import BrokenStream, Pipe, ProcessStreams
from ..cri.types import RuntimeFailure
from ..notes import EXEC_EXIT_CODE, annotation, parse_int
from ..shell.process import CODE_CANNOT_RUN, CODE_KILLED, CODE_NOT_FOUND, Machine, Process, Sink
from ..shell.programs import PROGRAMS, has_program
from ..shell.running import run_program
from ..shell.terminal import Terminal, TerminalOutput
from .behaviour import COMPLETION_SECONDS, must_complete
from .container import SimContainer
from .profiles import programs

ATTACH_UNREAD_BYTES_MAX = 1024 * 1024


class ProgramRunner:
    """Stateless; the seam between containers and the shell."""

    async def run_main(
        self, container: SimContainer, machine: Machine, argv: tuple[str, ...], environment: Mapping[str, str], stdin: Pipe | None,
        stdout: Sink, stderr: Sink,
    ) -> int:  # fmt: skip
        """Run the main process to its end; returns its exit code."""
        process = Process(machine, dict(environment), _cwd(container), stdin, stdout, stderr, is_main=True)
        terminal = None
        if container.spec.get("tty") and stdin is not None:
            terminal = Terminal(stdin, stdout)
            process.stdin, process.stdout, process.stderr = terminal.lines, TerminalOutput(stdout), TerminalOutput(stdout)
            process.is_tty, process.terminal = True, terminal
        return await _with_terminal(terminal, process, list(argv))

    async def run_exec(
        self,
        container: SimContainer,
        machine: Machine,
        command: list[str],
        environment: Mapping[str, str],
        streams: ProcessStreams,
        *,
        lenient: bool,
    ) -> int:
        """Run one more process. `lenient`: programs that the toolbox lacks succeed (probes and hooks)."""
        program = command[0] if command else ""
        base = program.rsplit("/", 1)[-1]
        known = has_program(base) or (("/" in program) and machine.fs.exists(machine.fs.resolve(program)))
        code = annotation(container.pod.pod["metadata"].get("annotations") or {}, EXEC_EXIT_CODE, container.name)
        if not known and not lenient and code is None:
            raise RuntimeFailure(
                "ExecFailed",
                f'OCI runtime exec failed: exec failed: unable to start container process: exec: "{program}": executable file not found in '
                "$PATH: unknown",
            )
        process = Process(machine, dict(environment), _cwd(container), streams.stdin, streams.stdout, streams.stderr)
        process.is_lenient = lenient
        terminal = None
        if streams.tty:
            output = TerminalOutput(streams.stdout)
            process.stdout = process.stderr = output
            process.is_tty = True
            process.window = lambda: streams.size
            process.env.setdefault("TERM", "xterm")
            if streams.stdin is not None:
                terminal = process.terminal = Terminal(streams.stdin, streams.stdout)
                process.stdin = terminal.lines
        return await self._until_gone(container, streams, terminal, process, command)

    async def _until_gone(
        self, container: SimContainer, streams: ProcessStreams, terminal: Terminal | None, process: Process, command: list[str]
    ) -> int:
        """The process ends with its container and with its client."""
        async with asyncio.TaskGroup() as tasks:
            job = tasks.create_task(_with_terminal(terminal, process, command), name="exec")
            gone = tasks.create_task(streams.cancelled.wait(), name="exec-client")
            exited = tasks.create_task(container.wait_exited(), name="exec-container")
            await asyncio.wait((job, gone, exited), return_when=asyncio.FIRST_COMPLETED)
            for task in (job, gone, exited):
                task.cancel()
        return CODE_KILLED if job.cancelled() else job.result()

    async def attach(self, container: SimContainer, streams: ProcessStreams) -> int:
        """Join the main process: its output from now on, and its input if it has one."""
        is_tty = streams.tty

        def receive(data: bytes, is_stderr: bool) -> None:
            target = streams.stderr if is_stderr and not is_tty else streams.stdout
            try:
                target.feed(data)
            except BrokenStream:
                container.attached.discard(receive)

        container.attached.add(receive)
        try:
            async with asyncio.TaskGroup() as tasks:
                waits = [
                    tasks.create_task(container.wait_exited(), name="attach-exit"),
                    tasks.create_task(streams.cancelled.wait(), name="attach-client"),
                ]
                forward = tasks.create_task(_forward(streams.stdin, container), name="attach-stdin")
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for task in (*waits, forward):
                    task.cancel()
        finally:
            container.attached.discard(receive)
        return 0 if container.is_running else container.status.exit_code

    async def unknown(self, container: SimContainer, process: Process, words: list[str]) -> int:
        """A program that the toolbox lacks, called by the main process or by an exec."""
        name = words[0].rsplit("/", 1)[-1]
        code = annotation(container.pod.pod["metadata"].get("annotations") or {}, EXEC_EXIT_CODE, container.name)
        if process.is_main:
            return await self._unknown_main(container, process, name)
        if code is not None:
            return parse_int(code, 0)
        if process.is_lenient:
            return 0
        if "/" in words[0] and process.fs.is_dir(process.path(words[0])):
            await process.complain(f"sh: {words[0]}: Permission denied")
            return CODE_CANNOT_RUN
        await process.complain(f"sh: {words[0]}: not found")
        return CODE_NOT_FOUND

    async def _unknown_main(self, container: SimContainer, process: Process, name: str) -> int:
        """It serves on the container's ports until stopped, unless it is known to end or the container is there to complete."""
        known = programs().get(name)
        if known is not None and not known.serves:
            await process.sleep(known.run_seconds)
            return known.exit_code
        if must_complete(container.pod.pod, container.spec, container.kind):
            await process.sleep(COMPLETION_SECONDS)
            return 0
        await container.open_ports(container.profile.application)
        await asyncio.Event().wait()
        return 0


async def _with_terminal(terminal: Terminal | None, process: Process, command: list[str]) -> int:
    if terminal is None:
        return await run_program(PROGRAMS, command, process)
    async with asyncio.TaskGroup() as tasks:
        reader = tasks.create_task(terminal.run(), name="terminal")
        code = await run_program(PROGRAMS, command, process)
        reader.cancel()
    return code


async def _forward(source: Pipe | None, container: SimContainer) -> None:
    if source is None or container.stdin is None:
        return
    while data := await source.read():
        await container.stdin.write(data)
    if container.spec.get("stdinOnce"):
        container.stdin.close()


def _cwd(container: SimContainer) -> str:
    return container.spec.get("workingDir") or "/"
