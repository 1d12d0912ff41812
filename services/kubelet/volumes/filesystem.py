"""A small file system in memory: directories, files, symbolic links, mounts by grafting. Errors are Python's own OSErrors with errno.

One tree per container; a volume is a Dir that several trees share. Leaves out: owners, hard links, permissions beyond read-only mounts.
"""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

FILE_BYTES_MAX = 64 * 1024 * 1024
"""One file; a larger one fails with ENOSPC."""
LINKS_MAX = 40


@dataclass(slots=True)
class File:
    """`source` gives the content of a file that is computed when read."""

    data: bytes = b""
    mode: int = 0o644
    mtime: datetime | None = None
    source: Callable[[], bytes] | None = None

    def read(self) -> bytes:
        return self.source() if self.source is not None else self.data


@dataclass(slots=True)
class Link:
    target: str
    mtime: datetime | None = None


@dataclass(slots=True)
class Dir:
    entries: dict[str, Node] = field(default_factory=dict)
    mode: int = 0o755
    mtime: datetime | None = None
    read_only: bool = False


Node = File | Dir | Link


@dataclass(slots=True)
class Mount(Dir):
    """A directory that shows a volume (or a part of one) with its own read-only flag; entries are the volume's."""


def error(number: int, path: str) -> OSError:
    """The OSError subclass for an errno, worded as libc does."""
    return OSError(number, os.strerror(number), path)


class FileSystem:
    """Paths are absolute; `resolve` makes them so."""

    def __init__(self, root: Dir | None = None) -> None:
        self.root = root or Dir()

    @staticmethod
    def resolve(path: str, cwd: str = "/") -> str:
        joined = posixpath.normpath(posixpath.join(cwd, path))
        return joined[1:] if joined.startswith("//") else joined

    def _walk(self, path: str, *, follow_last: bool = True, links: int = 0) -> tuple[Node, bool]:
        """The node at a path and whether it lies on a read-only mount."""
        node: Node = self.root
        read_only = self.root.read_only
        walked = ""
        names = [name for name in path.split("/") if name]
        for index, name in enumerate(names):
            if not isinstance(node, Dir):
                raise error(errno.ENOTDIR, path)
            child = node.entries.get(name)
            if child is None:
                raise error(errno.ENOENT, path)
            if isinstance(child, Link) and (follow_last or index < len(names) - 1):
                if links >= LINKS_MAX:
                    raise error(errno.ELOOP, path)
                target = self.resolve(child.target, walked or "/")
                rest = "/".join(names[index + 1 :])
                return self._walk(f"{target}/{rest}" if rest else target, follow_last=follow_last, links=links + 1)
            node = child
            walked += "/" + name
            read_only = read_only or (isinstance(node, Dir) and node.read_only)
        return node, read_only

    def node(self, path: str, *, follow: bool = True) -> Node:
        return self._walk(path, follow_last=follow)[0]

    def exists(self, path: str, *, follow: bool = True) -> bool:
        try:
            self._walk(path, follow_last=follow)
        except OSError:
            return False
        return True

    def is_dir(self, path: str) -> bool:
        return self.exists(path) and isinstance(self.node(path), Dir)

    def directory(self, path: str) -> Dir:
        node = self.node(path)
        if not isinstance(node, Dir):
            raise error(errno.ENOTDIR, path)
        return node

    def read(self, path: str) -> bytes:
        node = self.node(path)
        if isinstance(node, Dir):
            raise error(errno.EISDIR, path)
        assert isinstance(node, File)
        return node.read()

    def names(self, path: str) -> list[str]:
        return sorted(self.directory(path).entries)

    def _parent(self, path: str) -> tuple[Dir, str]:
        """The writable directory that holds the path's last name."""
        head, name = posixpath.split(path)
        node, read_only = self._walk(head)
        if not isinstance(node, Dir):
            raise error(errno.ENOTDIR, path)
        if read_only:
            raise error(errno.EROFS, path)
        if not name:
            raise error(errno.EISDIR, path)
        return node, name

    def write(self, path: str, data: bytes, *, append: bool = False, now: datetime | None = None, mode: int | None = None) -> None:
        """Create or replace (or extend) a file."""
        parent, name = self._parent(path)
        current = parent.entries.get(name)
        if isinstance(current, Link):
            self.write(self.resolve(current.target, posixpath.dirname(path)), data, append=append, now=now, mode=mode)
            return
        if isinstance(current, Dir):
            raise error(errno.EISDIR, path)
        if current is None:
            current = parent.entries[name] = File()
        size = len(data) + (len(current.data) if append else 0)
        if size > FILE_BYTES_MAX:
            raise error(errno.ENOSPC, path)
        current.data = current.read() + data if append else data
        current.source = None
        current.mtime = now
        if mode is not None:
            current.mode = mode

    def mkdir(self, path: str, *, parents: bool = False, now: datetime | None = None) -> None:
        if self.exists(path):
            if parents and self.is_dir(path):
                return
            raise error(errno.EEXIST, path)
        if parents and posixpath.dirname(path) != path:
            self.mkdir(posixpath.dirname(path), parents=True, now=now)
        parent, name = self._parent(path)
        parent.entries[name] = Dir(mtime=now)

    def symlink(self, target: str, path: str, now: datetime | None = None) -> None:
        parent, name = self._parent(path)
        if name in parent.entries:
            raise error(errno.EEXIST, path)
        parent.entries[name] = Link(target, now)

    def remove(self, path: str, *, recursive: bool = False, directory: bool = False) -> None:
        """Remove a file, an empty directory (`directory`), or a whole tree (`recursive`)."""
        parent, name = self._parent(path)
        node = parent.entries.get(name)
        if node is None:
            raise error(errno.ENOENT, path)
        if isinstance(node, Dir):
            if node.read_only:
                raise error(errno.EBUSY, path)
            if not recursive and not directory:
                raise error(errno.EISDIR, path)
            if node.entries and not recursive:
                raise error(errno.ENOTEMPTY, path)
        elif directory and not recursive:
            raise error(errno.ENOTDIR, path)
        del parent.entries[name]

    def rename(self, source: str, target: str) -> None:
        old_parent, old_name = self._parent(source)
        node = old_parent.entries.get(old_name)
        if node is None:
            raise error(errno.ENOENT, source)
        if target == source or target.startswith(source + "/"):
            raise error(errno.EINVAL, target)
        new_parent, new_name = self._parent(target)
        del old_parent.entries[old_name]
        new_parent.entries[new_name] = node

    def graft(self, path: str, node: Node) -> None:
        """Mount: put a node at a path, making the directories above it, whatever was there."""
        current = self.root
        *heads, name = [part for part in path.split("/") if part] or [""]
        for part in heads:
            child = current.entries.get(part)
            if not isinstance(child, Dir):
                child = current.entries[part] = Dir()
            current = child
        current.entries[name] = node

    def walk(self, path: str) -> Iterator[tuple[str, Node]]:
        """The path and everything below it, parents first, by name; links are not followed."""
        node = self.node(path, follow=False)
        yield path, node
        if isinstance(node, Dir):
            for name in sorted(node.entries):
                yield from self.walk(posixpath.join(path, name))


def mounted(node: Node, *, read_only: bool) -> Node:
    """The node as a mount shows it: a directory shares its entries with the volume but has its own flag."""
    if not isinstance(node, Dir):
        return node
    return Mount(entries=node.entries, mode=node.mode, mtime=node.mtime, read_only=read_only or node.read_only)
