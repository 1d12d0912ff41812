"""Recorded exchanges with a real API server, and how an answer of ours is compared with the recorded one.

A recording is a gzip file with one JSON object a line: `id, doc, ns, op, method, path, headers, body, status, response`. What differs
from run to run is masked in it: `<uid>`, `<rv>`, `<time>`, `<age>`, `<ip>`, `<port>`, `<rand>`. `masked` does the same to an answer of
ours. Pure: sends nothing.
"""

from __future__ import annotations

import gzip
import ipaddress
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ABSENT = "<absent>"
TIME_IN_TEXT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")
UID_IN_TEXT = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
VOLUME_IN_TEXT = re.compile(r"kube-api-access-[a-z0-9]{5}")
SERVICE_ADDRESS_IN_TEXT = re.compile(r"\b10\.96\.\d+\.\d+\b")
PORTS_CELL = re.compile(r"(?<=:)3[0-2]\d{3}(?=/(?:TCP|UDP|SCTP))")
AGE_CELL = re.compile(r"\d+s")

SERVICE_RANGE = "10.96.0.0/16"
"""Where the recorded server took Service addresses from; the server under test must do the same, or messages name another range."""


@dataclass(frozen=True)
class Exchange:
    """One request of a recording with the answer it got."""

    document: str
    namespace: str
    operation: str
    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None
    status: int
    response: Any

    @property
    def kind_of_operation(self) -> str:
        """The operation without what it was done to (`mutant-delete:spec.x` → `mutant-delete`)."""
        return self.operation.partition(":")[0]

    @classmethod
    def parse(cls, line: str) -> Exchange:
        record = json.loads(line)
        body = record["body"]
        encoded = None if body is None else (body if isinstance(body, str) else json.dumps(body)).encode()
        return cls(
            record["doc"], record["ns"], record["op"], record["method"], record["path"], record["headers"] or {}, encoded,
            record["status"], record["response"],
        )  # fmt: skip


def read(recording: Path) -> Iterator[Exchange]:
    with gzip.open(recording, "rt", encoding="utf-8") as lines:
        yield from (Exchange.parse(line) for line in lines)


def decoded(body: bytes) -> Any:
    """What a recording holds of a body: JSON, or the beginning of a text."""
    try:
        return json.loads(body)
    except ValueError:
        return {"text": body.decode("utf-8", "replace")[:2000]}


def masked(value: Any, key: str = "") -> Any:
    """A copy in which everything that may differ from run to run has its mask. `key` is the name of the field the value stands in."""
    if isinstance(value, dict):
        return {_masked_text(name): masked(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        if key == "cells":
            return [_masked_cell(cell) for cell in value]
        return [masked(inner, key) for inner in value]
    if key == "uid" and isinstance(value, str):
        return "<uid>"
    if key == "resourceVersion" and isinstance(value, str) and value.isdigit():
        return "<rv>"
    if key in ("nodePort", "healthCheckNodePort") and isinstance(value, int) and not isinstance(value, bool):
        return "<port>"
    if key in ("ip", "clusterIP", "clusterIPs") and isinstance(value, str) and _is_address(value):
        return "<ip>"
    return _masked_text(value) if isinstance(value, str) else value


def _is_address(text: str) -> bool:
    try:
        return isinstance(ipaddress.ip_address(text), ipaddress.IPv4Address)
    except ValueError:
        return False


def _masked_text(text: str) -> str:
    text = TIME_IN_TEXT.sub("<time>", UID_IN_TEXT.sub("<uid>", text))
    return SERVICE_ADDRESS_IN_TEXT.sub("<ip>", VOLUME_IN_TEXT.sub("kube-api-access-<rand>", text))


def _masked_cell(cell: Any) -> Any:
    """Tables show ages and allocated node ports as text, which a recording leaves as it was."""
    if not isinstance(cell, str):
        return masked(cell)
    return "<age>" if AGE_CELL.fullmatch(cell) else PORTS_CELL.sub("<port>", _masked_text(cell))


def differences(want: Any, got: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(path, wanted, got) of every place in which two answers differ."""
    if type(want) is not type(got):
        yield path, want, got
    elif isinstance(want, dict):
        for name in sorted(want.keys() | got.keys()):
            if name not in want or name not in got:
                yield f"{path}.{name}", want.get(name, ABSENT), got.get(name, ABSENT)
            else:
                yield from differences(want[name], got[name], f"{path}.{name}")
    elif isinstance(want, list):
        if len(want) != len(got):
            yield f"{path}[len]", len(want), len(got)
        for index, (mine, theirs) in enumerate(zip(want, got, strict=False)):
            yield from differences(mine, theirs, f"{path}[{index}]")
    elif want != got:
        yield path, want, got
