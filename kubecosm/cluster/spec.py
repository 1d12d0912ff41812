"""cluster.json: what a cluster is, kept between starts. Everything else is derived from it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from kubecosm.cluster.slots import Slots
from kubecosm.runtime.errors import StartupError, startup

VERSION = 1
COMPONENTS = ("apiserver", "scheduler", "controller", "kubelet", "proxy")
NODES_MAX = 16_384
DEFAULT_NODES = 1
NODE_NAME_PREFIX = "node-"

FILE_FLAGS = frozenset({"config", "kubeconfig", "authentication-config", "authorization-config", "encryption-provider-config"})
FILE_FLAG_ENDS = ("file", "path", "dir", "profiles", "authority", "certificate", "client-key")


@dataclass(frozen=True)
class ClusterSpec:
    """One cluster. `flags` are the user's (`--set component.flag=value`): component → flag → value."""

    name: str
    port: int
    slots: Slots
    nodes: int = DEFAULT_NODES
    components: tuple[str, ...] = COMPONENTS
    flags: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    ephemeral: bool = False

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def expected_nodes(self) -> int:
        """How many Node objects the cluster's own kubelet will register."""
        return self.nodes if "kubelet" in self.components else 0


def load(path: Path) -> ClusterSpec | None:
    """The spec in `path`, None if there is no such file. StartupError if it cannot be understood."""
    try:
        with startup(f"read {path}"):
            raw = json.loads(path.read_bytes())
        if raw.pop("version") != VERSION:
            raise ValueError("written by another version of kubecosm")
        return ClusterSpec(**(raw | {"slots": Slots(**raw["slots"]), "components": tuple(raw["components"])}))
    except StartupError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise StartupError(f"cannot understand {path} ({error}): run `kubecosm delete`, or put the file back") from error


def save(path: Path, spec: ClusterSpec) -> None:
    """Writes the spec atomically. StartupError when the disk refuses."""
    write_atomically(path, json.dumps({"version": VERSION} | asdict(spec), indent=2).encode() + b"\n")


def write_atomically(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Writes `path`, private to the user, whole or not at all; `durable` waits for the disk. StartupError when the disk refuses."""
    new = path.with_name(path.name + ".new")
    with startup(f"write {path}"):
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(descriptor)
        new.replace(path)


def changed(spec: ClusterSpec, **changes: Any) -> ClusterSpec:
    """`spec` with the changes that are not None."""
    return replace(spec, **{name: value for name, value in changes.items() if value is not None})


def parse_flags(settings: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """`("apiserver.v=4",)` → `{"apiserver": {"v": "4"}}`, files as absolute paths; StartupError if a setting has another form."""
    flags: dict[str, dict[str, str]] = {}
    for setting in settings:
        target, equals, value = setting.partition("=")
        component, dot, flag = target.partition(".")
        if not (equals and dot and flag) or component not in COMPONENTS:
            raise StartupError(f"invalid --set {setting!r}: expected component.flag=value with a component of {', '.join(COMPONENTS)}")
        name = flag.lstrip("-").replace("_", "-")
        flags.setdefault(component, {})[name] = ",".join(map(_absolute, value.split(","))) if names_files(name) else value
    return flags


def names_files(flag: str) -> bool:
    """Whether a component's flag has paths as its value."""
    return flag in FILE_FLAGS or flag.endswith(FILE_FLAG_ENDS)


def _absolute(path: str) -> str:
    """A path as it is meant now: the cluster may be started again from another directory."""
    return os.path.abspath(path) if path not in ("", "-") else path


def parse_components(text: str) -> tuple[str, ...]:
    """`"apiserver,scheduler"` → the components in start order; StartupError if one does not exist or the apiserver is missing."""
    wanted = {part.strip() for part in text.split(",") if part.strip()}
    if unknown := wanted - set(COMPONENTS):
        raise StartupError(f"unknown component {', '.join(sorted(unknown))}: choose from {', '.join(COMPONENTS)}")
    if "apiserver" not in wanted:
        raise StartupError("a cluster needs the apiserver: add it to --components")
    return tuple(component for component in COMPONENTS if component in wanted)
