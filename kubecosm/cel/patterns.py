"""Regular expressions of Go (RE2) in Python's syntax.

Left out: classes by Unicode script (`\\p{Greek}`); general categories are the ranges below. Python backtracks where RE2 does not.
"""

from __future__ import annotations

import re
from functools import lru_cache

from .values import CelError

PATTERNS_KEPT_MAX = 512
_POSIX = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "ascii": r"\x00-\x7f", "blank": r"\t ", "cntrl": r"\x00-\x1f\x7f", "digit": "0-9",
    "graph": "!-~", "lower": "a-z", "print": " -~", "punct": r"!-/:-@\[-`{-~", "space": r"\t\n\v\f\r ", "upper": "A-Z",
    "word": "0-9A-Za-z_", "xdigit": "0-9A-Fa-f",
}  # fmt: skip
_LETTERS = (
    r"A-Za-z\u00aa\u00b5\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02c1\u0370-\u0373\u0376-\u037d\u0386\u0388-\u0481\u048a-\u0556\u0561-\u0587"
    r"\u05d0-\u05ea\u0620-\u064a\u0904-\u0939\u0e01-\u0e30\u1e00-\u1fff\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff\uac00-\ud7a3"
)
_UNICODE = {"L": _LETTERS, "Lu": "A-ZÀ-ÖØ-ÞΑ-ΩА-Я", "Ll": "a-zß-öø-ÿα-ωа-я", "N": r"0-9\u0660-\u0669", "Nd": r"0-9\u0660-\u0669"}
"""The letters of most living scripts, and capitals of Latin, Greek and Cyrillic: what patterns of definitions are about."""
_SYNTAX = re.compile(
    r"""(?P<class>\[:(?P<not>\^?)(?P<posix>\w+):\])|(?P<end>\\z)|(?P<brace>\\x\{(?P<code>[0-9A-Fa-f]+)\})|\\p(?:\{(?P<script>\w+)\}|(?P<short>\w))"""
    r"""|(?P<named>\(\?<(?P<name>\w+)>)|(?P<quoted>\\Q(?P<text>.*?)(?:\\E|$))|(?P<escape>\\.)|(?P<flags>\(\?[imsU-]+\))|(?P<dollar>\$)""",
    re.DOTALL,
)
_FORBIDDEN = re.compile(r"(?<!\\)(?:\\\\)*(\(\?(?:=|!|<=|<!|>|\())|(?<!\\)(?:\\\\)*(\\[1-9])")


class PatternError(ValueError):
    """A pattern that RE2 refuses, in its words."""


@lru_cache(maxsize=PATTERNS_KEPT_MAX)
def translate(pattern: str) -> re.Pattern[str]:
    """The pattern, compiled; ASCII classes as RE2 has them. Raises PatternError."""
    if found := _FORBIDDEN.search(pattern):
        part = found[1] or found[2]
        kind = "invalid escape sequence" if part.startswith("\\") else "invalid or unsupported Perl syntax"
        raise PatternError(f"error parsing regexp: {kind}: `{part}`")
    flags = re.ASCII
    leading: list[str] = []

    def written(match: re.Match[str]) -> str:
        if match["class"]:
            return _POSIX.get(match["posix"], match[0])
        if match["end"]:
            return r"\Z"
        if match["brace"]:
            return re.escape(chr(int(match["code"], 16)))
        if match["script"] or match["short"]:
            ranges = _UNICODE.get(match["script"] or match["short"])
            return f"[{ranges}]" if ranges else match[0]
        if match["named"]:
            return f"(?P<{match['name']}>"
        if match["quoted"]:
            return re.escape(match["text"])
        if match["flags"]:
            if match.start():
                return match[0]
            leading.append(match[0].replace("U", ""))
            return ""
        if match["dollar"]:
            return r"\Z" if "m" not in "".join(leading) else "$"
        return match[0]

    text = _SYNTAX.sub(written, _without_classes(pattern))
    try:
        return re.compile("".join(leading) + text.replace("\x00dollar", "$"), flags)
    except (re.error, OverflowError) as error:
        raise PatternError(f"error parsing regexp: {error}: `{pattern}`") from None


_PROPERTY = re.compile(r"\\p(?:\{(\w+)\}|(\w))")
_CLASS = re.compile(r"\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]", re.DOTALL)


def _without_classes(pattern: str) -> str:
    """Within a character class a dollar is but a dollar, and a class of Unicode its ranges."""

    def inner(match: re.Match[str]) -> str:
        text = match[0].replace("$", "\x00dollar")
        return _PROPERTY.sub(lambda found: _UNICODE.get(found[1] or found[2], found[0]), text)

    return _CLASS.sub(inner, pattern)


def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern of an expression. Raises CelError."""
    try:
        return translate(pattern)
    except PatternError as error:
        raise CelError(str(error)) from None
