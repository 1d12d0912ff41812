"""Runs a syntax tree: pipelines, lists, control flow, functions, redirections, and the builtins that change the shell itself.

Every command costs a little time budget, so an endless loop in a simulated container cannot starve the kubelet. Leaves out: job control,
aliases, arrays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace

from ..cri.streams import BrokenStream, Pipe
from . import conditional
from .builtins import BUILTINS
from .control import CALL_DEPTH_MAX, ExitShell, LoopJump, ReturnFunction
from .expansion import Expander, ExpansionFailure, match
from .parser import parse
from .process import CODE_BROKEN_PIPE, NullSink, Process, Program, Sink, describe
from .redirection import Buffer, input_of, open_input, open_output
from .running import run_program
from .syntax import (
    AndOr,
    Case,
    Command,
    Compound,
    For,
    Function,
    Group,
    If,
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
            is_conditional = bool(command.words) and command.words[0].plain() == conditional.OPEN
            words = await (conditional.expand(self._expander, command.words) if is_conditional else self._expander.fields(command.words))
            assignments = [(name, await self._expander.text(word)) for name, word in command.assignments]
            process = await self._redirected(command.redirects)
        except (OSError, ExpansionFailure) as failure:
            return await self._complain(failure)
        if not words:
            for name, value in assignments:
                if "x" in self.options:
                    await self.process.complain(f"+ {name}={value}")
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
            return await run_program(self.programs, words, process)
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
                return replace(process, stdin=open_input(process, target))
            case "<<":
                return replace(process, stdin=input_of(target.encode(errors="surrogateescape")))
            case ">&":
                sink: Sink = {"1": process.stdout, "2": process.stderr}.get(target) or NullSink()
            case "&>":
                sink = open_output(process, target, append=False)
                return replace(process, stdout=sink, stderr=sink)
            case _:
                sink = open_output(process, target, append=redirect.op == ">>")
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
