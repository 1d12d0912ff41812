"""Runs a syntax tree: pipelines, lists, control flow, functions, redirections, and the builtins that change the shell itself.

Every command costs a little time budget, so an endless loop in a simulated container cannot starve the kubelet. Leaves out: job control,
aliases, arrays.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Awaitable, Callable
from dataclasses import replace

from ..cri.streams import BrokenStream, Pipe
from ..volumes.filesystem import error
from .expansion import Expander, ExpansionFailure, match
from .parser import parse
from .process import CODE_BROKEN_PIPE, CODE_NOT_FOUND, NullSink, Process, Program, Sink, UsageError, describe
from .syntax import (
    AndOr,
    Case,
    Command,
    Compound,
    For,
    Function,
    Group,
    If,
    IncompleteScript,
    Loop,
    Pipeline,
    Redirect,
    Script,
    ShellSyntaxError,
    Simple,
    Subshell,
)  # fmt: skip

COMMANDS_PER_PAUSE = 500
PAUSE_SECONDS = 0.02
"""A script that does not wait by itself rests so long after so many commands."""
SUBSTITUTION_BYTES_MAX = 4 * 1024 * 1024
CALL_DEPTH_MAX = 60


class ExitShell(Exception):
    """`exit`: ends the (sub)shell."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class ReturnFunction(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class LoopJump(Exception):
    """`break` or `continue` out of `levels` loops."""

    def __init__(self, levels: int, *, again: bool) -> None:
        super().__init__(levels)
        self.levels = levels
        self.again = again


class FileSink:
    """Writes go to a file of the container."""

    def __init__(self, process: Process, path: str, *, append: bool) -> None:
        self._process = process
        self._path = path
        process.fs.write(path, b"", append=append, now=process.machine.clock.now())

    async def write(self, data: bytes) -> None:
        self._process.fs.write(self._path, data, append=True, now=self._process.machine.clock.now())


class Buffer:
    """Keeps what is written; for command substitution."""

    def __init__(self) -> None:
        self.data = bytearray()

    async def write(self, data: bytes) -> None:
        if len(self.data) + len(data) > SUBSTITUTION_BYTES_MAX:
            raise error(errno.ENOMEM, "")
        self.data += data


def input_of(data: bytes) -> Pipe:
    pipe = Pipe()
    if data:
        pipe.feed(data)
    pipe.close()
    return pipe


