"""The builtins that change the shell itself: cd, export, set, read, eval, trap, …"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ..volumes.filesystem import error
from . import conditional
from .control import ExitShell, LoopJump, ReturnFunction
from .parser import parse
from .process import CODE_NOT_FOUND
from .running import run_program
from .syntax import ShellSyntaxError

if TYPE_CHECKING:
    from .interpreter import Shell

Builtin = Callable[["Shell", list[str]], Awaitable[int]]


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
    raise ExitShell(await run_program(shell.programs, args, shell.process))


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
            if shell.process.is_main:
                ignored = shell.process.machine.ignored_signals
                ignored.discard(name) if args[0] else ignored.add(name)
    return 0


async def _command(shell: Shell, args: list[str]) -> int:
    if args[:1] in (["-v"], ["-V"]):
        return await _type(shell, args[1:])
    return await run_program(shell.programs, args, shell.process) if args else 0


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
    "exec": _exec, "wait": _wait, conditional.OPEN: conditional.evaluate,
    "trap": _trap, "command": _command, "type": _type, ":": _colon, "umask": _colon, "ulimit": _colon, "hash": _colon, "shopt": _colon,
}  # fmt: skip
