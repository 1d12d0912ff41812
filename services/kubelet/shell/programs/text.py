"""Programs on text: echo, printf, grep, sed, head, tail, wc, sort, uniq, cut, tr, seq, xargs, base64, …"""

from __future__ import annotations

import base64 as base64_codec
import hashlib
import re
from collections.abc import Callable

from ..interpreter import run_program
from ..process import Process, Program, UsageError, split_options
from .files import read_file

SEQUENCE_MAX = 1_000_000
FOLLOW_SECONDS = 1.0
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "\\": "\\", "0": "\0", "e": "\033"}
PRINTF = re.compile(r"%([-+ 0#]*)(\d+)?(?:\.(\d+))?([sdiuxXofeEgGcbq%])")


def unescape(text: str) -> str:
    return re.sub(r"\\(x[0-9a-fA-F]{1,2}|0[0-7]{1,3}|.)", _unescape_one, text)


def _unescape_one(found: re.Match[str]) -> str:
    code = found[1]
    if len(code) > 1:
        return chr(int(code[1:], 16 if code[0] == "x" else 8))
    return ESCAPES.get(code, "\\" + code)


async def echo(process: Process, args: list[str]) -> int:
    newline, escapes = "\n", False
    while args and re.fullmatch(r"-[neE]+", args[0]):
        newline = "" if "n" in args[0] else newline
        escapes = "e" in args[0]
        args = args[1:]
    text = " ".join(args)
    await process.out((unescape(text) if escapes else text) + newline)
    return 0


async def printf(process: Process, args: list[str]) -> int:
    if not args:
        raise UsageError("usage: printf format [arguments]")
    template, values = unescape(args[0]), list(args[1:])
    while True:
        text, consumed = _printf_once(template, values)
        await process.out(text)
        values = values[consumed:]
        if not values or not consumed:
            return 0


def _printf_once(template: str, values: list[str]) -> tuple[str, int]:
    """The template filled once, and how many values it took."""
    queue = list(values)

    def fill(found: re.Match[str]) -> str:
        if found[4] == "%":
            return "%"
        return _printf_one(found, queue.pop(0) if queue else "")

    text = PRINTF.sub(fill, template)
    return text, len(values) - len(queue)


def _printf_one(found: re.Match[str], value: str) -> str:
    flags, width, precision, kind = found.groups()
    spec = f"%{flags}{width or ''}{f'.{precision}' if precision is not None else ''}"
    if kind in "sbqc":
        return str((spec + "s") % (unescape(value) if kind == "b" else value[:1] if kind == "c" else value))
    try:
        number = float(value or 0) if kind in "feEgG" else int(value or "0", 0)
    except ValueError:
        number = 0
    return str((spec + kind) % number)


async def _inputs(process: Process, names: list[str]) -> list[tuple[str, bytes]]:
    if not names:
        return [("-", await process.read_input())]
    return [(name, await process.read_input() if name == "-" else read_file(process, name)) for name in names]


def _lines(data: bytes) -> list[str]:
    return data.decode(errors="surrogateescape").splitlines()


async def _text(process: Process, names: list[str]) -> list[str]:
    return [line for _, data in await _inputs(process, names) for line in _lines(data)]


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
    for name, data in await _inputs(process, names):
        count = 0
        for number, line in enumerate(_lines(data), 1):
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
        text = _sed_apply(_lines(data), commands, quiet="n" in options)
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


def _count_option(args: list[str], default: int) -> tuple[int, bool, list[str], set[str]]:
    """`-n 5`, `-n5`, `-5`, `-c 5`, `+N`; (count, by bytes, names, other flags)."""
    args = [f"-n{arg[1:]}" if re.fullmatch(r"-\d+", arg) else arg for arg in args]
    options, names = split_options(args, "fqvF", "ncs")
    text = options.get("c", options.get("n", str(default)))
    try:
        return int(text), "c" in options, names, {*options, "+"} if text.startswith("+") else set(options)
    except ValueError:
        raise UsageError(f"invalid number '{text}'", 1) from None


async def head(process: Process, args: list[str]) -> int:
    count, by_bytes, names, _ = _count_option(args, 10)
    if not names and process.stdin is not None and not by_bytes and count >= 0:
        for _ in range(count):
            line = await process.stdin.read_line()
            if not line:
                break
            await process.stdout.write(line)
        process.stdin.close_reader()
        return 0
    for _, data in await _inputs(process, names):
        await process.stdout.write(data[:count] if by_bytes else b"".join(data.splitlines(keepends=True)[:count]))
    return 0


async def tail(process: Process, args: list[str]) -> int:
    count, by_bytes, names, flags = _count_option(args, 10)
    for _, data in await _inputs(process, names):
        if by_bytes:
            await process.stdout.write(data[-abs(count) :] if count else b"")
            continue
        lines = data.splitlines(keepends=True)
        await process.stdout.write(
            b"".join(lines[max(count, 1) - 1 :] if "+" in flags else lines[len(lines) - min(abs(count), len(lines)) :])
        )
    if {"f", "F"} & flags:
        await _follow(process, names)
    return 0