class Shell:
    """One shell environment. `process` holds its variables (exported and not), directory and streams."""

    def __init__(
        self, process: Process, programs: dict[str, Program], *, name: str = "sh", arguments: tuple[str, ...] = (), depth: int = 0
    ) -> None:
        self.process = process
        self.programs = programs
        self.variables: dict[str, str] = dict(process.env)
        self.exported: set[str] = set(process.env)
        self.functions: dict[str, Compound] = {}
        self.name = name
        self.arguments = list(arguments)
        self.code = 0
        self.options: set[str] = set()
        self.traps: dict[str, str] = {}
        self.background: list[asyncio.Task[int]] = []
        self._depth = depth
        self._spent = 0
        self._tasks: asyncio.TaskGroup | None = None
        self._expander = Expander(
            get=self.get, set=self.assign, positional=lambda: self.arguments, run=self._substitute, fs=process.fs,
            cwd=lambda: self.process.cwd,
            forbids_unset=lambda: "u" in self.options,
        )  # fmt: skip

    # -- variables ---------------------------------------------------------------------------------------------------

    def get(self, name: str) -> str | None:
        special = self._special(name)
        if special is not None:
            return special
        if name.isdigit():
            index = int(name) - 1
            return self.arguments[index] if index < len(self.arguments) else None
        if name in "@*":
            return " ".join(self.arguments)
        return self.variables.get(name)

    def _special(self, name: str) -> str | None:
        match name:
            case "?":
                return str(self.code)
            case "#":
                return str(len(self.arguments))
            case "$":
                return "1" if self.process.is_main else "7"
            case "!":
                return "8"
            case "0":
                return self.name
            case "-":
                return "".join(sorted(self.options))
            case "RANDOM":
                return str(self.process.machine.rng.randrange(32768))
        return None

    def assign(self, name: str, value: str) -> None:
        self.variables[name] = value
        if name in self.exported:
            self.process.env[name] = value

    def export(self, name: str) -> None:
        self.exported.add(name)
        self.process.env[name] = self.variables.setdefault(name, "")

    def unset(self, name: str) -> None:
        self.variables.pop(name, None)
        self.process.env.pop(name, None)
        self.exported.discard(name)
        self.functions.pop(name, None)

    # -- running -----------------------------------------------------------------------------------------------------

    async def run_text(self, text: str) -> int:
        """Parse and run a whole script; a syntax error gives code 2. `exit` and the EXIT trap are handled here."""
        try:
            script = parse(text)
        except ShellSyntaxError as failure:
            await self.process.complain(f"{self.name}: {failure}")
            return 2
        return await self.run_top(script)

    async def run_top(self, script: Script) -> int:
        code = await self.run_guarded(script)
        if trap := self.traps.pop("EXIT", ""):
            await self.run_text(trap)
        return code

    async def run_guarded(self, script: Script) -> int:
        """Run in a scope of its own: background jobs are waited for, `exit` ends it."""
        async with asyncio.TaskGroup() as tasks:
            outer, self._tasks = self._tasks, tasks
            try:
                code = await self.run(script)
            except ExitShell as leaving:
                code = leaving.code
            except (ReturnFunction, LoopJump):
                code = self.code
            finally:
                self._tasks = outer
            self.code = code
            for job in self.background:
                job.cancel()
        return code

    async def run(self, script: Script) -> int:
        for item in script.items:
            self.code = await self._and_or(item)
        return self.code

    async def _and_or(self, item: AndOr) -> int:
        if item.background and self._tasks is not None:
            self.background = [job for job in self.background if not job.done()]
            self.background.append(self._tasks.create_task(self._in_background(replace(item, background=False)), name="shell-job"))
            return 0
        code = await self._pipeline(item.first)
        tested = bool(item.rest) or item.first.negated
        for operator, pipeline in item.rest:
            self.code = code
            if (operator == "&&") == (code == 0):
                code = await self._pipeline(pipeline)
                tested = pipeline is not item.rest[-1][1]
        if code != 0 and "e" in self.options and not tested:
            raise ExitShell(code)
        return code

    async def _in_background(self, item: AndOr) -> int:
        shell = self.subshell(replace(self.process, stdin=input_of(b"")))
        return await shell.run_guarded(Script((item,)))

    async def _pipeline(self, pipeline: Pipeline) -> int:
        if len(pipeline.commands) == 1:
            code = await self._command(pipeline.commands[0])
        else:
            code = await self._piped(pipeline.commands)
        self.code = int(code == 0) if pipeline.negated else code
        return self.code

    async def _piped(self, commands: tuple[Command, ...]) -> int:
        """Each command in a subshell of its own, joined by pipes; the last one's code counts (all of them under pipefail)."""
        source = self.process.stdin
        jobs = []
        async with asyncio.TaskGroup() as tasks:
            for index, command in enumerate(commands):
                is_last = index == len(commands) - 1
                pipe = None if is_last else Pipe()
                process = replace(self.process, stdin=source, stdout=pipe if pipe is not None else self.process.stdout)
                shell = self.subshell(process)
                reads = source if index else None
                jobs.append(tasks.create_task(_pipe_end(shell, Script((AndOr(Pipeline((command,))),)), reads, pipe), name="shell-pipe"))
                source = pipe
        codes = [job.result() for job in jobs]
        if "pipefail" in self.options:
            return next((code for code in reversed(codes) if code), 0)
        return codes[-1]

    def subshell(self, process: Process) -> Shell:
        shell = Shell(
            replace(process, env=dict(process.env)), self.programs, name=self.name, arguments=tuple(self.arguments), depth=self._depth + 1
        )
        shell.variables = dict(self.variables)
        shell.exported = set(self.exported)
        shell.functions = dict(self.functions)
        shell.options = set(self.options)
        shell.code = self.code
        return shell

    async def _substitute(self, script: Script) -> str:
        buffer = Buffer()
        shell = self.subshell(replace(self.process, stdout=buffer))
        self.code = await shell.run_guarded(script)
        return buffer.data.decode(errors="surrogateescape").replace("\0", "")

    async def _pace(self) -> None:
        self._spent += 1
        if self._spent >= COMMANDS_PER_PAUSE:
            self._spent = 0
            await asyncio.sleep(PAUSE_SECONDS)

    # -- commands ----------------------------------------------------------------------------------------------------

    async def _command(self, command: Command) -> int:
        await self._pace()
        if isinstance(command, Function):
            self.functions[command.name] = command.body
            return 0
        if isinstance(command, Simple):
            return await self._simple(command)
        try:
            process = await self._redirected(command.redirects)
        except (OSError, ExpansionFailure) as failure:
            return await self._complain(failure)
        outer, self.process = self.process, process
        try:
            return await self._compound(command.body)
        finally:
            self.process = replace(outer, cwd=self.process.cwd) if self.process.cwd != outer.cwd else outer

    async def _compound(self, body: Group | Subshell | If | Loop | For | Case) -> int:
        match body:
            case Group(script):
                return await self.run(script)
            case Subshell(script):
                return await self.subshell(self.process).run_guarded(script)
            case If():
                return await self._if(body)
            case Loop():
                return await self._loop(body)
            case For():
                return await self._for(body)
            case Case():
                return await self._case(body)

    async def _condition(self, script: Script) -> bool:
        outer, self.options = self.options, self.options - {"e"}
        try:
            return await self.run(script) == 0
        finally:
            self.options = outer

    async def _if(self, body: If) -> int:
        for condition, then in body.branches:
            if await self._condition(condition):
                return await self.run(then)
        return await self.run(body.otherwise) if body.otherwise is not None else 0

    async def _loop(self, body: Loop) -> int:
        code = 0
        while await self._condition(body.condition) != body.until:
            code, done = await self._iterate(body.body)
            if done:
                break
        return code

    async def _for(self, body: For) -> int:
        values = list(self.arguments) if body.words is None else await self._expander.fields(body.words)
        code = 0
        for value in values:
            self.assign(body.name, value)
            code, done = await self._iterate(body.body)
            if done:
                break
        return code

    async def _iterate(self, script: Script) -> tuple[int, bool]:
        """Run a loop's body; (code, whether the loop ends)."""
        await self._pace()
        try:
            return await self.run(script), False
        except LoopJump as jump:
            if jump.levels > 1:
                raise LoopJump(jump.levels - 1, again=jump.again) from None
            return 0, not jump.again

    async def _case(self, body: Case) -> int:
        subject = await self._expander.text(body.word)
        for patterns, script in body.arms:
            for pattern in patterns:
                if match(subject, await self._expander.pattern(pattern)):
                    return await self.run(script)
        return 0

    async def _simple(self, command: Simple) -> int:
        try:
            words = await self._expander.fields(command.words)
            assignments = [(name, await self._expander.text(word)) for name, word in command.assignments]
            process = await self._redirected(command.redirects)
        except (OSError, ExpansionFailure) as failure:
            return await self._complain(failure)
        if not words:
            for name, value in assignments:
                self.assign(name, value)
            has_substitution = any(not hasattr(part, "text") for _, word in command.assignments for part in word.parts)
            return self.code if has_substitution else 0
        if "x" in self.options:
            await self.process.complain("+ " + " ".join(words))
        if assignments:
            process = replace(process, env={**process.env, **dict(assignments)})
        return await self.call(words, process)

    async def _complain(self, failure: OSError | ExpansionFailure) -> int:
        text = describe(failure) if isinstance(failure, OSError) else str(failure)
        await self.process.complain(f"{self.name}: {text}")
        if isinstance(failure, ExpansionFailure):
            raise ExitShell(2) from failure
        return 1

    async def call(self, words: list[str], process: Process) -> int:
        """Run a command by name: function, builtin, program, script file."""
        name, args = words[0], words[1:]
        try:
            if name in self.functions:
                return await self._call_function(self.functions[name], args, process)
            builtin = BUILTINS.get(name)
            if builtin is not None:
                return await self._with_process(process, builtin(self, args))
            return await run_program(self.programs, words, process, shell=self)
        except BrokenStream:
            return CODE_BROKEN_PIPE

    async def _with_process(self, process: Process, running: Awaitable[int]) -> int:
        outer, self.process = self.process, process
        try:
            return await running
        except OSError as failure:
            return await self._complain(failure)
        finally:
            self.process = replace(outer, cwd=self.process.cwd) if self.process.cwd != outer.cwd else outer

    async def _call_function(self, body: Compound, args: list[str], process: Process) -> int:
        if self._depth >= CALL_DEPTH_MAX:
            await process.complain(f"{self.name}: maximum function nesting level exceeded")
            raise ExitShell(2)
        arguments, self.arguments = self.arguments, args
        self._depth += 1
        try:
            return await self._with_process(process, self._command(body))
        except ReturnFunction as returning:
            return returning.code
        finally:
            self.arguments = arguments
            self._depth -= 1

    async def _redirected(self, redirects: tuple[Redirect, ...]) -> Process:
        process = self.process
        for redirect in redirects:
            process = await self._redirect(process, redirect)
        return process

    async def _redirect(self, process: Process, redirect: Redirect) -> Process:
        target = await self._expander.text(redirect.target)
        match redirect.op:
            case "<":
                return replace(process, stdin=_open_input(process, target))
            case "<<":
                return replace(process, stdin=input_of(target.encode(errors="surrogateescape")))
            case ">&":
                sink: Sink = {"1": process.stdout, "2": process.stderr}.get(target) or NullSink()
            case "&>":
                sink = _open_output(process, target, append=False)
                return replace(process, stdout=sink, stderr=sink)
            case _:
                sink = _open_output(process, target, append=redirect.op == ">>")
        return replace(process, stderr=sink) if redirect.fd == 2 else replace(process, stdout=sink)


