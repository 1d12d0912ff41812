"""`kubecosm logs`: the components' JSON lines, readable in a terminal, merged by time when several are asked for."""

from __future__ import annotations

import heapq
import json
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from kubecosm.cluster import spec as specs
from kubecosm.cluster.paths import ClusterPaths, cluster_paths
from kubecosm.runtime.errors import StartupError, startup

FOLLOW_SECONDS = 0.2
COLORS = {"debug": "2", "info": "32", "warning": "33", "error": "31"}
LEADING_KEYS = ("ts", "level", "component", "event", "exception")


def logs(name: str, component: str | None, *, follow: bool, tail: int | None, raw: bool) -> None:
    """Prints the logs of one component or of all. StartupError if there is none."""
    paths = cluster_paths(name)
    files = _files(paths, name, component)
    pretty = sys.stdout.isatty() and not raw
    with startup(f"read the logs in {paths.logs}"):
        opened = [open(path, encoding="utf-8", errors="replace") for path in files]  # noqa: SIM115  closed below, after following
    try:
        lines: Iterable[str] = heapq.merge(*opened, key=_time_of) if len(opened) > 1 else opened[0]
        if tail is not None:
            lines = deque(lines, maxlen=tail)
        for line in lines:
            _print(line, pretty=pretty)
        if follow:
            for line in _follow(opened):
                _print(line, pretty=pretty)
    except KeyboardInterrupt:
        return
    finally:
        for file in opened:
            file.close()


def _files(paths: ClusterPaths, name: str, component: str | None) -> list[Path]:
    known = (*specs.COMPONENTS, "supervisor")
    if component is not None and component not in known:
        raise StartupError(f"unknown component {component!r}: choose from {', '.join(known)}")
    found = [path for wanted in ([component] if component else known) if (path := paths.log_of(wanted)).exists()]
    if not found:
        raise StartupError(f"there is no log of {component or 'any component'} in cluster {name}: has it been started?")
    return found


def _follow(files: Sequence[TextIO]) -> Iterator[str]:
    """New lines as they come. Looks five times a second, as tail -f does: files cannot be waited for portably."""
    import threading

    never = threading.Event()
    parts = [""] * len(files)
    while True:
        seen = False
        for index, file in enumerate(files):
            while chunk := file.readline():
                seen = True
                parts[index] += chunk
                if chunk.endswith("\n"):
                    yield parts[index]
                    parts[index] = ""
        if not seen:
            sys.stdout.flush()
            never.wait(FOLLOW_SECONDS)


def _time_of(line: str) -> str:
    """The text after `"ts":"`, which sorts by time; a line of another form keeps its place."""
    _before, _key, rest = line[:40].partition('"ts":')
    return rest.strip(' "')[:27]


def _print(line: str, *, pretty: bool) -> None:
    print(_readable(line.rstrip("\n")) if pretty else line.rstrip("\n"))


def _readable(line: str) -> str:
    """`02:01:38.074 info apiserver serving port=6443` in colours; a line that is no JSON object stays as it is."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    if not isinstance(entry, dict):
        return line
    level = str(entry.get("level", ""))
    extra = " ".join(f"\033[36m{key}\033[0m={_value(value)}" for key, value in entry.items() if key not in LEADING_KEYS)
    text = f"{str(entry.get('ts', ''))[11:23]} \033[{COLORS.get(level, '0')}m{level:7}\033[0m {entry.get('component', ''):10} "
    text += f"\033[1m{entry.get('event', '')}\033[0m {extra}"
    return text + (f"\n{entry['exception']}" if entry.get("exception") else "")


def _value(value: object) -> str:
    return value if isinstance(value, str) and " " not in value else json.dumps(value)
