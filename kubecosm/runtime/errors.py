"""Failures a user can mend: one clear line that says what to do, a non-zero exit code, no traceback."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EXIT_STARTUP_ERROR = 1
EXIT_CRASH = 70  # sysexits.h EX_SOFTWARE: an error nobody foresaw; the log has the details

ADVICE: dict[int, str] = {
    errno.EADDRINUSE: "the address is already in use: stop the program that holds it, or choose another port (0 takes any free one)",
    errno.EADDRNOTAVAIL: "this machine has no such address: choose a loopback address (127.0.0.0/8)",
    errno.EACCES: "permission denied: choose a port above 1023",
    errno.EPERM: "not permitted for this user",
    errno.ENOENT: "no such file or directory: check the path",
    errno.EEXIST: "a file of that name exists: choose another path",
    errno.EISDIR: "it is a directory: give the path of a file",
    errno.ENOTDIR: "part of the path is not a directory: check the path",
    errno.ENOSPC: "no space left on the device: free some space and start again; nothing written before is lost",
    errno.EDQUOT: "the disk quota is used up: free some space and start again; nothing written before is lost",
    errno.EROFS: "the file system is read-only: choose another directory",
    errno.EMFILE: "too many open files: raise the limit (ulimit -n)",
    errno.ENFILE: "the machine has too many open files",
}
"""What to tell the user for an errno; other errnos get the system's own words."""


class StartupError(Exception):
    """A start that failed for a reason the user can mend. `message` is one line: what failed, why, what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = " ".join(message.split())


class FlagError(StartupError):
    """A flag or environment variable that cannot be understood."""


def explain_os_error(error: OSError, doing: str) -> StartupError:
    """`cannot listen on 127.0.0.1:6443: the address is already in use: …`; `doing` completes "cannot …"."""
    number = error.errno or 0
    why = ADVICE.get(number) or (error.strerror or str(error)).lower()
    if number == errno.EACCES and error.filename is not None:
        why = "permission denied: choose a path that this user may use, or run as its owner"
    return StartupError(f"cannot {doing}: {why}")


@contextmanager
def startup(doing: str) -> Iterator[None]:
    """Turns an OSError of the block into a StartupError: `with startup("listen on 127.0.0.1:80"): …`."""
    try:
        yield
    except OSError as error:
        raise explain_os_error(error, doing) from error


def check_pem(flag: str, *files: str) -> None:
    """Raises StartupError unless the files (those that are named) can be read and hold PEM.

    For what is parsed only when first needed, because the library for it is large: a server should know before it serves.
    """
    for path in filter(None, files):
        with startup(f"read {flag} {path}"):
            data = Path(path).read_bytes()
        if b"-----BEGIN " not in data:
            raise StartupError(f"cannot use {flag} {path}: it is no PEM file")


def find_startup_error(error: BaseException) -> StartupError | None:
    """The StartupError that `error` is, or that a (nested) exception group holds; None if there is none.

    A kubeconfig that cannot be used is one, too.
    """
    from kubecosm.client.config import ConfigError  # only a failed start gets here

    if isinstance(error, StartupError):
        return error
    if isinstance(error, ConfigError):
        return StartupError(f"{error}: check --kubeconfig")
    if isinstance(error, BaseExceptionGroup):
        return next((found for inner in error.exceptions if (found := find_startup_error(inner))), None)
    return None


def innermost(error: BaseException) -> BaseException:
    """What really happened inside (nested) exception groups: the first error of the first group, and so on."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