async def _pipe_end(shell: Shell, script: Script, reads: Pipe | None, writes: Pipe | None) -> int:
    try:
        return await shell.run_guarded(script)
    except BrokenStream:
        return CODE_BROKEN_PIPE
    finally:
        if writes is not None:
            writes.close()
        if reads is not None:
            reads.close_reader()


def _open_input(process: Process, name: str) -> Pipe | None:
    path = process.path(name)
    if path == "/dev/stdin":
        return process.stdin
    if path in ("/dev/null", "/dev/zero"):
        return input_of(b"")
    return input_of(process.fs.read(path))


def _open_output(process: Process, name: str, *, append: bool) -> Sink:
    path = process.path(name)
    special: dict[str, Callable[[], Sink]] = {
        "/dev/null": NullSink, "/dev/stdout": lambda: process.stdout, "/dev/stderr": lambda: process.stderr,
        "/dev/tty": lambda: process.stdout,
        "/proc/1/fd/1": lambda: process.stdout, "/proc/1/fd/2": lambda: process.stderr, "/proc/self/fd/1": lambda: process.stdout,
    }  # fmt: skip
    make = special.get(path)
    return make() if make is not None else FileSink(process, path, append=append)


async def run_program(programs: dict[str, Program], words: list[str], process: Process, *, shell: Shell | None = None) -> int:
    """Run a program of the toolbox, a script file of the container, or what the machine says of unknown ones."""
    name, args = words[0], words[1:]
    base = name.rsplit("/", 1)[-1]
    script = _script_file(process, name)
    program = programs.get(base) if script is None else None
    try:
        if program is not None:
            return await program(process, args)
        if script is not None:
            depth = shell._depth + 1 if shell is not None else 0
            if depth >= CALL_DEPTH_MAX:
                raise error(errno.ELOOP, name)
            return await Shell(replace(process, env=dict(process.env)), programs, name=name, arguments=tuple(args), depth=depth).run_text(
                script
            )
        return await process.machine.unknown(process, words)
    except UsageError as failure:
        await process.complain(f"{base}: {failure}")
        return failure.code
    except OSError as failure:
        await process.complain(f"{base}: {describe(failure)}")
        return 1
    except BrokenStream:
        return CODE_BROKEN_PIPE


