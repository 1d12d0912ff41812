"""Configuration: one frozen dataclass per program, from which flags, environment variables and `--help` are derived.

A field `secure_port: int = field(default=6443, metadata={"help": "…"})` of the program `apiserver` is read from `--secure-port N`
(or `--secure-port=N`), else from `KUBECOSM_APISERVER_SECURE_PORT`, else it keeps its default. Field types: str, int, float, bool,
Path, Duration, Literal of strings, tuple[T, ...] (comma-separated; a repeated flag adds) and `T | None`.
Left out: configuration files, flags shared between programs, abbreviations of flag names.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NewType, TypeVar

from kubecosm.runtime.errors import FlagError

Duration = NewType("Duration", float)
"""Seconds; written as Go writes durations (`1m30s`, `250ms`) or as a bare number of seconds."""

ConfigT = TypeVar("ConfigT")

DURATION_UNITS_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
TRUE_WORDS, FALSE_WORDS = {"true", "t", "1", "yes", "on"}, {"false", "f", "0", "no", "off"}
HELP_COLUMN = 40


class HelpRequested(Exception):
    """`--help` was given; the message is the help text."""


@dataclasses.dataclass(frozen=True)
class Flag:
    """One field of a configuration dataclass as the command line sees it."""

    field: str
    name: str
    kind: Any
    env: str
    help: str
    default: Any
    required: bool
    hidden: bool

    @property
    def is_bool(self) -> bool:
        return _plain(self.kind) is bool

    @property
    def is_tuple(self) -> bool:
        return typing.get_origin(_plain(self.kind)) is tuple


def parse(config_type: type[ConfigT], argv: Sequence[str], environ: Mapping[str, str], *, program: str, module: str = "") -> ConfigT:
    """The configuration of `program` from its arguments (without argv[0]) and environment. `module`: what `python -m` runs, for `--help`.

    Raises FlagError with one clear line, HelpRequested for `--help`.
    """
    return parse_all((config_type,), argv, environ, program=program, module=module)[0]  # type: ignore[no-any-return]


def parse_all(
    config_types: Sequence[type], argv: Sequence[str], environ: Mapping[str, str], *, program: str, module: str = ""
) -> tuple[Any, ...]:  # fmt: skip
    """Like `parse` for several dataclasses whose fields share one command line; answers one object each, in order."""
    by_type = [flags_of(config_type, program) for config_type in config_types]
    by_name = {flag.name: flag for flags in by_type for flag in flags}
    command = f"python -m {module or f'kubecosm.services.{program}'}"
    given = _read_arguments(by_name, argv, command, lambda: help_text(config_types, program, f"Usage: {command} [flags]"))
    return tuple(_build(config_type, flags, given, environ) for config_type, flags in zip(config_types, by_type, strict=True))


def flags_of(config_type: type, program: str) -> tuple[Flag, ...]:
    """The flags of a configuration dataclass, in field order."""
    hints = typing.get_type_hints(config_type)
    prefix = "KUBECOSM_" + re.sub(r"\W", "_", program).upper() + "_"
    return tuple(
        Flag(
            field=f.name,
            name=f.name.replace("_", "-"),
            kind=hints[f.name],
            env=prefix + f.name.upper(),
            help=f.metadata.get("help", ""),
            default=f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default,
            required=f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING,
            hidden=f.metadata.get("hidden", False),
        )
        for f in dataclasses.fields(config_type)
        if f.init
    )


def to_arguments(config: Any) -> list[str]:
    """The shortest command line that gives `config` back: what `parse` reads, without fields that have their default."""
    return [
        f"--{flag.name}={format_value(flag.kind, value)}"
        for flag in flags_of(type(config), "")
        if (value := getattr(config, flag.field)) != flag.default
    ]


def convert(kind: Any, text: str) -> Any:
    """`text` as a value of the field type `kind`; ValueError with a message that says what was expected."""
    kind = _plain(kind)
    if kind is bool:
        return _convert_bool(text)
    if kind is Duration:
        return parse_duration(text)
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            raise ValueError("expected a whole number" if kind is int else "expected a number") from None
    if typing.get_origin(kind) is tuple:
        item_kind = typing.get_args(kind)[0]
        return tuple(convert(item_kind, part.strip()) for part in text.split(",") if part.strip())
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        if text not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return text
    return kind(text)


def format_value(kind: Any, value: Any) -> str:
    """The text that `convert` reads back as `value`."""
    kind = _plain(kind)
    if value is None:
        return ""
    if kind is bool:
        return "true" if value else "false"
    if kind is Duration:
        return f"{value:.12g}s"
    if typing.get_origin(kind) is tuple:
        return ",".join(format_value(typing.get_args(kind)[0], item) for item in value)
    return str(value)


def parse_duration(text: str) -> Duration:
    """Seconds of `1m30s`, `250ms`, `0` or `2.5` (bare seconds); ValueError otherwise."""
    try:
        return Duration(float(text))
    except ValueError:
        pass
    parts = DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError("expected a duration such as 250ms, 40s or 1m30s")
    return Duration(sum(float(number) * DURATION_UNITS_SECONDS[unit] for number, unit in parts))


def help_text(config_types: Sequence[type], program: str, usage: str) -> str:
    """What `--help` prints: every visible flag with its default, meaning and environment variable."""
    doc = (config_types[0].__doc__ or "").strip().split("\n\n")[0]
    if doc.startswith(config_types[0].__name__ + "("):  # dataclasses' own docstring
        doc = ""
    flags = [flag for config_type in config_types for flag in flags_of(config_type, program) if not flag.hidden]
    lines = [usage, "", *([doc, ""] if doc else []), "Flags:"]
    for flag in sorted(flags, key=lambda f: f.name):
        left = f"  --{flag.name} {_kind_name(flag.kind)}"
        pad = " " * (HELP_COLUMN - len(left)) if len(left) <= HELP_COLUMN - 2 else "\n" + " " * HELP_COLUMN
        default = "required" if flag.required else f"default {format_value(flag.kind, flag.default)!r}"
        lines.append(f"{left}{pad}{flag.help}{' ' if flag.help else ''}({default}; env {flag.env})")
    return "\n".join(lines)


def _read_arguments(by_name: dict[str, Flag], argv: Sequence[str], command: str, help_of: Callable[[], str]) -> dict[str, str]:
    """Flag name → text as given on the command line."""
    given: dict[str, str] = {}
    arguments = iter(argv)
    for argument in arguments:
        if argument in ("--help", "-h"):
            raise HelpRequested(help_of())
        if not argument.startswith("--"):
            raise FlagError(f"unexpected argument {argument!r}: options start with --, see {command} --help")
        name, equals, text = argument[2:].partition("=")
        name = name.replace("_", "-")
        flag = by_name.get(name)
        if flag is None:
            raise FlagError(f"unknown flag --{name}{_suggest(name, by_name)}: see {command} --help")
        if not equals:
            text = "true" if flag.is_bool else next(arguments, "")
            if not text and not flag.is_bool:
                raise FlagError(f"flag --{name} needs a value ({_kind_name(flag.kind)})")
        given[name] = f"{given[name]},{text}" if flag.is_tuple and name in given else text
    return given


def _build(config_type: type, flags: Sequence[Flag], given: Mapping[str, str], environ: Mapping[str, str]) -> Any:
    values: dict[str, Any] = {}
    for flag in flags:
        text = given.get(flag.name)
        source = f"--{flag.name}"
        if text is None:
            text, source = environ.get(flag.env), flag.env
        if text is None:
            if flag.required:
                raise FlagError(f"flag --{flag.name} is required ({flag.help or _kind_name(flag.kind)}); it can also be set as {flag.env}")
            continue
        try:
            values[flag.field] = None if not text and _is_optional(flag.kind) else convert(flag.kind, text)
        except ValueError as error:
            raise FlagError(f"invalid value {text!r} for {source}: {error}") from None
    try:
        return config_type(**values)
    except ValueError as error:
        raise FlagError(f"invalid flags: {error}") from None


def _convert_bool(text: str) -> bool:
    word = text.lower()
    if word in TRUE_WORDS or word in FALSE_WORDS:
        return word in TRUE_WORDS
    raise ValueError("expected true or false")


def _is_optional(kind: Any) -> bool:
    return typing.get_origin(kind) in (typing.Union, types.UnionType) and type(None) in typing.get_args(kind)


def _plain(kind: Any) -> Any:
    """`T` for `T | None`, else the type itself."""
    if _is_optional(kind):
        return next(arg for arg in typing.get_args(kind) if arg is not type(None))
    return kind


def _kind_name(kind: Any) -> str:
    kind = _plain(kind)
    if kind is Path:
        return "path"
    if typing.get_origin(kind) is tuple:
        return f"{_kind_name(typing.get_args(kind)[0])},…"
    if typing.get_origin(kind) is Literal:
        return "|".join(typing.get_args(kind))
    return {str: "string", Duration: "duration"}.get(kind, getattr(kind, "__name__", str(kind)))


def _suggest(name: str, known: Mapping[str, Flag]) -> str:
    close = difflib.get_close_matches(name, [n for n, flag in known.items() if not flag.hidden], n=1)
    return f" (did you mean --{close[0]}?)" if close else ""
