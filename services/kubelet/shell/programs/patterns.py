"""Programs that work with regular expressions: grep, sed, awk, in the forms that scripts of containers use."""

from __future__ import annotations

import re
from collections.abc import Callable

from ..process import Process, Program, UsageError, split_options
from .files import read_file
from .text import inputs, lines_of, text_of, unescape


async def grep(process: Process, args: list[str]) -> int:
    options, rest = split_options(args, "ivnclqEFowhHrsxP", "emABC")
    pattern = options.get("e") or (rest.pop(0) if rest else None)
    if pattern is None:
        raise UsageError("usage: grep [-ivnclqEFow] PATTERN [FILE]...")
    if "F" in options:
        pattern = re.escape(pattern)
    elif "E" not in options and "P" not in options:
        pattern = _basic_to_extended(pattern)
    if "w" in options:
        pattern = rf"\b(?:{pattern})\b"
    if "x" in options:
        pattern = rf"^(?:{pattern})$"
    try:
        regex = re.compile(_posix_classes(pattern), re.IGNORECASE if "i" in options else 0)
    except re.error as failure:
        raise UsageError(f"bad regex '{pattern}': {failure}") from failure
    return await _grep(process, options, regex, rest)


async def _grep(process: Process, options: dict[str, str], regex: re.Pattern[str], names: list[str]) -> int:
    found = 0
    limit = int(options.get("m") or 0)
    for name, data in await inputs(process, names):
        count = 0
        for number, line in enumerate(lines_of(data), 1):
            hit = regex.search(line)
            if bool(hit) == ("v" in options):
                continue
            count += 1
            if not {"c", "l", "q"} & set(options):
                head = (f"{name}:" if len(names) > 1 and "h" not in options else "") + (f"{number}:" if "n" in options else "")
                shown = "\n".join(head + m[0] for m in regex.finditer(line)) if "o" in options else head + line
                await process.out(shown + "\n")
            if limit and count >= limit:
                break
        found += count
        if "c" in options:
            await process.out((f"{name}:" if len(names) > 1 else "") + f"{count}\n")
        elif "l" in options and count:
            await process.out(f"{name}\n")
    return 0 if found else 1


def _basic_to_extended(pattern: str) -> str:
    """In basic expressions `\\+ \\? \\| \\( \\)` are operators and the bare characters are literal."""
    return re.sub(r"\\([+?|(){}])|([+?|(){}])", lambda m: m[1] if m[1] else "\\" + m[2], pattern)


def _posix_classes(pattern: str) -> str:
    classes = {
        "alpha": "a-zA-Z",
        "digit": "0-9",
        "alnum": "a-zA-Z0-9",
        "space": r"\s",
        "upper": "A-Z",
        "lower": "a-z",
        "punct": r"!-/:-@\[-`{-~",
    }
    return re.sub(r"\[:(\w+):\]", lambda m: classes.get(m[1], m[0]), pattern)


async def sed(process: Process, args: list[str]) -> int:
    """s///[gip], d, p, q with line numbers, $ or /regex/ as addresses; -n, -e, -i, -E."""
    options, rest = split_options(args, "nirE", "e")
    script = options.get("e") or (rest.pop(0) if rest else "")
    commands = [_sed_command(part.strip(), extended="E" in options or "r" in options) for part in _sed_split(script)]
    for name in rest or ["-"]:
        data = await process.read_input() if name == "-" else read_file(process, name)
        text = _sed_apply(lines_of(data), commands, quiet="n" in options)
        if "i" in options and name != "-":
            process.fs.write(process.path(name), text.encode(errors="surrogateescape"), now=process.machine.clock.now())
        else:
            await process.out(text)
    return 0


SED_COMMAND = re.compile(r"(?:(\d+|\$)(?:,(\d+|\$))?|/((?:[^/\\]|\\.)*)/)?\s*(!?)([sdpqy])(.*)", re.DOTALL)
SedCommand = tuple[Callable[[int, int, str], bool], str, tuple[re.Pattern[str], str, str] | None]