def _script_file(process: Process, name: str) -> str | None:
    """The text of a script that is called by its path; None if there is no such file."""
    if "/" not in name:
        return None
    path = process.path(name)
    with contextlib.suppress(OSError):
        data = process.fs.read(path)
        if data:
            return data.decode(errors="surrogateescape")
    return None


# -- builtins ------------------------------------------------------------------------------------------------------------

Builtin = Callable[[Shell, list[str]], Awaitable[int]]


async def _cd(shell: Shell, args: list[str]) -> int:
    target = args[0] if args else shell.get("HOME") or "/"
    if target == "-":
        target = shell.get("OLDPWD") or shell.process.cwd
    path = shell.process.path(target)
    if not shell.process.fs.is_dir(path):
        number = errno.ENOTDIR if shell.process.fs.exists(path) else errno.ENOENT
        await shell.process.complain(f"{shell.name}: cd: can't cd to {target}: {error(number, '').strerror}")
        return 2
    shell.assign("OLDPWD", shell.process.cwd)
    shell.process.cwd = path
    shell.assign("PWD", path)
    return 0


def _number(args: list[str], default: int) -> int:
    try:
        return int(args[0]) if args else default
    except ValueError:
        return 2


async def _exit(shell: Shell, args: list[str]) -> int:
    raise ExitShell(_number(args, shell.code) & 0xFF)


async def _return(shell: Shell, args: list[str]) -> int:
    raise ReturnFunction(_number(args, shell.code) & 0xFF)


async def _break(shell: Shell, args: list[str]) -> int:
    raise LoopJump(max(1, _number(args, 1)), again=False)


