"""Programs on the system: env, hostname, id, ps, kill, sleep, test, true, false, timeout, nproc, …"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from ...volumes.filesystem import Dir, File
from ..process import CODE_TERMINATED, Process, Program, UsageError, split_options
from ..running import run_program
from .files import file_at, size_of

SLEEP_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
FOREVER_SECONDS = 10.0 * 365 * 86400


def duration(text: str) -> float:
    """`5`, `0.5`, `2m`, `infinity` in seconds; UsageError if it is none."""
    if text in ("infinity", "inf"):
        return FOREVER_SECONDS
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)([smhd]?)", text)
    if found is None:
        raise UsageError(f"invalid number '{text}'", 1)
    return float(found[1]) * SLEEP_UNITS[found[2]]


async def sleep(process: Process, args: list[str]) -> int:
    if not args:
        raise UsageError("missing operand", 1)
    await process.sleep(sum(duration(arg) for arg in args))
    return 0


async def true(process: Process, args: list[str]) -> int:
    return 0


async def false(process: Process, args: list[str]) -> int:
    return 1


async def printenv(process: Process, args: list[str]) -> int:
    if not args:
        await process.out("".join(f"{name}={value}\n" for name, value in process.env.items()))
        return 0
    code = 0
    for name in args:
        if name in process.env:
            await process.out(process.env[name] + "\n")
        else:
            code = 1
    return code


async def hostname(process: Process, args: list[str]) -> int:
    options, _ = split_options(args, "fsid")
    if "i" in options:
        await process.out(_own_address(process) + "\n")
    elif "f" in options:
        await process.out(_canonical_name(process) + "\n")
    else:
        await process.out(process.machine.hostname + "\n")
    return 0


def _hosts(process: Process) -> list[list[str]]:
    text = process.fs.read("/etc/hosts").decode() if process.fs.exists("/etc/hosts") else ""
    return [line.split() for line in text.splitlines() if line and not line.startswith("#")]


def _own_address(process: Process) -> str:
    return next((fields[0] for fields in _hosts(process) if process.machine.hostname in fields[1:]), "127.0.0.1")


def _canonical_name(process: Process) -> str:
    return next((fields[1] for fields in _hosts(process) if process.machine.hostname in fields[1:]), process.machine.hostname)


async def uname(process: Process, args: list[str]) -> int:
    options, _ = split_options(args, "asnrmvpo")
    values = {"s": "Linux", "n": process.machine.hostname, "r": "6.12.0-kubecosm", "v": "#1 SMP", "m": "x86_64", "o": "GNU/Linux"}
    wanted = list(values) if "a" in options else [key for key in values if key in options] or ["s"]
    await process.out(" ".join(values[key] for key in wanted) + "\n")
    return 0


async def whoami(process: Process, args: list[str]) -> int:
    uid = process.machine.uid
    if uid and not process.fs.exists("/etc/passwd"):
        await process.complain(f"whoami: unknown uid {uid}")
        return 1
    await process.out("root\n" if uid == 0 else f"{_user_name(process, uid)}\n")
    return 0


def _user_name(process: Process, uid: int) -> str:
    text = process.fs.read("/etc/passwd").decode() if process.fs.exists("/etc/passwd") else ""
    return next((line.split(":")[0] for line in text.splitlines() if line.split(":")[2:3] == [str(uid)]), str(uid))


async def identity(process: Process, args: list[str]) -> int:
    options, _ = split_options(args, "ugnG")
    uid, gid = process.machine.uid, process.machine.gid
    if "u" in options or "g" in options or "G" in options:
        number = uid if "u" in options else gid
        await process.out(f"{('root' if number == 0 else number) if 'n' in options else number}\n")
    else:
        names = {0: "(root)"}
        await process.out(f"uid={uid}{names.get(uid, '')} gid={gid}{names.get(gid, '')} groups={gid}{names.get(gid, '')}\n")
    return 0


async def ps(process: Process, args: list[str]) -> int:
    user = "root" if process.machine.uid == 0 else str(process.machine.uid)
    main = " ".join(process.machine.main_command)
    await process.out(
        f"PID   USER     TIME  COMMAND\n    1 {user:<8}  0:00 {main}\n    7 {user:<8}  0:00 ps {' '.join(args)}".rstrip() + "\n"
    )
    return 0


async def kill(process: Process, args: list[str]) -> int:
    name = "TERM"
    queue = list(args)
    while queue and queue[0].startswith("-") and len(queue[0]) > 1:
        flag = queue.pop(0)
        name = queue.pop(0) if flag == "-s" and queue else flag[1:]
    name = {"9": "KILL", "15": "TERM", "2": "INT", "3": "QUIT", "1": "HUP"}.get(name, name.removeprefix("SIG"))
    for pid in queue:
        if pid == "1":
            process.machine.signal_main(name)
        elif pid != "0":
            await process.complain(f"kill: can't kill pid {pid}: No such process")
            return 1
    return 0


async def pkill(process: Process, args: list[str]) -> int:
    name = next((arg[1:] for arg in args if arg.startswith("-") and not arg.startswith("--")), "TERM")
    process.machine.signal_main({"9": "KILL", "15": "TERM"}.get(name, name.removeprefix("SIG")))
    return 0


async def pgrep(process: Process, args: list[str]) -> int:
    wanted = next((arg for arg in args if not arg.startswith("-")), "")
    if wanted and wanted in " ".join(process.machine.main_command):
        await process.out("1\n")
        return 0
    return 1


async def nproc(process: Process, args: list[str]) -> int:
    await process.out("2\n")
    return 0


async def free(process: Process, args: list[str]) -> int:
    await process.out("       total     used     free\nMem: 16384000  1024000 15360000\n")
    return 0


async def uptime(process: Process, args: list[str]) -> int:
    await process.out(f" {process.machine.clock.now():%H:%M:%S} up 0 min,  0 users,  load average: 0.00, 0.00, 0.00\n")
    return 0


async def which(process: Process, args: list[str]) -> int:
    code = 0
    for name in (arg for arg in args if not arg.startswith("-")):
        if process.fs.exists(f"/bin/{name}"):
            await process.out(f"/bin/{name}\n")
        else:
            code = 1
    return code


async def pwd(process: Process, args: list[str]) -> int:
    await process.out(process.cwd + "\n")
    return 0


# -- test ----------------------------------------------------------------------------------------------------------------


Compare = Callable[[str, str], bool]


async def test(process: Process, args: list[str]) -> int:
    return 0 if TestExpression(process, args).whole() else 1


async def bracket(process: Process, args: list[str], closing: str = "]") -> int:
    if not args or args[-1] != closing:
        raise UsageError(f"missing {closing}")
    return await test(process, args[:-1])


class TestExpression:
    """`test`: -e -f -d -r -w -x -s -L -z -n = == != =~ < > -eq … ! ( ) -a -o && ||."""

    def __init__(self, process: Process, args: list[str], comparisons: Mapping[str | None, Compare] | None = None) -> None:
        self._process = process
        self._args = args
        self._comparisons = COMPARISONS if comparisons is None else comparisons
        self._at = 0

    def whole(self) -> bool:
        if not self._args:
            return False
        value = self._or()
        if self._at < len(self._args):
            raise UsageError(f"{self._args[self._at]}: unexpected operator")
        return value

    def _peek(self, ahead: int = 0) -> str | None:
        index = self._at + ahead
        return self._args[index] if index < len(self._args) else None

    def _take(self) -> str:
        word = self._peek()
        if word is None:
            raise UsageError("argument expected")
        self._at += 1
        return word

    def _or(self) -> bool:
        value = self._and()
        while self._peek() in ("-o", "||"):
            self._at += 1
            value = self._and() or value
        return value

    def _and(self) -> bool:
        value = self._not()
        while self._peek() in ("-a", "&&"):
            self._at += 1
            value = self._not() and value
        return value

    def _not(self) -> bool:
        if self._peek() == "!" and self._peek(1) is not None and self._peek(1) not in self._comparisons:
            self._at += 1
            return not self._not()
        return self._primary()

    def _primary(self) -> bool:
        word = self._take()
        if self._peek() in self._comparisons and self._peek(1) is not None:
            operator = self._take()
            return self._comparisons[operator](word, self._take())
        if word == "(":
            value = self._or()
            if self._take() != ")":
                raise UsageError("closing paren expected")
            return value
        if re.fullmatch(r"-[efdrwxsLhznptbcSk]", word) and self._peek() is not None:
            return self._unary(word[1], self._take())
        return word != ""

    def _unary(self, kind: str, operand: str) -> bool:
        if kind in "zn":
            return (operand == "") == (kind == "z")
        if kind in "Lh":
            path = self._process.path(operand)
            return self._process.fs.exists(path, follow=False) and not isinstance(self._process.fs.node(path, follow=False), (File, Dir))
        if kind == "t":
            return self._process.is_tty
        node = file_at(self._process, operand)
        if node is None:
            return operand in ("/dev/null", "/dev/stdin", "/dev/stdout", "/dev/stderr") and kind in "erwc"
        if kind == "f":
            return isinstance(node, File)
        if kind == "d":
            return isinstance(node, Dir)
        if kind == "s":
            return size_of(node) > 0
        if kind == "x":
            return isinstance(node, Dir) or bool(node.mode & 0o111)
        return kind in "erw"


def _integers(compare: Callable[[int, int], bool]) -> Compare:
    def run(left: str, right: str) -> bool:
        try:
            return compare(int(left), int(right))
        except ValueError:
            bad = left if not re.fullmatch(r"\s*[-+]?\d+\s*", left) else right
            raise UsageError(f"{bad}: integer expected") from None

    return run


COMPARISONS: dict[str | None, Compare] = {
    "=": lambda a, b: a == b, "==": lambda a, b: a == b, "!=": lambda a, b: a != b, "<": lambda a, b: a < b, ">": lambda a, b: a > b,
    "=~": lambda a, b: re.search(b, a) is not None,
    "-eq": _integers(lambda a, b: a == b), "-ne": _integers(lambda a, b: a != b), "-lt": _integers(lambda a, b: a < b),
    "-le": _integers(lambda a, b: a <= b),
    "-gt": _integers(lambda a, b: a > b), "-ge": _integers(lambda a, b: a >= b),
}  # fmt: skip


# -- programs that run others --------------------------------------------------------------------------------------------

RUNNERS = (
    "env",
    "timeout",
    "nohup",
    "time",
    "nice",
    "su-exec",
    "gosu",
    "tini",
    "dumb-init",
    "stdbuf",
    "busybox",
    "sudo",
    "setsid",
    "chroot",
    "tini-static",
)


async def run_through(programs: dict[str, Program], runner: str, process: Process, args: list[str]) -> int:
    """Run the program that stands behind a wrapper's own options."""
    queue = list(args)
    if runner == "env":
        return await _env(programs, process, queue)
    if runner == "timeout":
        return await _timeout(programs, process, queue)
    while queue and queue[0].startswith("-"):
        flag = queue.pop(0)
        if flag == "--":
            break
        if runner == "nice" and flag == "-n" and queue:
            queue.pop(0)
    if runner in ("su-exec", "gosu", "chroot") and queue:
        queue.pop(0)
    return await run_program(programs, queue, process) if queue else 0


