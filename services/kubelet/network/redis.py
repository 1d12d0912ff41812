"""A small in-memory Redis: the RESP2 protocol and the commands that demo applications use.

Leaves out: persistence, pub/sub, expiry, scripts.
"""

from __future__ import annotations

from collections.abc import Callable

ARGUMENTS_MAX = 1024
VALUE_BYTES_MAX = 1024 * 1024

Reply = bytes
Data = dict[str, object]


def simple(text: str) -> Reply:
    return f"+{text}\r\n".encode()


def error(text: str) -> Reply:
    return f"-{text}\r\n".encode()


def integer(value: int) -> Reply:
    return f":{value}\r\n".encode()


def bulk(value: bytes | None) -> Reply:
    return b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value)


def array(values: list[bytes]) -> Reply:
    return b"*%d\r\n" % len(values) + b"".join(bulk(value) for value in values)


class ProtocolError(ValueError):
    """The client's bytes are no RESP command."""


def take_command(buffer: bytearray) -> list[bytes] | None:
    """Remove one command (array or inline) from the buffer; None until it is whole."""
    end = buffer.find(b"\r\n")
    if end < 0:
        if len(buffer) > VALUE_BYTES_MAX:
            raise ProtocolError("too big inline request")
        return None
    if buffer[:1] != b"*":
        words = bytes(buffer[:end]).split()
        del buffer[: end + 2]
        return words
    count = _number(buffer[1:end], ARGUMENTS_MAX)
    words, position = [], end + 2
    for _ in range(count):
        end = buffer.find(b"\r\n", position)
        if end < 0:
            return None
        if buffer[position : position + 1] != b"$":
            raise ProtocolError("expected '$'")
        size = _number(buffer[position + 1 : end], VALUE_BYTES_MAX)
        if len(buffer) < end + 2 + size + 2:
            return None
        words.append(bytes(buffer[end + 2 : end + 2 + size]))
        position = end + 2 + size + 2
    del buffer[:position]
    return words


def _number(digits: bytearray, maximum: int) -> int:
    try:
        value = int(digits)
    except ValueError as failure:
        raise ProtocolError("invalid length") from failure
    if not 0 <= value <= maximum:
        raise ProtocolError("invalid length")
    return value


def execute(data: Data, command: list[bytes]) -> Reply:
    """Run one command against the data; wrong use gives Redis' own errors."""
    name = command[0].decode(errors="replace").upper()
    entry = COMMANDS.get(name)
    if entry is None:
        return error(f"ERR unknown command '{command[0].decode(errors='replace')}', with args beginning with: ")
    least, run = entry
    if len(command) - 1 < least:
        return error(f"ERR wrong number of arguments for '{name.lower()}' command")
    try:
        return run(data, command[1:])
    except TypeError:
        return error("WRONGTYPE Operation against a key holding the wrong kind of value")
    except ValueError:
        return error("ERR value is not an integer or out of range")


def _string(data: Data, key: bytes) -> bytes | None:
    value = data.get(key.decode(errors="replace"))
    if value is not None and not isinstance(value, bytes):
        raise TypeError
    return value


def _list(data: Data, key: bytes) -> list[bytes]:
    value = data.setdefault(key.decode(errors="replace"), [])
    if not isinstance(value, list):
        raise TypeError
    return value


def _hash(data: Data, key: bytes) -> dict[bytes, bytes]:
    value = data.setdefault(key.decode(errors="replace"), {})
    if not isinstance(value, dict):
        raise TypeError
    return value


def _set(data: Data, args: list[bytes]) -> Reply:
    data[args[0].decode(errors="replace")] = args[1]
    return simple("OK")


def _increment(data: Data, key: bytes, by: int) -> Reply:
    value = int(_string(data, key) or b"0") + by
    data[key.decode(errors="replace")] = str(value).encode()
    return integer(value)


def _append(data: Data, args: list[bytes]) -> Reply:
    value = (_string(data, args[0]) or b"") + args[1]
    data[args[0].decode(errors="replace")] = value
    return integer(len(value))


def _delete(data: Data, args: list[bytes]) -> Reply:
    return integer(sum(data.pop(key.decode(errors="replace"), None) is not None for key in args))


def _push(data: Data, args: list[bytes], *, front: bool) -> Reply:
    values = _list(data, args[0])
    for value in args[1:]:
        values.insert(0 if front else len(values), value)
    return integer(len(values))


def _range(data: Data, args: list[bytes]) -> Reply:
    values = _list(data, args[0])
    start, stop = int(args[1]), int(args[2])
    start = max(0, start + len(values)) if start < 0 else start
    stop = stop + len(values) if stop < 0 else stop
    return array(values[start : stop + 1])


def _hset(data: Data, args: list[bytes]) -> Reply:
    fields = _hash(data, args[0])
    before = len(fields)
    for name, value in zip(args[1::2], args[2::2], strict=False):
        fields[name] = value
    return integer(len(fields) - before)


def _hgetall(data: Data, args: list[bytes]) -> Reply:
    return array([part for pair in _hash(data, args[0]).items() for part in pair])


def _info(data: Data, args: list[bytes]) -> Reply:
    lines = (
        "# Server",
        "redis_version:7.2.0",
        "redis_mode:standalone",
        "# Replication",
        "role:master",
        "# Keyspace",
        f"db0:keys={len(data)}",
        "",
    )
    return bulk("\r\n".join(lines).encode())


def _flush(data: Data, args: list[bytes]) -> Reply:
    data.clear()
    return simple("OK")


def _ok(data: Data, args: list[bytes]) -> Reply:
    return simple("OK")


COMMANDS: dict[str, tuple[int, Callable[[Data, list[bytes]], Reply]]] = {
    "PING": (0, lambda data, args: bulk(args[0]) if args else simple("PONG")),
    "ECHO": (1, lambda data, args: bulk(args[0])),
    "SET": (2, _set),
    "GET": (1, lambda data, args: bulk(_string(data, args[0]))),
    "APPEND": (2, _append),
    "DEL": (1, _delete),
    "EXISTS": (1, lambda data, args: integer(sum(key.decode(errors="replace") in data for key in args))),
    "INCR": (1, lambda data, args: _increment(data, args[0], 1)),
    "DECR": (1, lambda data, args: _increment(data, args[0], -1)),
    "INCRBY": (2, lambda data, args: _increment(data, args[0], int(args[1]))),
    "LPUSH": (2, lambda data, args: _push(data, args, front=True)),
    "RPUSH": (2, lambda data, args: _push(data, args, front=False)),
    "LRANGE": (3, _range),
    "LLEN": (1, lambda data, args: integer(len(_list(data, args[0])))),
    "HSET": (3, _hset),
    "HGET": (2, lambda data, args: bulk(_hash(data, args[0]).get(args[1]))),
    "HGETALL": (1, _hgetall),
    "KEYS": (1, lambda data, args: array([key.encode() for key in data])),
    "DBSIZE": (0, lambda data, args: integer(len(data))),
    "FLUSHALL": (0, _flush),
    "FLUSHDB": (0, _flush),
    "INFO": (0, _info),
    "COMMAND": (0, lambda data, args: array([])),
    "CONFIG": (1, lambda data, args: array([])),
    "SELECT": (1, _ok),
    "AUTH": (1, _ok),
    "CLIENT": (1, _ok),
    "QUIT": (0, _ok),
}
"""Least number of arguments, and what runs."""