async def _follow(process: Process, names: list[str]) -> None:
    """Print what is appended, until killed."""

    def size(name: str) -> int:
        return len(read_file(process, name)) if process.fs.exists(process.path(name)) else 0

    sizes = {name: size(name) for name in names}
    while True:
        await process.sleep(FOLLOW_SECONDS)
        for name, seen in sizes.items():
            if (now := size(name)) > seen:
                await process.stdout.write(read_file(process, name)[seen:])
            sizes[name] = now


async def wc(process: Process, args: list[str]) -> int:
    options, names = split_options(args, "lwcm")
    kinds = [kind for kind in "lwc" if kind in options or (kind == "c" and "m" in options)] or ["l", "w", "c"]
    totals = dict.fromkeys(kinds, 0)
    inputs = await _inputs(process, names)
    for name, data in inputs:
        counts = {"l": data.count(b"\n"), "w": len(data.split()), "c": len(data)}
        for kind in kinds:
            totals[kind] += counts[kind]
        shown = [str(counts[kind]) for kind in kinds]
        await process.out(
            (" ".join(shown) if len(kinds) == 1 else "".join(f"{n:>8}" for n in shown)) + (f" {name}" if names else "") + "\n"
        )
    if len(inputs) > 1:
        await process.out(" ".join(str(totals[kind]) for kind in kinds) + " total\n")
    return 0


async def sort(process: Process, args: list[str]) -> int:
    options, names = split_options(args, "nrufhVsb", "kt")
    lines = await _text(process, names)
    column = int(re.split(r"\D", options["k"])[0]) - 1 if options.get("k") else None

    def key(line: str) -> tuple[float, str]:
        fields = line.split(options["t"]) if options.get("t") else line.split()
        text = line if column is None else (fields[column] if column < len(fields) else "")
        if "n" not in options and "h" not in options:
            return 0.0, text
        number = re.match(r"\s*(-?\d+(?:\.\d+)?)", text)
        return (float(number[1]) if number else 0.0), text

    lines.sort(key=key, reverse="r" in options)
    if "u" in options:
        lines = list(dict.fromkeys(lines))
    await process.out("".join(line + "\n" for line in lines))
    return 0


async def uniq(process: Process, args: list[str]) -> int:
    options, names = split_options(args, "cdui")
    groups: list[list[str]] = []
    for line in await _text(process, names[:1]):
        if groups and groups[-1][0] == line:
            groups[-1].append(line)
        else:
            groups.append([line])
    for group in groups:
        if ("d" in options and len(group) < 2) or ("u" in options and len(group) > 1):
            continue
        await process.out((f"{len(group):7d} " if "c" in options else "") + group[0] + "\n")
    return 0


async def cut(process: Process, args: list[str]) -> int:
    options, names = split_options(args, "s", "dfcb")
    spec = options.get("f") or options.get("c") or options.get("b") or ""
    if not spec:
        raise UsageError("expected a list of bytes, characters, or fields", 1)
    for line in await _text(process, names):
        if "f" in options:
            delimiter = options.get("d", "\t")
            if delimiter not in line:
                shown = "" if "s" in options else line
            else:
                shown = delimiter.join(_select(line.split(delimiter), spec))
        else:
            shown = "".join(_select(list(line), spec))
        await process.out(shown + "\n")
    return 0


def _select(items: list[str], spec: str) -> list[str]:
    wanted: set[int] = set()
    for part in spec.split(","):
        low, dash, high = part.partition("-")
        start = int(low or 1)
        end = int(high or len(items)) if dash else start
        wanted |= set(range(start - 1, end))
    return [item for index, item in enumerate(items) if index in wanted]


async def tr(process: Process, args: list[str]) -> int:
    options, rest = split_options(args, "dsc")
    sets = [_character_set(text) for text in rest]
    if not sets:
        raise UsageError("missing operand", 1)
    text = (await process.read_input()).decode(errors="surrogateescape")

    def inside(char: str) -> bool:
        return (char in sets[0]) != ("c" in options)

    if "d" in options:
        text = "".join(char for char in text if not inside(char))
    elif len(sets) > 1:
        target = sets[1] + sets[1][-1:] * (len(sets[0]) - len(sets[1]))
        text = "".join((target[-1] if "c" in options else target[sets[0].index(char)]) if inside(char) else char for char in text)
    if "s" in options:
        squeezed = sets[-1]
        text = re.sub(r"(.)\1+", lambda m: str(m[1] if m[1] in squeezed else m[0]), text, flags=re.DOTALL)
    await process.out(text)
    return 0


