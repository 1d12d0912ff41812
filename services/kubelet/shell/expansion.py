"""Word expansion: parameters, command substitution, arithmetic, field splitting, globbing, quote removal (POSIX 2.6)."""

from __future__ import annotations

import fnmatch
import posixpath
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ..volumes.filesystem import FileSystem
from .arithmetic import ArithmeticFailure, evaluate
from .syntax import Arithmetic, Literal, Parameter, Script, Substitution, Word

WHITESPACE = " \t\n"
GLOB_CHARACTERS = "*?["


class ExpansionFailure(Exception):
    """`${name:?message}`, a bad number, an unset variable under `set -u`: the command is not run."""


@dataclass(slots=True)
class Piece:
    """A stretch of expanded text; quoted text is neither split nor globbed. `is_break` ends a field ("$@")."""

    text: str
    quoted: bool
    is_break: bool = False


@dataclass(slots=True)
class Expander:
    """Expands words with one shell's variables. `run` gives the output of a command substitution."""

    get: Callable[[str], str | None]
    set: Callable[[str, str], None]
    positional: Callable[[], list[str]]
    run: Callable[[Script], Awaitable[str]]
    fs: FileSystem
    cwd: Callable[[], str]
    forbids_unset: Callable[[], bool] = lambda: False

    async def fields(self, words: tuple[Word, ...]) -> list[str]:
        """Words as a command's arguments: expanded, split and globbed."""
        result: list[str] = []
        for word in words:
            for field in split_fields(await self._pieces(word)):
                result.extend(self._glob(field))
        return result

    async def text(self, word: Word) -> str:
        """A word as one string, without splitting or globbing (assignments, redirections, case)."""
        return "".join(" " if piece.is_break else piece.text for piece in await self._pieces(word))

    async def pattern(self, word: Word) -> str:
        """A word as a pattern: quoted characters match themselves."""
        return "".join(_escape(piece.text) if piece.quoted else piece.text for piece in await self._pieces(word))

    async def _pieces(self, word: Word) -> list[Piece]:
        pieces: list[Piece] = []
        for index, part in enumerate(word.parts):
            if isinstance(part, Literal):
                text = part.text
                if index == 0 and not part.quoted and text.startswith("~") and (len(text) == 1 or text[1] == "/"):
                    text = (self.get("HOME") or "/root") + text[1:]
                pieces.append(Piece(text, part.quoted))
            elif isinstance(part, Substitution):
                pieces.append(Piece((await self.run(part.script)).rstrip("\n"), part.quoted))
            elif isinstance(part, Arithmetic):
                pieces.append(Piece(await self._arithmetic(part), part.quoted))
            else:
                pieces.extend(await self._parameter(part))
        return pieces

    async def _arithmetic(self, part: Arithmetic) -> str:
        text = await self.text(part.expression)
        try:
            return str(evaluate(text, lambda name: self.get(name) or ""))
        except ArithmeticFailure as failure:
            raise ExpansionFailure(str(failure)) from failure

    async def _parameter(self, part: Parameter) -> list[Piece]:
        if part.name in "@*" and not part.op:
            arguments = self.positional()
            if part.quoted and part.name == "*":
                return [Piece(" ".join(arguments), True)]
            pieces: list[Piece] = []
            for index, argument in enumerate(arguments):
                if index:
                    pieces.append(Piece("", part.quoted, is_break=True))
                pieces.append(Piece(argument, part.quoted))
            return pieces
        value = self.get(part.name)
        if part.op == "length":
            return [Piece(str(len(value or "")), part.quoted)]
        if part.op in ("", "%", "%%", "#", "##", "/", "//") and value is None and self.forbids_unset():
            raise ExpansionFailure(f"{part.name}: parameter not set")
        if part.op in (":-", "-", ":=", "=", ":+", "+", ":?", "?"):
            return await self._conditional(part, value)
        if part.op:
            return [Piece(await self._trimmed(part, value or ""), part.quoted)]
        return [Piece(value or "", part.quoted)]

    async def _conditional(self, part: Parameter, value: str | None) -> list[Piece]:
        is_missing = value is None or (part.op.startswith(":") and value == "")
        assert part.word is not None
        kind = part.op[-1]
        if kind == "+":
            return [] if is_missing else await self._operand(part)
        if not is_missing:
            return [Piece(value or "", part.quoted)]
        if kind == "?":
            raise ExpansionFailure(f"{part.name}: {await self.text(part.word) or 'parameter null or not set'}")
        if kind == "=":
            self.set(part.name, await self.text(part.word))
        return await self._operand(part)

    async def _operand(self, part: Parameter) -> list[Piece]:
        assert part.word is not None
        return [Piece(piece.text, piece.quoted or part.quoted, piece.is_break) for piece in await self._pieces(part.word)]

    async def _trimmed(self, part: Parameter, value: str) -> str:
        assert part.word is not None
        pattern = await self.pattern(part.word)
        if part.op in ("/", "//"):
            replacement = await self.text(part.replacement) if part.replacement is not None else ""
            return replace_pattern(value, pattern, replacement, everywhere=part.op == "//")
        return trim(value, pattern, part.op)

    def _glob(self, field: list[Piece]) -> list[str]:
        text = "".join(piece.text for piece in field)
        if not any(not piece.quoted and any(char in GLOB_CHARACTERS for char in piece.text) for piece in field):
            return [text]
        pattern = "".join(_escape(piece.text) if piece.quoted else piece.text for piece in field)
        return glob(self.fs, self.cwd(), pattern) or [text]