async def _env(programs: dict[str, Program], process: Process, queue: list[str]) -> int:
    variables = dict(process.env)
    while queue and (queue[0].startswith("-") or "=" in queue[0]):
        word = queue.pop(0)
        if word in ("-i", "-"):
            variables = {}
        elif word == "-u" and queue:
            variables.pop(queue.pop(0), None)
        elif "=" in word:
            name, _, value = word.partition("=")
            variables[name] = value
    child = replace(process, env=variables)
    return await run_program(programs, queue, child) if queue else await printenv(child, [])


async def _timeout(programs: dict[str, Program], process: Process, queue: list[str]) -> int:
    while queue and queue[0].startswith("-"):
        flag = queue.pop(0)
        if flag in ("-s", "-k", "-t") and queue:
            limit = queue.pop(0)
            if flag == "-t":
                queue.insert(0, limit)
    if len(queue) < 2:
        raise UsageError("missing operand", 125)
    seconds = duration(queue[0])
    async with asyncio.TaskGroup() as tasks:
        job = tasks.create_task(run_program(programs, queue[1:], process), name="timeout-job")
        limit_task = tasks.create_task(process.sleep(seconds), name="timeout-limit")
        await asyncio.wait((job, limit_task), return_when=asyncio.FIRST_COMPLETED)
        expired = not job.done()
        job.cancel()
        limit_task.cancel()
    if expired:
        return 124
    return job.result() if not job.cancelled() else CODE_TERMINATED


PROGRAMS: dict[str, Program] = {
    "sleep": sleep, "usleep": lambda process, args: sleep(process, ["0"]), "true": true, "false": false, "printenv": printenv,
    "hostname": hostname, "uname": uname,
    "whoami": whoami, "id": identity, "ps": ps, "kill": kill, "pkill": pkill, "killall": pkill, "pgrep": pgrep, "pidof": pgrep,
    "nproc": nproc, "free": free, "uptime": uptime,
    "which": which, "pwd": pwd, "test": test, "[": bracket, "[[": lambda process, args: bracket(process, args, "]]"),
}  # fmt: skip
