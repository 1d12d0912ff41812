"""Programs on files: cat, ls, cp, mv, rm, mkdir, touch, find, stat, …"""

from __future__ import annotations

import errno
import fnmatch
import posixpath
from datetime import datetime

from ...volumes.filesystem import Dir, File, Link, Node, error
from ..process import Process, Program, UsageError, describe, split_options
from ..running import run_program


async def _each(process: Process, program: str, paths: list[str], code: int, failure: OSError) -> int:
    await process.complain(f"{program}: {describe(failure)}")
    return max(code, 1)


async def cat(process: Process, args: list[str]) -> int:
    options, names = split_options(args, "nAevtbsuET")
    code = 0
    number = 0
    for name in names or ["-"]:
        try:
            data = await process.read_input() if name == "-" else read_file(process, name)
        except OSError as failure:
            code = await _each(process, "cat", names, code, OSError(failure.errno, failure.strerror, name))
            continue
        if "n" in options:
            lines = data.splitlines(keepends=True)
            data = b"".join(b"%6d\t%s" % (number + index, line) for index, line in enumerate(lines, 1))
            number += len(lines)
        await process.stdout.write(data)
    return code


def read_file(process: Process, name: str) -> bytes:
    """A file's bytes; special files answer as on Linux."""
    path = process.path(name)
    if path == "/dev/null":
        return b""
    if path == "/dev/urandom":
        return process.machine.rng.randbytes(256)
    return process.fs.read(path)


async def ls(process: Process, args: list[str]) -> int:
    options, names = split_options(args, "la1AhRtrSdFgoni")
    code = 0
    names = names or ["."]
    for name in names:
        path = process.path(name)
        try:
            node = process.fs.node(path, follow="l" not in options or name.endswith("/"))
        except OSError:
            await process.complain(f"ls: {name}: No such file or directory")
            code = 1
            continue
        if isinstance(node, Dir) and "d" not in options:
            if len(names) > 1:
                await process.out(f"{name}:\n")
            await _list(process, path, options)
        else:
            await process.out(_entry(name, node, options))
    return code


async def _list(process: Process, path: str, options: dict[str, str]) -> None:
    directory = process.fs.directory(path)
    names = sorted(directory.entries)
    if "a" in options:
        names = [".", "..", *names]
    elif "A" not in options:
        names = [name for name in names if not name.startswith(".")]
    if "r" in options:
        names.reverse()
    if "l" in options:
        await process.out("total 0\n")
    for name in names:
        await process.out(_entry(name, directory if name in (".", "..") else directory.entries[name], options))
    if "R" in options:
        for name in names:
            if isinstance(directory.entries.get(name), Dir):
                child = posixpath.join(path, name)
                await process.out(f"\n{child}:\n")
                await _list(process, child, options)


def _entry(name: str, node: Node, options: dict[str, str]) -> str:
    if "l" not in options:
        return f"{name}{'/' if 'F' in options and isinstance(node, Dir) else ''}\n"
    kind, mode, size = kind_of(node), mode_of(node), size_of(node)
    letters = "".join(letter if mode >> (8 - index) & 1 else "-" for index, letter in enumerate("rwxrwxrwx"))
    arrow = f" -> {node.target}" if isinstance(node, Link) else ""
    when = node.mtime.strftime("%b %e %H:%M") if node.mtime else "Jan  1 00:00"
    return f"{kind}{letters}    1 root     root     {size:9d} {when} {name}{arrow}\n"


def kind_of(node: Node) -> str:
    return "d" if isinstance(node, Dir) else ("l" if isinstance(node, Link) else "-")


def mode_of(node: Node) -> int:
    return 0o777 if isinstance(node, Link) else node.mode


def size_of(node: Node) -> int:
    return 4096 if isinstance(node, Dir) else (len(node.target) if isinstance(node, Link) else len(node.read()))