def _sed_split(script: str) -> list[str]:
    return [part for part in re.split(r";(?=\s*(?:[\d$/]|[dpqs]))|\n", script) if part.strip()]


def _sed_command(text: str, *, extended: bool) -> SedCommand:
    found = SED_COMMAND.fullmatch(text)
    if found is None:
        raise UsageError(f"unsupported command {text!r}", 1)
    first, last, regex, negated, kind, rest = found.groups()

    def translate(pattern: str) -> str:
        return pattern if extended else _basic_to_extended(pattern)

    def applies(number: int, total: int, line: str) -> bool:
        if regex is not None:
            hit = re.search(_posix_classes(translate(regex)), line) is not None
        elif first is not None:
            low = total if first == "$" else int(first)
            high = low if last is None else (total if last == "$" else int(last))
            hit = low <= number <= high
        else:
            hit = True
        return hit != (negated == "!")

    if kind != "s":
        return applies, kind, None
    if not rest:
        raise UsageError(f"bad option in substitution {text!r}", 1)
    parts = re.split(rf"(?<!\\){re.escape(rest[0])}", rest[1:])
    if len(parts) != 3:
        raise UsageError(f"unmatched '{rest[0]}'", 1)
    pattern, replacement, flags = parts
    compiled = re.compile(_posix_classes(translate(pattern.replace("\\" + rest[0], rest[0]))), re.IGNORECASE if "i" in flags.lower() else 0)
    replacement = re.sub(r"(?<!\\)&", r"\\g<0>", replacement).replace("\\&", "&").replace("\\" + rest[0], rest[0])
    return applies, "s", (compiled, replacement, flags)


def _sed_apply(lines: list[str], commands: list[SedCommand], *, quiet: bool) -> str:
    out: list[str] = []
    for number, original in enumerate(lines, 1):
        line, keep, last = original, not quiet, False
        for applies, kind, substitution in commands:
            if not applies(number, len(lines), line):
                continue
            if kind == "d":
                keep = False
                break
            if kind == "p":
                out.append(line)
            elif kind == "q":
                last = True
                break
            elif substitution is not None:
                pattern, replacement, flags = substitution
                line, count = pattern.subn(replacement, line, count=0 if "g" in flags else 1)
                if count and "p" in flags:
                    out.append(line)
        if keep:
            out.append(line)
        if last:
            break
    return "".join(line + "\n" for line in out)


async def awk(process: Process, args: list[str]) -> int:
    """The most common form only: awk [-F sep] '[/regex/] {print $1, $NF, "text"}'."""
    options, rest = split_options(args, "", "Fv")
    found = re.fullmatch(r"\s*(?:/((?:[^/\\]|\\.)*)/)?\s*(?:\{\s*print\s*(.*?);?\s*\})?\s*", rest[0]) if rest else None
    if found is None:
        raise UsageError("only [/regex/] {print …} is supported")
    regex, fields = re.compile(found[1] or ""), [field.strip() for field in (found[2] or "$0").split(",")]
    for line in await text_of(process, rest[1:]):
        if regex.search(line):
            parts = line.split(options["F"]) if options.get("F") else line.split()
            await process.out(" ".join(_awk_field(field, line, parts) for field in fields) + "\n")
    return 0


def _awk_field(field: str, line: str, parts: list[str]) -> str:
    if field.startswith('"'):
        return unescape(field.strip('"'))
    if field == "$NF":
        return parts[-1] if parts else ""
    if field == "NF":
        return str(len(parts))
    index = int(field[1:]) if re.fullmatch(r"\$\d+", field) else -1
    if index == 0:
        return line
    return parts[index - 1] if 0 < index <= len(parts) else ""


PROGRAMS: dict[str, Program] = {
    "grep": grep, "egrep": lambda process, args: grep(process, ["-E", *args]), "fgrep": lambda process, args: grep(process, ["-F", *args]),
    "sed": sed, "awk": awk,
}  # fmt: skip
