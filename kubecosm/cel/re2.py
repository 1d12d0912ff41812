"""Reads a regular expression as Go's regexp/syntax does (with Perl's flags) and writes it in Python's syntax.

Flags are resolved while reading: each part is written so that it means the same without any, but for letters under `(?i)`. Errors are
Go's, text for text. Left out: names of captures (nobody asks for them), and aliases of Unicode classes.
"""

from __future__ import annotations

from typing import NamedTuple, NoReturn

from .codepoints import EVERYTHING, PERL, POSIX, Ranges, joined, unicode_class, without, written

REPEAT_MAX, NESTING_MAX = 1000, 1000
_FLAGS = "imsU"
_CONTROLS = {"a": 7, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11}
_MISSING_PAREN = "missing closing )"
_ESCAPE, _RANGE = "invalid escape sequence", "invalid character class range"


class PatternError(ValueError):
    """A pattern that Go refuses."""

    def __init__(self, code: str, part: str) -> None:
        super().__init__(f"error parsing regexp: {code}: `{part}`")


class _Group(NamedTuple):
    """An open bracket: the flags around it and the parts before it."""

    flags: frozenset[str]
    parts: list[str]
    opening: str
    largest: int


def python_syntax(pattern: str) -> str:
    """The same in Python's syntax. Raises PatternError."""
    return _Reader(pattern).read()


