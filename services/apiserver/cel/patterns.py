"""Regular expressions of Go (RE2) in Python's syntax.

Left out: what differs in meaning rather than in writing; RE2's classes by Unicode script (`\\p{Greek}`) other than the general categories
below. Python backtracks where RE2 does not.
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
_UNICODE = {"L": r"[^\W\d_]", "Lu": "[A-ZÀ-ÖØ-Þ]", "Ll": "[a-zß-öø-ÿ]", "N": r"\d", "Nd": r"\d"}
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
            return _UNICODE.get(match["script"] or match["short"], match[0])
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


_CLASS = re.compile(r"\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]", re.DOTALL)


def _without_classes(pattern: str) -> str:
    """A dollar within a character class is but a dollar."""
    return _CLASS.sub(lambda match: match[0].replace("$", "\x00dollar"), pattern)


def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern of an expression. Raises CelError."""
    try:
        return translate(pattern)
    except PatternError as error:
        raise CelError(str(error)) from None