def split_fields(pieces: list[Piece]) -> list[list[Piece]]:
    """Split unquoted text at white space; literal text of the script has no white space in it, so all of it may be split."""
    fields: list[list[Piece]] = []
    current: list[Piece] | None = None
    for piece in pieces:
        if piece.is_break:
            if current is not None:
                fields.append(current)
            current = None
        elif piece.quoted:
            current = [*(current or []), piece]
        else:
            text = piece.text
            if text and text[0] in WHITESPACE and current is not None:
                fields.append(current)
                current = None
            chunks = text.split()
            for index, chunk in enumerate(chunks):
                if index:
                    fields.append(current or [])
                    current = None
                current = [*(current or []), Piece(chunk, False)]
            if chunks and text[-1] in WHITESPACE and current is not None:
                fields.append(current)
                current = None
    if current is not None:
        fields.append(current)
    return fields


def _escape(text: str) -> str:
    return "".join(f"[{char}]" if char in GLOB_CHARACTERS else char for char in text)


def match(text: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(text, pattern)


def trim(value: str, pattern: str, op: str) -> str:
    """`% %% # ##`: remove the shortest or longest matching suffix or prefix."""
    spans = range(len(value) + 1)
    if op[0] == "#":
        for end in reversed(spans) if op == "##" else spans:
            if match(value[:end], pattern):
                return value[end:]
    else:
        for start in spans if op == "%%" else reversed(spans):
            if match(value[start:], pattern):
                return value[:start]
    return value


def replace_pattern(value: str, pattern: str, replacement: str, *, everywhere: bool) -> str:
    """`${name/pattern/replacement}`: longest match first."""
    if not pattern:
        return value
    result, at = "", 0
    while at < len(value):
        end = next((end for end in range(len(value), at, -1) if match(value[at:end], pattern)), None)
        if end is None:
            result += value[at]
            at += 1
            continue
        result += replacement
        at = end
        if not everywhere:
            break
    return result + value[at:]


def glob(fs: FileSystem, cwd: str, pattern: str) -> list[str]:
    """Paths that match, sorted; hidden names only if the pattern says so."""
    is_absolute = pattern.startswith("/")
    found = ["/" if is_absolute else ""]
    for part in (part for part in pattern.split("/") if part):
        nexts: list[str] = []
        for base in found:
            directory = fs.resolve(base or ".", cwd)
            if not fs.is_dir(directory):
                continue
            if not any(char in GLOB_CHARACTERS for char in part):
                names = [part] if fs.exists(posixpath.join(directory, part), follow=False) else []
            else:
                names = [name for name in fs.names(directory) if match(name, part) and (part.startswith(".") or not name.startswith("."))]
            nexts.extend(posixpath.join(base, name) for name in names)
        found = nexts
    return found