async def mkdir(process: Process, args: list[str]) -> int:
    options, names = split_options(args, "pv", "m")
    for name in names:
        try:
            process.fs.mkdir(process.path(name), parents="p" in options, now=_now(process))
        except OSError as failure:
            await process.complain(f"mkdir: can't create directory '{name}': {failure.strerror}")
            return 1
    return 0


async def rmdir(process: Process, args: list[str]) -> int:
    _, names = split_options(args, "p")
    for name in names:
        process.fs.remove(process.path(name), directory=True)
    return 0


async def rm(process: Process, args: list[str]) -> int:
    options, names = split_options(args, "rRfiv")
    code = 0
    for name in names:
        try:
            process.fs.remove(process.path(name), recursive="r" in options or "R" in options)
        except FileNotFoundError:
            if "f" not in options:
                await process.complain(f"rm: can't remove '{name}': No such file or directory")
                code = 1
        except OSError as failure:
            await process.complain(f"rm: can't remove '{name}': {failure.strerror}")
            code = 1
    return code


async def touch(process: Process, args: list[str]) -> int:
    options, names = split_options(args, "acm", "drt")
    for name in names:
        path = process.path(name)
        if process.fs.exists(path):
            process.fs.node(path).mtime = _now(process)
        elif "c" not in options:
            process.fs.write(path, b"", now=_now(process))
    return 0


def _destination(process: Process, source: str, target: str) -> str:
    path = process.path(target)
    return posixpath.join(path, posixpath.basename(source)) if process.fs.is_dir(path) else path


def copy_tree(process: Process, source: str, target: str) -> None:
    """Copy a file or a whole directory."""
    for path, node in list(process.fs.walk(source)):
        at = target + path[len(source) :]
        if isinstance(node, Dir):
            process.fs.mkdir(at, parents=True, now=_now(process))
        elif isinstance(node, Link):
            process.fs.symlink(node.target, at, _now(process))
        else:
            process.fs.write(at, node.read(), now=_now(process), mode=node.mode)


async def cp(process: Process, args: list[str]) -> int:
    options, names = split_options(args, "rRafpvLPdT")
    if len(names) < 2:
        raise UsageError("missing file operand", 1)
    recursive = any(flag in options for flag in "rRa")
    *sources, target = names
    for name in sources:
        path = process.path(name)
        if process.fs.is_dir(path):
            if not recursive:
                await process.complain(f"cp: omitting directory '{name}'")
                return 1
            copy_tree(process, path, _destination(process, path, target))
        else:
            process.fs.write(_destination(process, path, target), process.fs.read(path), now=_now(process))
    return 0


async def mv(process: Process, args: list[str]) -> int:
    _, names = split_options(args, "fivnT")
    if len(names) < 2:
        raise UsageError("missing file operand", 1)
    *sources, target = names
    for name in sources:
        path = process.path(name)
        process.fs.rename(path, _destination(process, path, target))
    return 0


async def ln(process: Process, args: list[str]) -> int:
    options, names = split_options(args, "sfnT")
    if not names:
        raise UsageError("missing file operand", 1)
    target = names[1] if len(names) > 1 else posixpath.basename(names[0])
    path = _destination(process, names[0], target)
    if "f" in options and process.fs.exists(path, follow=False):
        process.fs.remove(path)
    if "s" in options:
        process.fs.symlink(names[0], path, _now(process))
    else:
        process.fs.write(path, process.fs.read(process.path(names[0])), now=_now(process))
    return 0


async def chmod(process: Process, args: list[str]) -> int:
    names = [arg for arg in args if not arg.startswith("-")]
    if len(names) < 2:
        raise UsageError("missing operand", 1)
    for name in names[1:]:
        node = process.fs.node(process.path(name))
        if isinstance(node, Link):
            continue
        if names[0].isdigit():
            node.mode = int(names[0], 8)
        elif "x" in names[0]:
            node.mode = node.mode | 0o111 if "+" in names[0] else node.mode & ~0o111
    return 0


