"""Finds and runs what a command names: a program of the toolbox, a script file of the container, or something the toolbox lacks."""

from __future__ import annotations

import contextlib

from ..cri.streams import BrokenStream
from .process import CODE_BROKEN_PIPE, Process, Program, UsageError, describe


async def run_program(programs: dict[str, Program], words: list[str], process: Process) -> int:
    """Run a program of the toolbox, a script file of the container, or what the machine says of unknown ones."""
    name, args = words[0], words[1:]
    base = name.rsplit("/", 1)[-1]
    script = _script_file(process, name)
    program = programs.get(base) if script is None else None
    try:
        if program is not None:
            return await program(process, args)
        if script is not None:
            return await programs["sh"](process, [name, *args])
        return await process.machine.unknown(process, words)
    except UsageError as failure:
        await process.complain(f"{base}: {failure}")
        return failure.code
    except OSError as failure:
        await process.complain(f"{base}: {describe(failure)}")
        return 1
    except BrokenStream:
        return CODE_BROKEN_PIPE


def _script_file(process: Process, name: str) -> str | None:
    """The text of a script that is called by its path; None if there is no such file."""
    if "/" not in name:
        return None
    path = process.path(name)
    with contextlib.suppress(OSError):
        data = process.fs.read(path)
        if data:
            return data.decode(errors="surrogateescape")
    return None
