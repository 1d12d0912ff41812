"""The programs of the toolbox by name. Modules by theme; each exports `PROGRAMS`."""

from __future__ import annotations

from functools import partial

from ..process import Program
from ..repl import shell_program
from . import archive, dates, files, network, patterns, system, terminals, text

SHELLS = ("sh", "bash", "ash", "dash", "zsh")


def _wrapped() -> dict[str, Program]:
    programs: dict[str, Program] = {}
    for module in (files, text, patterns, system, dates, terminals, network, archive):
        programs |= module.PROGRAMS
    for name in SHELLS:
        programs[name] = partial(shell_program, programs, name=name)
    for name in system.RUNNERS:
        programs[name] = partial(system.run_through, programs, name)
    programs["xargs"] = partial(text.xargs, programs)
    programs["find"] = partial(files.find, programs)
    return programs


PROGRAMS = _wrapped()


def has_program(name: str) -> bool:
    return name in PROGRAMS