async def chown(process: Process, args: list[str]) -> int:
    """Owners are not kept, but the files must exist."""
    names = [arg for arg in args if not arg.startswith("-")]
    for name in names[1:]:
        process.fs.node(process.path(name))
    return 0


async def readlink(process: Process, args: list[str]) -> int:
    options, names = split_options(args, "fenq")
    for name in names:
        path = process.path(name)
        if "f" in options or "e" in options:
            await process.out(path + "\n")
            continue
        node = process.fs.node(path, follow=False)
        if not isinstance(node, Link):
            return 1
        await process.out(node.target + "\n")
    return 0


async def stat(process: Process, args: list[str]) -> int:
    options, names = split_options(args, "Lft", "c")
    for name in names:
        node = process.fs.node(process.path(name), follow="L" in options)
        size, mode = size_of(node), mode_of(node)
        if "c" in options:
            text = (
                options["c"]
                .replace("%s", str(size))
                .replace("%a", f"{mode:o}")
                .replace("%n", name)
                .replace("%U", "root")
                .replace("%G", "root")
            )
            await process.out(text + "\n")
        else:
            kind = {"d": "directory", "l": "symbolic link", "-": "regular file"}[kind_of(node)]
            await process.out(f"  File: {name}\n  Size: {size}\t{kind}\nAccess: ({mode:04o})\n")
    return 0


async def basename(process: Process, args: list[str]) -> int:
    if not args:
        raise UsageError("missing operand", 1)
    name = posixpath.basename(args[0].rstrip("/")) or "/"
    if len(args) > 1 and name != args[1]:
        name = name.removesuffix(args[1])
    await process.out(name + "\n")
    return 0


async def dirname(process: Process, args: list[str]) -> int:
    if not args:
        raise UsageError("missing operand", 1)
    await process.out((posixpath.dirname(args[0].rstrip("/")) or ("/" if args[0].startswith("/") else ".")) + "\n")
    return 0


async def df(process: Process, args: list[str]) -> int:
    await process.out(
        "Filesystem           1K-blocks      Used Available Use% Mounted on\noverlay               104857600   1048576 103809024   1% /\n"
    )
    return 0


async def du(process: Process, args: list[str]) -> int:
    _, names = split_options(args, "skhaxm")
    for name in names or ["."]:
        total = sum(size_of(node) for _, node in process.fs.walk(process.path(name)))
        await process.out(f"{(total + 1023) // 1024}\t{name}\n")
    return 0


async def mktemp(process: Process, args: list[str]) -> int:
    options, names = split_options(args, "dqut", "p")
    template = names[0] if names else "tmp.XXXXXX"
    stem = template.rstrip("X")
    path = process.path(
        posixpath.join(options.get("p") or ("" if "/" in template else "/tmp"), stem + f"{process.machine.rng.getrandbits(32):08x}")
    )
    if "d" in options:
        process.fs.mkdir(path, parents=True, now=_now(process))
    else:
        process.fs.write(path, b"", now=_now(process))
    await process.out(path + "\n")
    return 0


async def find(programs: dict[str, Program], process: Process, args: list[str]) -> int:
    """find [paths] [-name|-iname glob] [-type f|d|l] [-maxdepth n] [-exec cmd {} ;] [-delete] [-print]."""
    split = next((index for index, arg in enumerate(args) if arg.startswith("-") or arg in ("(", "!")), len(args))
    tests, command = _find_tests(args[split:])
    code = 0
    for base in args[:split] or ["."]:
        root = process.path(base)
        for path, node in list(process.fs.walk(root)):
            shown = base + path[len(root) :] if root != "/" else path
            if not _find_matches(tests, path, node, path[len(root) :].count("/")):
                continue
            if command:
                code = max(code, await run_program(programs, [shown if word == "{}" else word for word in command], process))
            elif "-delete" in tests:
                process.fs.remove(path, recursive=True)
            else:
                await process.out(shown + "\n")
    return code


