"""`sh` as a program: a script given by -c, a file, or standard input, also interactively on a terminal."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable
from dataclasses import replace

from ..volumes.filesystem import error
from .control import CALL_DEPTH_MAX, ExitShell, LoopJump, ReturnFunction
from .interpreter import Shell
from .parser import parse
from .process import Process, Program, UsageError
from .syntax import IncompleteScript, Script, ShellSyntaxError


async def interactive(shell: Shell) -> int:
    """Read commands from standard input until its end: `sh -i` and `sh` without a script."""
    pending = ""
    stdin = shell.process.stdin
    while stdin is not None:
        if shell.process.is_tty:
            await shell.process.stdout.write(b"> " if pending else (f"{shell.process.cwd} # ".encode()))
        line = await stdin.read_line()
        if not line:
            break
        pending += line.decode(errors="surrogateescape")
        try:
            script = parse(pending)
        except IncompleteScript:
            continue
        except ShellSyntaxError as failure:
            await shell.process.complain(f"{shell.name}: {failure}")
            shell.code, pending = 2, ""
            continue
        pending = ""
        try:
            await _interruptible(shell, script)
        except ExitShell as leaving:
            return leaving.code
        except (ReturnFunction, LoopJump):
            continue
    if pending:
        await shell.process.complain(f"{shell.name}: syntax error: unexpected end of file")
        return 2
    return shell.code


async def _interruptible(shell: Shell, script: Script) -> None:
    """Run one command; on a terminal, ^C ends it and the shell goes on with code 130."""
    terminal = shell.process.terminal
    if terminal is None:
        await shell.run(script)
        return
    async with asyncio.TaskGroup() as tasks:
        job = tasks.create_task(_contained(shell, script), name="shell-command")
        terminal.on_interrupt = job.cancel
        await asyncio.wait((job,))
        terminal.on_interrupt = None
    if job.cancelled():
        shell.code = 130
    elif (failure := job.result()) is not None:
        raise failure


async def _contained(shell: Shell, script: Script) -> Exception | None:
    """Control flow must not pass through a task group as an error."""
    try:
        await shell.run(script)
    except (ExitShell, ReturnFunction, LoopJump) as jump:
        return jump
    return None


async def shell_program(programs: dict[str, Program], process: Process, args: list[str], *, name: str = "sh") -> int:
    """`sh`, `bash`: `-c script [name args…]`, a script file, or standard input."""
    options: set[str] = set()
    queue = list(args)
    while queue and queue[0][:1] in "-+" and len(queue[0]) > 1:
        flag = queue.pop(0)
        if flag == "--":
            break
        if flag.startswith("--"):
            continue
        options |= set(flag[1:])
        if "o" in flag[1:] and queue:
            options = (options - {"o"}) | {queue.pop(0)}
    if process.depth >= CALL_DEPTH_MAX:
        raise error(errno.ELOOP, name)
    child = replace(process, env=dict(process.env), depth=process.depth + 1)
    child.env.setdefault("PWD", child.cwd)
    if "c" in options:
        if not queue:
            raise UsageError("-c requires an argument")
        shell = Shell(child, programs, name=queue[1] if len(queue) > 1 else name, arguments=tuple(queue[2:]))
        shell.options = options & {"e", "u", "x", "pipefail"}
        return await _main(shell, shell.run_text(queue[0]))
    if queue:
        text = child.fs.read(child.path(queue[0])).decode(errors="surrogateescape")
        shell = Shell(child, programs, name=queue[0], arguments=tuple(queue[1:]))
        shell.options = options & {"e", "u", "x", "pipefail"}
        return await _main(shell, shell.run_text(text))
    shell = Shell(child, programs, name=name)
    return await _main(shell, _interactive_guarded(shell))


async def _interactive_guarded(shell: Shell) -> int:
    async with asyncio.TaskGroup() as tasks:
        shell._tasks = tasks
        code = await interactive(shell)
        for job in shell.background:
            job.cancel()
    return code


async def _main(shell: Shell, running: Awaitable[int]) -> int:
    """Runs the TERM trap when the shell is told to end."""
    try:
        return await running
    except asyncio.CancelledError:
        trap = shell.traps.get("TERM")
        if trap is None or not shell.process.is_main:
            raise
        return await _after_term(shell, trap)


async def _after_term(shell: Shell, trap: str) -> int:
    current = asyncio.current_task()
    if current is not None:
        current.uncancel()
    return await shell.run_text(trap)