def _character_set(text: str) -> str:
    names = {
        "[:upper:]": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        "[:lower:]": "abcdefghijklmnopqrstuvwxyz",
        "[:digit:]": "0123456789",
        "[:space:]": " \t\n\r\v\f",
    }
    for name, characters in names.items():
        text = text.replace(name, characters)
    text = unescape(text)
    return re.sub(r"(.)-(.)", lambda m: "".join(chr(c) for c in range(ord(m[1]), ord(m[2]) + 1)), text, flags=re.DOTALL)


async def seq(process: Process, args: list[str]) -> int:
    _, numbers = split_options([arg if not re.fullmatch(r"-\d.*", arg) else f"\0{arg}" for arg in args], "w", "sf")
    try:
        values = [int(number.removeprefix("\0")) for number in numbers]
    except ValueError:
        raise UsageError(f"invalid number '{numbers[0]}'", 1) from None
    if not 1 <= len(values) <= 3:
        raise UsageError("usage: seq [first [increment]] last", 1)
    first = values[0] if len(values) > 1 else 1
    step = values[1] if len(values) == 3 else 1
    last = values[-1]
    if step == 0:
        raise UsageError("increment must not be 0", 1)
    sequence = range(first, last + (1 if step > 0 else -1), step)[:SEQUENCE_MAX]
    for start in range(0, len(sequence), 1000):
        await process.out("".join(f"{number}\n" for number in sequence[start : start + 1000]))
    return 0


async def yes(process: Process, args: list[str]) -> int:
    line = (" ".join(args) or "y").encode() + b"\n"
    while True:
        await process.stdout.write(line * 64)
        await process.sleep(0.01)


async def xargs(programs: dict[str, Program], process: Process, args: list[str]) -> int:
    """xargs [-n N] [-I placeholder] [command…]."""
    size, placeholder, queue = 0, "", list(args)
    while queue and queue[0].startswith("-"):
        flag = queue.pop(0)
        if flag[:2] == "-n":
            size = int(flag[2:] or queue.pop(0))
        elif flag[:2] == "-I":
            placeholder = flag[2:] or queue.pop(0)
        elif flag[:2] == "-P":
            flag[2:] or queue.pop(0)
    command = queue or ["echo"]
    data = (await process.read_input()).decode(errors="surrogateescape")
    if placeholder:
        batches = [[word.replace(placeholder, line) for word in command] for line in data.splitlines() if line]
    else:
        words = data.replace("\0", " ").split()
        step = size or max(1, len(words))
        batches = [[*command, *words[start : start + step]] for start in range(0, len(words), step)]
    code = 0
    for batch in batches:
        code = max(code, await run_program(programs, batch, process))
    return 123 if code else 0


async def base64(process: Process, args: list[str]) -> int:
    options, names = split_options(args, "di", "w")
    data = b"".join(data for _, data in await _inputs(process, names))
    if "d" in options or "--decode" in options:
        try:
            await process.stdout.write(base64_codec.b64decode(data))
        except ValueError:
            raise UsageError("invalid input", 1) from None
        return 0
    text = base64_codec.b64encode(data).decode()
    width = int(options.get("w", "76"))
    lines = [text[start : start + width] for start in range(0, len(text), width)] if width else [text]
    await process.out("\n".join(lines) + ("\n" if width else ""))
    return 0


def _digest(algorithm: str) -> Program:
    async def program(process: Process, args: list[str]) -> int:
        _, names = split_options(args, "bct")
        for name, data in await _inputs(process, names):
            await process.out(f"{hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()}  {name}\n")
        return 0

    return program


async def rev(process: Process, args: list[str]) -> int:
    for line in await _text(process, args):
        await process.out(line[::-1] + "\n")
    return 0


async def tac(process: Process, args: list[str]) -> int:
    for line in reversed(await _text(process, args)):
        await process.out(line + "\n")
    return 0


async def awk(process: Process, args: list[str]) -> int:
    """The most common form only: awk [-F sep] '[/regex/] {print $1, $NF, "text"}'."""
    options, rest = split_options(args, "", "Fv")
    found = re.fullmatch(r"\s*(?:/((?:[^/\\]|\\.)*)/)?\s*(?:\{\s*print\s*(.*?);?\s*\})?\s*", rest[0]) if rest else None
    if found is None:
        raise UsageError("only [/regex/] {print …} is supported")
    regex, fields = re.compile(found[1] or ""), [field.strip() for field in (found[2] or "$0").split(",")]
    for line in await _text(process, rest[1:]):
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
    "echo": echo, "printf": printf, "grep": grep, "egrep": lambda process, args: grep(process, ["-E", *args]), "fgrep": lambda process,
    args: grep(process, ["-F", *args]),
    "sed": sed, "head": head, "tail": tail, "wc": wc, "sort": sort, "uniq": uniq, "cut": cut, "tr": tr, "seq": seq, "yes": yes,
    "base64": base64, "rev": rev, "tac": tac,
    "awk": awk, "md5sum": _digest("md5"), "sha1sum": _digest("sha1"), "sha256sum": _digest("sha256"),
}  # fmt: skip