def _find_tests(args: list[str]) -> tuple[dict[str, str], list[str]]:
    tests: dict[str, str] = {}
    queue = list(args)
    while queue:
        test = queue.pop(0)
        if test == "-exec":
            command = []
            while queue and queue[0] not in (";", "+"):
                command.append(queue.pop(0))
            return tests, command
        if test in ("-print", "-delete", "-print0"):
            tests[test] = ""
        elif test in ("-name", "-iname", "-type", "-maxdepth", "-mindepth", "-path") and queue:
            tests[test] = queue.pop(0)
        else:
            raise UsageError(f"unrecognized: {test}", 1)
    return tests, []


def _find_matches(tests: dict[str, str], path: str, node: Node, depth: int) -> bool:
    name = posixpath.basename(path)
    kind = kind_of(node).replace("-", "f")
    return (
        ("-name" not in tests or fnmatch.fnmatchcase(name, tests["-name"]))
        and ("-iname" not in tests or fnmatch.fnmatchcase(name.lower(), tests["-iname"].lower()))
        and ("-path" not in tests or fnmatch.fnmatchcase(path, tests["-path"]))
        and tests.get("-type", kind) == kind
        and depth <= int(tests.get("-maxdepth", depth))
        and depth >= int(tests.get("-mindepth", 0))
    )


async def tee(process: Process, args: list[str]) -> int:
    options, names = split_options(args, "ai")
    paths = [process.path(name) for name in names]
    for path in paths:
        process.fs.write(path, b"", append="a" in options, now=_now(process))
    while process.stdin is not None and (data := await process.stdin.read()):
        await process.stdout.write(data)
        for path in paths:
            process.fs.write(path, data, append=True, now=_now(process))
    return 0


async def dd(process: Process, args: list[str]) -> int:
    """dd if= of= bs= count=, with /dev/zero and /dev/urandom as sources."""
    operands = dict(arg.partition("=")[::2] for arg in args)
    units = {"k": 1024, "K": 1024, "M": 1024**2, "G": 1024**3}
    text = operands.get("bs", "512")
    block = int(text.rstrip("kKMGB")) * units.get(text.rstrip("B")[-1:], 1)
    size = block * int(operands.get("count", "1"))
    if size > 64 * 1024**2:
        raise error(errno.ENOSPC, operands.get("of", ""))
    source = operands.get("if", "")
    if source in ("/dev/zero", "/dev/urandom", "/dev/random"):
        data = bytes(size) if source == "/dev/zero" else process.machine.rng.randbytes(size)
    else:
        data = process.fs.read(process.path(source)) if source else await process.read_input()
        data = data[:size] if "count" in operands else data
    target = operands.get("of", "")
    if not target:
        await process.stdout.write(data)
    elif process.path(target) != "/dev/null":
        process.fs.write(process.path(target), data, now=_now(process))
    await process.complain(f"{len(data) // block}+{int(len(data) % block > 0)} records in\n{len(data)} bytes copied")
    return 0


def file_at(process: Process, name: str) -> File | Dir | None:
    """The node behind a name, links followed; None if there is none."""
    path = process.path(name)
    if not process.fs.exists(path):
        return None
    node = process.fs.node(path)
    return None if isinstance(node, Link) else node


def _now(process: Process) -> datetime:
    return process.machine.clock.now()


PROGRAMS: dict[str, Program] = {
    "cat": cat, "ls": ls, "mkdir": mkdir, "rmdir": rmdir, "rm": rm, "touch": touch, "cp": cp, "mv": mv, "ln": ln, "chmod": chmod,
    "chown": chown, "chgrp": chown,
    "readlink": readlink, "realpath": lambda process, args: readlink(process, ["-f", *args]), "stat": stat, "basename": basename,
    "dirname": dirname, "df": df, "du": du,
    "mktemp": mktemp, "tee": tee, "dd": dd, "sync": lambda process, args: _nothing(),
}  # fmt: skip


async def _nothing() -> int:
    return 0
