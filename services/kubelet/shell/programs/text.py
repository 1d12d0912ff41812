"""Programs on text: echo, printf, grep, sed, head, tail, wc, sort, uniq, cut, tr, seq, xargs, base64, …"""

from __future__ import annotations

import base64 as base64_codec
import hashlib
import re

from ..process import Process, Program, UsageError, split_options
from ..running import run_program
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


async def inputs(process: Process, names: list[str]) -> list[tuple[str, bytes]]:
    if not names:
        return [("-", await process.read_input())]
    return [(name, await process.read_input() if name == "-" else read_file(process, name)) for name in names]


def lines_of(data: bytes) -> list[str]:
    return data.decode(errors="surrogateescape").splitlines()


async def text_of(process: Process, names: list[str]) -> list[str]:
    return [line for _, data in await inputs(process, names) for line in lines_of(data)]


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
    for _, data in await inputs(process, names):
        await process.stdout.write(data[:count] if by_bytes else b"".join(data.splitlines(keepends=True)[:count]))
    return 0


async def tail(process: Process, args: list[str]) -> int:
    count, by_bytes, names, flags = _count_option(args, 10)
    for _, data in await inputs(process, names):
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
    read = await inputs(process, names)
    for name, data in read:
        counts = {"l": data.count(b"\n"), "w": len(data.split()), "c": len(data)}
        for kind in kinds:
            totals[kind] += counts[kind]
        shown = [str(counts[kind]) for kind in kinds]
        await process.out(
            (" ".join(shown) if len(kinds) == 1 else "".join(f"{n:>8}" for n in shown)) + (f" {name}" if names else "") + "\n"
        )
    if len(read) > 1:
        await process.out(" ".join(str(totals[kind]) for kind in kinds) + " total\n")
    return 0


async def sort(process: Process, args: list[str]) -> int:
    options, names = split_options(args, "nrufhVsb", "kt")
    lines = await text_of(process, names)
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
    for line in await text_of(process, names[:1]):
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
    for line in await text_of(process, names):
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
    data = b"".join(data for _, data in await inputs(process, names))
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
        for name, data in await inputs(process, names):
            await process.out(f"{hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()}  {name}\n")
        return 0

    return program


async def rev(process: Process, args: list[str]) -> int:
    for line in await text_of(process, args):
        await process.out(line[::-1] + "\n")
    return 0


async def tac(process: Process, args: list[str]) -> int:
    for line in reversed(await text_of(process, args)):
        await process.out(line + "\n")
    return 0


PROGRAMS: dict[str, Program] = {
    "echo": echo, "printf": printf, "head": head, "tail": tail, "wc": wc, "sort": sort, "uniq": uniq, "cut": cut, "tr": tr, "seq": seq,
    "yes": yes, "base64": base64, "rev": rev, "tac": tac,
    "md5sum": _digest("md5"), "sha1sum": _digest("sha1"), "sha256sum": _digest("sha256"),
}  # fmt: skip