async def _continue(shell: Shell, args: list[str]) -> int:
    raise LoopJump(max(1, _number(args, 1)), again=True)


async def _export(shell: Shell, args: list[str]) -> int:
    for arg in (arg for arg in args if not arg.startswith("-")):
        name, equals, value = arg.partition("=")
        if equals:
            shell.variables[name] = value
        shell.export(name)
    return 0


async def _local(shell: Shell, args: list[str]) -> int:
    for arg in (arg for arg in args if not arg.startswith("-")):
        name, equals, value = arg.partition("=")
        shell.assign(name, value if equals else "")
    return 0


async def _unset(shell: Shell, args: list[str]) -> int:
    for name in (arg for arg in args if not arg.startswith("-")):
        shell.unset(name)
    return 0


async def _set(shell: Shell, args: list[str]) -> int:
    if not args:
        for name in sorted(shell.variables):
            await shell.process.out(f"{name}='{shell.variables[name]}'\n")
    queue = list(args)
    while queue and queue[0][:1] in "-+" and len(queue[0]) > 1:
        flag = queue.pop(0)
        if flag == "--":
            shell.arguments = queue
            return 0
        names = set(flag[1:])
        if "o" in names:
            names = (names - {"o"}) | ({queue.pop(0)} if queue else set())
            names = {{"errexit": "e", "nounset": "u", "xtrace": "x"}.get(name, name) for name in names}
        shell.options = shell.options | names if flag[0] == "-" else shell.options - names
    if queue:
        shell.arguments = queue
    return 0


async def _shift(shell: Shell, args: list[str]) -> int:
    count = _number(args, 1)
    if count > len(shell.arguments):
        return 1
    del shell.arguments[:count]
    return 0


async def _read(shell: Shell, args: list[str]) -> int:
    names = [arg for arg in args if not arg.startswith("-")] or ["REPLY"]
    line = await shell.process.stdin.read_line() if shell.process.stdin is not None else b""
    words = line.decode(errors="surrogateescape").rstrip("\n").split(None, len(names) - 1)
    for index, name in enumerate(names):
        shell.assign(name, words[index] if index < len(words) else "")
    return 0 if line.endswith(b"\n") else 1


async def _eval(shell: Shell, args: list[str]) -> int:
    try:
        return await shell.run(parse(" ".join(args)))
    except ShellSyntaxError as failure:
        await shell.process.complain(f"{shell.name}: eval: {failure}")
        return 2


async def _source(shell: Shell, args: list[str]) -> int:
    if not args:
        return 2
    text = shell.process.fs.read(shell.process.path(args[0])).decode(errors="surrogateescape")
    return await _eval(shell, [text])


async def _exec(shell: Shell, args: list[str]) -> int:
    if not args:
        return 0
    raise ExitShell(await run_program(shell.programs, args, shell.process, shell=shell))


async def _wait(shell: Shell, args: list[str]) -> int:
    code = 0
    for job in shell.background:
        code = await job
    shell.background.clear()
    return code if args else 0


async def _trap(shell: Shell, args: list[str]) -> int:
    if len(args) >= 2:
        for signal in args[1:]:
            name = {"0": "EXIT", "15": "TERM", "2": "INT"}.get(signal, signal.removeprefix("SIG"))
            shell.traps[name] = args[0]
    return 0


async def _command(shell: Shell, args: list[str]) -> int:
    if args[:1] in (["-v"], ["-V"]):
        return await _type(shell, args[1:])
    return await run_program(shell.programs, args, shell.process, shell=shell) if args else 0


async def _type(shell: Shell, args: list[str]) -> int:
    code = 0
    for name in args:
        if name in shell.functions or name in BUILTINS:
            await shell.process.out(f"{name}\n")
        elif name in shell.programs:
            await shell.process.out(f"/bin/{name}\n")
        else:
            code = CODE_NOT_FOUND
    return code


async def _colon(shell: Shell, args: list[str]) -> int:
    return 0


BUILTINS: dict[str, Builtin] = {
    "cd": _cd, "exit": _exit, "return": _return, "break": _break, "continue": _continue, "export": _export, "local": _local,
    "readonly": _export,
    "declare": _local, "unset": _unset, "set": _set, "shift": _shift, "read": _read, "eval": _eval, ".": _source, "source": _source,
    "exec": _exec, "wait": _wait,
    "trap": _trap, "command": _command, "type": _type, ":": _colon, "umask": _colon, "ulimit": _colon, "hash": _colon, "shopt": _colon,
}  # fmt: skip


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
    child = replace(process, env=dict(process.env))
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
