"""tar, for `kubectl cp`: create, extract and list over standard streams or files. gzip with -z."""

from __future__ import annotations

import gzip
import io
import posixpath
import tarfile

from ...volumes.filesystem import Dir, Link
from ..process import Process, Program, UsageError
from .files import size_of

ARCHIVE_BYTES_MAX = 256 * 1024 * 1024


async def tar(process: Process, args: list[str]) -> int:
    flags, archive, directory, names = _arguments(args)
    cwd = process.fs.resolve(directory, process.cwd)
    if "c" in flags:
        data = _create(process, cwd, names)
        data = gzip.compress(data) if "z" in flags else data
        if archive in ("-", ""):
            for start in range(0, len(data), 65536):
                await process.stdout.write(data[start : start + 65536])
        else:
            process.fs.write(process.path(archive), data, now=process.machine.clock.now())
        return 0
    data = await process.read_input() if archive in ("-", "") else process.fs.read(process.path(archive))
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    if len(data) > ARCHIVE_BYTES_MAX:
        raise UsageError("archive too large", 1)
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as bundle:
            for member in bundle:
                if "t" in flags:
                    await process.out(member.name + "\n")
                elif "x" in flags:
                    _extract(process, cwd, bundle, member)
    except tarfile.TarError as failure:
        if data:
            raise UsageError(f"{failure}", 1) from failure
    return 0


def _arguments(args: list[str]) -> tuple[str, str, str, list[str]]:
    """(flag letters, archive name, directory of -C, names)."""
    flags, archive, directory, names = "", "", ".", []
    queue = list(args)
    if queue and not queue[0].startswith("-"):
        queue[0] = "-" + queue[0]
    while queue:
        word = queue.pop(0)
        if word == "-C" or word == "--directory":
            directory = queue.pop(0) if queue else "."
        elif word.startswith("--"):
            continue
        elif word.startswith("-") and len(word) > 1:
            flags += word[1:]
            if "f" in word and queue:
                archive = queue.pop(0)
        else:
            names.append(word)
    return flags, archive, directory, names


def _create(process: Process, cwd: str, names: list[str]) -> bytes:
    buffer = io.BytesIO()
    total = 0
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as bundle:
        for name in names:
            root = process.fs.resolve(name, cwd)
            for path, node in process.fs.walk(root):
                info = tarfile.TarInfo((name.rstrip("/") + path[len(root) :]).lstrip("/"))
                info.mtime = int(node.mtime.timestamp()) if node.mtime else 0
                total += size_of(node)
                if total > ARCHIVE_BYTES_MAX:
                    raise UsageError("too much data", 1)
                if isinstance(node, Dir):
                    info.type, info.mode = tarfile.DIRTYPE, node.mode
                    bundle.addfile(info)
                elif isinstance(node, Link):
                    info.type, info.linkname = tarfile.SYMTYPE, node.target
                    bundle.addfile(info)
                else:
                    data = node.read()
                    info.size, info.mode = len(data), node.mode
                    bundle.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _extract(process: Process, cwd: str, bundle: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    path = process.fs.resolve(member.name.lstrip("/"), cwd)
    now = process.machine.clock.now()
    if member.isdir():
        process.fs.mkdir(path, parents=True, now=now)
        return
    process.fs.mkdir(posixpath.dirname(path), parents=True, now=now)
    if member.issym():
        if process.fs.exists(path, follow=False):
            process.fs.remove(path)
        process.fs.symlink(member.linkname, path, now)
    elif (source := bundle.extractfile(member)) is not None:
        process.fs.write(path, source.read(), now=now, mode=member.mode)


async def gzip_program(process: Process, args: list[str]) -> int:
    data = await process.read_input()
    await process.stdout.write(gzip.decompress(data) if "-d" in args else gzip.compress(data))
    return 0


PROGRAMS: dict[str, Program] = {"tar": tar, "gzip": gzip_program}
