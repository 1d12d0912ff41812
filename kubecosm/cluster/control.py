"""The supervisor's control socket: JSON objects, one a line.

A request `{"op": "status"}` is answered by one object with `"ok": true`, or `"ok": false` and an `error` line; `watch` answers with a
status now and after every change until the client leaves. `Client` is synchronous: the command line has nothing else to do meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from kubecosm.runtime.errors import StartupError

LINE_BYTES_MAX = 1024 * 1024
REQUEST_SECONDS_MAX = 10.0
UNIX_PATH_BYTES_MAX = 100


def encode(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The request in a line; StartupError if it is none."""
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    if not isinstance(message, dict):
        raise StartupError("a request is one JSON object on one line")
    return message


class ShortPath:
    """A name for a socket file that is short enough for a Unix address (108 bytes), however deep the file lies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._directory = -1

    def __enter__(self) -> str:
        if len(os.fsencode(self._path)) <= UNIX_PATH_BYTES_MAX:
            return str(self._path)
        self._directory = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._directory}/{self._path.name}"

    def __exit__(self, *_error: object) -> None:
        if self._directory >= 0:
            os.close(self._directory)


class Client:
    """A connection to a running supervisor."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lines = connection.makefile("rb")

    @classmethod
    def connect(cls, path: Path) -> Self | None:
        """A client of the supervisor that listens on `path`; None if there is none."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with ShortPath(path) as name:
                connection.connect(name)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            connection.close()
            return None
        return cls(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)  # ends a `read` in another thread, whose lock `close` would wait for
        self._lines.close()
        self._connection.close()

    def fileno(self) -> int:
        return self._connection.fileno()

    def send(self, op: str, **parameters: Any) -> None:
        try:
            self._connection.sendall(encode({"op": op, **parameters}))
        except OSError:
            return  # gone, or closed on our side: whoever reads the answer sees the end

    def request(self, op: str, **parameters: Any) -> dict[str, Any]:
        """Sends one request and answers its result. StartupError with the supervisor's own words when refused or gone."""
        self._connection.settimeout(REQUEST_SECONDS_MAX)
        self.send(op, **parameters)
        answer = self.read()
        if answer is None:
            raise StartupError("the cluster's supervisor went away: see `kubecosm status`")
        return answer

    def read(self) -> dict[str, Any] | None:
        """The next object, None when the supervisor is gone. StartupError for a refusal or no answer in time."""
        try:
            line = self._lines.readline(LINE_BYTES_MAX)
        except TimeoutError:
            raise StartupError(f"the cluster's supervisor did not answer in {self._connection.gettimeout():.0f} s") from None
        except ConnectionResetError:
            return None
        if not line:
            return None
        answer: dict[str, Any] = json.loads(line)
        if not answer.get("ok"):
            raise StartupError(answer.get("error") or "refused")
        return answer

    def read_within(self, seconds_max: float) -> dict[str, Any] | None:
        """Like `read`, but StartupError when nothing comes for `seconds_max`."""
        self._connection.settimeout(seconds_max)
        return self.read()

    def watch(self) -> Iterator[dict[str, Any]]:
        """The status now and after each change, until the supervisor ends."""
        self.send("watch")
        while (status := self.read()) is not None:
            yield status

    def wait_end(self, seconds_max: float) -> bool:
        """Waits until the supervisor closes the connection; False if it has not in time."""
        try:
            self._connection.settimeout(seconds_max)
            while self._lines.readline(LINE_BYTES_MAX):
                pass
        except TimeoutError:
            return False
        except (ConnectionResetError, ValueError):  # ValueError: closed on our side before
            return True
        return True
