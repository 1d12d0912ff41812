"""Source text → tokens. Imitates the lexical part of cel-spec's grammar."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from .issues import Issue
from .values import Uint

RESERVED = frozenset(
    ["as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop", "package", "namespace", "return",
    "var", "void", "while"]
)
_TOKENS = re.compile(
    r"""(?P<space>[ \t\r\n\f]+|//[^\n]*)
    |(?P<text>(?P<prefix>[rR][bB]?|[bB][rR]?)?(?:\"{3}(?:[^\\]|\\.)*?\"{3}|'{3}(?:[^\\]|\\.)*?'{3}|"(?:[^\\"\n\r]|\\.)*"|'(?:[^\\'\n\r]|\\.)*'))
    |(?P<float>(?:\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\.\d+(?:[eE][+-]?\d+)?))
    |(?P<int>(?:0x[0-9a-fA-F]+|\d+)(?P<unsigned>[uU])?)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |`(?P<quoted>[A-Za-z0-9_.\-/ ]+)`
    |(?P<symbol>==|!=|<=|>=|&&|\|\||[-+*/%<>!?:.,()\[\]{}=])""",
    re.VERBOSE | re.DOTALL,
)
_RAW = re.compile(
    r"""(?P<text>(?P<prefix>[rR][bB]?|[bB][rR])(?:\"{3}.*?\"{3}|'{3}.*?'{3}|"[^"\n\r]*"|'[^'\n\r]*'))""", re.DOTALL
)
_ESCAPE = re.compile(r"\\(?:([abfnrtv\\?\"'`])|[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.))", re.DOTALL)
_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class Token(NamedTuple):
    """`kind` is a symbol itself, or name, quoted, literal, eof."""

    kind: str
    text: str
    position: int
    value: Any = None


def tokens_of(source: str, issues: list[Issue]) -> list[Token]:
    """All tokens, the last being eof; what cannot be read is added to the issues."""
    found: list[Token] = []
    position, size = 0, len(source)
    while position < size:
        match = _RAW.match(source, position) or _TOKENS.match(source, position)
        if match is None:
            issues.append(Issue(position, f"Syntax error: token recognition error at: '{source[position]}'"))
            position += 1
            continue
        token = _token(match, match.lastgroup or "", issues)
        if token is not None:
            found.append(token)
        position = match.end()
    found.append(Token("eof", "<EOF>", size))
    return found


def _token(match: re.Match[str], kind: str, issues: list[Issue]) -> Token | None:
    text, start = match[0], match.start()
    groups = match.groupdict()
    if groups.get("text") is not None:
        return Token("literal", text, start, _text_value(text, groups.get("prefix") or "", start, issues))
    if groups.get("space") is not None:
        return None
    if groups.get("float") is not None:
        return Token("literal", text, start, float(text))
    if groups.get("int") is not None:
        digits = text.rstrip("uU")
        return Token("literal", text, start, (Uint if groups["unsigned"] else int)(digits, 16 if digits.startswith("0x") else 10))
    if groups.get("name") is not None:
        if text in ("true", "false", "null"):
            return Token("literal", text, start, {"true": True, "false": False, "null": None}[text])
        return Token("in" if text == "in" else "name", text, start)
    if groups.get("quoted") is not None:
        return Token("quoted", groups["quoted"], start)
    return Token(text, text, start)


def _text_value(text: str, prefix: str, start: int, issues: list[Issue]) -> str | bytes:
    body = text[len(prefix) :]
    quotes = 3 if body[:3] in ('"""', "'''") and len(body) >= 6 else 1
    body = body[quotes:-quotes]
    is_bytes, is_raw = "b" in prefix.lower(), "r" in prefix.lower()
    if is_bytes:
        return _bytes_value(body, is_raw, start, issues)
    return body if is_raw else _ESCAPE.sub(lambda match: _unescaped(match, start, issues), body)


def _unescaped(match: re.Match[str], start: int, issues: list[Issue]) -> str:
    simple, *codes, octal, unknown = match.groups()
    if simple is not None:
        return _SIMPLE.get(simple, simple)
    if unknown is not None:
        issues.append(Issue(start, "Syntax error: unable to unescape string"))
        return ""
    code = int(octal, 8) if octal is not None else int(next(code for code in codes if code is not None), 16)
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        issues.append(Issue(start, "invalid unicode code point"))
        return ""
    return chr(code)


def _bytes_value(body: str, is_raw: bool, start: int, issues: list[Issue]) -> bytes:
    if is_raw:
        return body.encode()
    result, position = b"", 0
    for match in _ESCAPE.finditer(body):
        result += body[position : match.start()].encode()
        hexa, octal = match[2], match[5]
        if hexa is not None or octal is not None:
            result += bytes((int(hexa, 16) if hexa is not None else int(octal, 8),))
        else:
            result += _unescaped(match, start, issues).encode()
        position = match.end()
    return result + body[position:].encode()