class _Reader:
    def __init__(self, pattern: str) -> None:
        self._text, self._at = pattern, 0
        self._flags: frozenset[str] = frozenset()
        self._parts: list[str] = []
        self._groups: list[_Group] = []
        self._last_repeat = -1  # where the repetition began that the last part is of
        self._repeats: dict[int, int] = {}  # index of a part → how often something in it repeats
        self._has_operand = False

    def read(self) -> str:
        steps = {"(": self._open, ")": self._close, "|": self._bar, "[": self._class, "\\": self._escape, ".": self._dot}
        while self._at < len(self._text):
            char, start = self._text[self._at], self._at
            if char in "*+?" or (char == "{" and self._braces() is not None):
                self._repetition()
                self._last_repeat = start
                continue
            step = steps.get(char)
            if step is not None:
                step()
            elif char in "^$":
                self._at += 1
                self._put(self._anchor(char))
            else:
                self._at += 1
                self._put(self._literal(ord(char)))
            self._last_repeat = -1
        if self._groups:
            self._refuse(_MISSING_PAREN, self._text)
        return "".join(self._parts)

    def _refuse(self, code: str, part: str) -> NoReturn:
        raise PatternError(code, part)

    def _put(self, part: str) -> None:
        self._parts.append(part)
        self._has_operand = True

    # ---- single characters

    def _literal(self, code: int) -> str:
        return self._folded(written(((code, code),)) if not chr(code).isalnum() else chr(code), chr(code).isalpha())

    def _folded(self, part: str, has_letters: bool) -> str:
        return f"(?i:{part})" if has_letters and "i" in self._flags else part

    def _dot(self) -> None:
        self._at += 1
        self._put(written(EVERYTHING) if "s" in self._flags else r"[^\n]")

    def _anchor(self, char: str) -> str:
        if "m" in self._flags:
            return f"(?m:{char})"
        return r"(?:\A)" if char == "^" else r"(?:\Z)"

    # ---- groups and flags

    def _open(self) -> None:
        if self._text.startswith("(?", self._at):
            self._perl_group()
        else:
            self._at += 1
            self._push("(", self._flags)

    def _push(self, opening: str, inner: frozenset[str]) -> None:
        if len(self._groups) >= NESTING_MAX:
            self._refuse("expression nests too deeply", self._text)
        self._groups.append(_Group(self._flags, self._parts, opening, 0))
        self._parts, self._flags, self._has_operand = [], inner, False
        self._repeats = {}

    def _close(self) -> None:
        if not self._groups:
            self._refuse("unexpected )", self._text)
        self._at += 1
        group, inside = self._groups.pop(), "".join(self._parts)
        largest = max(self._repeats.values(), default=1)
        self._parts, self._flags = group.parts, group.flags
        self._put(f"{group.opening}{inside})")
        self._repeats = {len(self._parts) - 1: largest}

    def _bar(self) -> None:
        self._at += 1
        self._parts.append("|")
        self._has_operand = False

    def _perl_group(self) -> None:
        rest = self._text[self._at :]
        if (rest.startswith("(?P<") and len(rest) > 4) or (rest.startswith("(?<") and len(rest) > 3):
            capture, closed, _ = rest.partition(">")
            if not closed:
                self._refuse("invalid named capture", rest)
            name = capture.partition("<")[2]
            if not name or not all(char == "_" or (char.isascii() and char.isalnum()) for char in name):
                self._refuse("invalid named capture", f"{capture}>")
            self._at += len(capture) + 1
            self._push("(", self._flags)
            return
        flags, adds, seen = set(self._flags), True, False
        for index in range(2, len(rest)):
            char = rest[index]
            if char in _FLAGS:
                seen = True
                flags = flags | {char} if adds else flags - {char}
            elif char == "-" and adds:
                adds, seen = False, False
            elif char in ":)" and (adds or seen):
                self._at += index + 1
                if char == ":":
                    self._push("(?:", frozenset(flags))
                else:
                    self._flags = frozenset(flags)
                    self._has_operand = bool(self._parts) and self._parts[-1] != "|"
                return
            else:
                self._refuse("invalid or unsupported Perl syntax", rest[: index + 1])
        self._refuse(_MISSING_PAREN, self._text)

    # ---- repetitions

    def _braces(self) -> tuple[int, int | None, int] | None:
        """(least, most, where it ends) of `{n,m}`; None if the bracket is but a bracket. Numbers that are too large count as -1."""
        end = self._text.find("}", self._at)
        inside = self._text[self._at + 1 : end] if end > 0 else ""
        least, comma, most = inside.partition(",")
        if not _is_number(least) or (most and not _is_number(most)):
            return None
        return _number(least), (_number(most) if most else None) if comma else _number(least), end + 1

    def _repetition(self) -> None:
        start, char = self._at, self._text[self._at]
        found = self._braces() if char == "{" else None
        self._at = found[2] if found else start + 1
        if found and (found[0] < 0 or (found[1] is not None and (found[1] < found[0] or found[1] < 0))):
            self._refuse("invalid repeat count", self._text[start : self._at])
        if not self._has_operand:
            self._refuse("missing argument to repetition operator", self._text[start : self._at])
        body, is_lazy = self._text[start : self._at], "U" in self._flags
        if self._text.startswith("?", self._at):
            self._at += 1
            is_lazy = not is_lazy
        if self._last_repeat >= 0:
            self._refuse("invalid nested repetition operator", self._text[self._last_repeat : self._at])
        if found:
            self._count(found[0], found[1], self._text[start : self._at])
        self._parts[-1] += body + ("?" if is_lazy else "")

    def _count(self, least: int, most: int | None, text: str) -> None:
        """Repetitions within repetitions come to a thousand at most."""
        times = max(least, most or 0)
        total = times * self._repeats.get(len(self._parts) - 1, 1) if times >= 2 else 1
        if total > REPEAT_MAX:
            self._refuse("invalid repeat count", text)
        self._repeats[len(self._parts) - 1] = max(total, self._repeats.get(len(self._parts) - 1, 1))

    # ---- escapes

    def _escape(self) -> None:
        follows = self._text[self._at + 1 : self._at + 2]
        if follows == "Q":
            quoted, _, _ = self._text[self._at + 2 :].partition("\\E")
            self._at = min(self._at + 4 + len(quoted), len(self._text))
            for char in quoted:
                self._put(self._literal(ord(char)))
        elif follows in ("A", "z", "b", "B") and follows:
            self._at += 2
            self._put({"A": r"(?:\A)", "z": r"(?:\Z)", "b": r"(?a:\b)", "B": r"(?a:\B)"}[follows])
        elif (ranges := self._escaped_class()) is not None:
            self._put(self._folded(written(ranges), True))
        else:
            self._put(self._literal(self._escaped_char()))

    def _escaped_class(self) -> Ranges | None:
        """`\\d`, `\\pL` or `\\P{Greek}` at this place."""
        name = self._text[self._at + 1 : self._at + 2]
        if name and name in "dswDSW":
            self._at += 2
            ranges = PERL[name.lower()]
            return without(ranges) if name.isupper() else ranges
        if not name or name not in "pP":
            return None
        start = self._at
        self._at += 3
        if self._text[start + 2 : start + 3] == "{":
            end = self._text.find("}", start)
            if end < 0:
                self._refuse(_RANGE, self._text[start:])
            self._at = end + 1
            wanted = self._text[start + 3 : end]
        else:
            wanted = self._text[start + 2 : start + 3]
        negated = name == "P"
        if wanted.startswith("^"):
            wanted, negated = wanted[1:], not negated
        found = unicode_class(wanted)
        if found is None:
            self._refuse(_RANGE, self._text[start : self._at])
        return without(found) if negated else found

    def _escaped_char(self) -> int:
        start, text = self._at, self._text
        if start + 1 >= len(text):
            self._refuse("trailing backslash at end of expression", "")
        char = text[start + 1]
        self._at += 2
        if char in "1234567" and text[self._at : self._at + 1] in tuple("01234567"):
            return self._octal(int(char), 2)
        if char == "0":
            return self._octal(0, 2)
        if char == "x" and (code := self._hexadecimal()) is not None:
            return code
        if char in _CONTROLS:
            return _CONTROLS[char]
        if not char.isascii() or char.isalnum():
            self._refuse(_ESCAPE, text[start : self._at])
        return ord(char)

    def _octal(self, code: int, more: int) -> int:
        for _ in range(more):
            digit = self._text[self._at : self._at + 1]
            if digit not in tuple("01234567"):
                break
            code, self._at = code * 8 + int(digit), self._at + 1
        return code

    def _hexadecimal(self) -> int | None:
        rest = self._text[self._at :]
        digits, length = (rest[1 : rest.find("}")], rest.find("}") + 1) if rest.startswith("{") else (rest[:2], 2)
        if length < 2 or not digits or (rest[:1] != "{" and len(digits) < 2) or any(d not in "0123456789abcdefABCDEF" for d in digits):
            return None
        self._at += length
        code = int(digits, 16)
        return code if code <= 0x10FFFF else None

    # ---- character classes

    def _class(self) -> None:
        start = self._at
        self._at += 1
        negated = self._text.startswith("^", self._at)
        self._at += negated
        found: list[tuple[int, int]] = []
        is_first = True
        while is_first or not self._text.startswith("]", self._at):
            if self._at >= len(self._text):
                self._refuse("missing closing ]", self._text[start:])
            is_first = False
            found += self._class_part(start)
        self._at += 1
        ranges = joined(found)
        self._put(self._class_written(ranges, negated))

    def _class_written(self, ranges: Ranges, negated: bool) -> str:
        if "i" not in self._flags:
            return written(without(ranges) if negated else ranges)
        inside = written(ranges)
        return f"(?i:[^{inside[1:]})" if negated and not inside.startswith("[^") else f"(?i:{inside})"

    def _class_part(self, start: int) -> Ranges:
        text = self._text
        if text.startswith("[:", self._at) and (end := text.find(":]", self._at + 2)) > 0:
            name = text[self._at + 2 : end]
            found = POSIX.get(name.removeprefix("^"))
            if found is None:
                self._refuse(_RANGE, text[self._at : end + 2])
            self._at = end + 2
            return without(found) if name.startswith("^") else found
        if text[self._at] == "\\" and (found := self._escaped_class()) is not None:
            return found
        begin = self._at
        low = high = self._class_char(start)
        if text.startswith("-", self._at) and text[self._at + 1 : self._at + 2] not in ("]", ""):
            self._at += 1
            high = self._class_char(start)
            if high < low:
                self._refuse(_RANGE, text[begin : self._at])
        return ((low, high),)

    def _class_char(self, start: int) -> int:
        if self._at >= len(self._text):
            self._refuse("missing closing ]", self._text[start:])
        if self._text[self._at] == "\\":
            return self._escaped_char()
        self._at += 1
        return ord(self._text[self._at - 1])


def _is_number(text: str) -> bool:
    """Digits as a repetition has them: no leading zero."""
    return text.isascii() and text.isdigit() and (text == "0" or not text.startswith("0"))


def _number(text: str) -> int:
    """-1 for what is larger than any repetition may be."""
    return int(text) if len(text) < 9 and int(text) <= REPEAT_MAX else -1
