"""cel-go's string extension in its version 2, Kubernetes' regular expressions, and URLs."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import SplitResult, parse_qs, quote, urlsplit

from ..functions import Overload, of_regex, of_result, of_tree, overload, static, traversal
from ..patterns import compiled
from ..standard import format_double, to_text
from ..values import CelError, Opaque, kind_of, type_name

_UPPER, _LOWER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"
_TO_LOWER, _TO_UPPER = str.maketrans(_UPPER, _LOWER), str.maketrans(_LOWER, _UPPER)


def _char_at(text: str, index: int) -> str:
    if not 0 <= index <= len(text):
        raise CelError(f"index out of range: {index}")
    return text[index : index + 1]


def _index_of(text: str, part: str, start: int = 0) -> int:
    if not 0 <= start <= len(text):
        raise CelError(f"index out of range: {start}")
    return text.find(part, start)


def _last_index_of(text: str, part: str, before: int | None = None) -> int:
    if before is None:
        return text.rfind(part)
    if not 0 <= before <= len(text):
        raise CelError(f"index out of range: {before}")
    return text.rfind(part, 0, before + len(part))


def _substring(text: str, start: int, end: int | None = None) -> str:
    size = len(text)
    for index in (start,) if end is None else (start, end):
        if not 0 <= index <= size:
            raise CelError(f"index out of range: {index}")
    if end is not None and start > end:
        raise CelError(f"invalid substring range. start: {start}, end: {end}")
    return text[start:end]


def _replaced(text: str, old: str, new: str, count: int = -1) -> str:
    return text.replace(old, new, count)


def _split(text: str, separator: str, count: int = -1) -> list[str]:
    if count == 0:
        return []
    if separator:
        return text.split(separator, count - 1 if count > 0 else -1)
    return list(text) if count < 0 or count >= len(text) else [*text[: count - 1], text[count - 1 :]]



def _joined(parts: list[Any], separator: str = "") -> str:
    if not all(isinstance(part, str) for part in parts):
        raise CelError("no such overload")
    return separator.join(parts)


def _quoted(text: str) -> str:
    names = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\", '"': '\\"'}
    return '"' + "".join(names.get(char, char) for char in text) + '"'


# ---- format


_CLAUSE = re.compile(r"%(?:%|(?:\.(\d+))?([sdfeboxX]))")


def _formatted(text: str, args: list[Any]) -> str:
    values = iter(args)
    if (bad := re.search(r"%(?!%|(?:\.\d+)?[sdfeboxX])", text.replace("%%", ""))) is not None:
        after = text[bad.end() : bad.end() + 1] if len(text) > bad.end() else ""
        raise CelError(f'could not parse formatting clause: unrecognized formatting clause "{after}"')

    used = 0

    def clause(match: re.Match[str]) -> str:
        nonlocal used
        if match[0] == "%%":
            return "%"
        try:
            value = next(values)
        except StopIteration:
            raise CelError(f"index {used} out of range") from None
        used += 1
        return _one(match[2], int(match[1]) if match[1] else 6, value)

    return _CLAUSE.sub(clause, text)


def _one(verb: str, precision: int, value: Any) -> str:
    kind = kind_of(value)
    if verb == "s":
        return _text(value)
    if verb == "d" and kind in ("int", "uint"):
        return str(int(value))
    if verb in "fe" and kind in ("double", "int", "uint"):
        return f"{float(value):.{precision}{verb}}"
    if verb == "b" and kind in ("int", "uint", "bool"):
        return f"{int(value):b}"
    if verb == "o" and kind in ("int", "uint"):
        return f"{int(value):o}"
    if verb in "xX" and kind in ("int", "uint"):
        return f"{int(value):{verb}}"
    if verb in "xX" and kind in ("string", "bytes"):
        digits = (value.encode() if isinstance(value, str) else value).hex()
        return digits.upper() if verb == "X" else digits
    what = {"d": "decimal", "b": "binary", "o": "octal", "x": "hex", "X": "hex", "f": "fixed-point", "e": "scientific"}[verb]
    needed = {"d": "integers", "b": "integers and bools", "o": "integers"}.get(verb, "integers, byte buffers, and strings")
    needed = "doubles" if verb in "fe" else needed
    raise CelError(f"error during formatting: {what} clause can only be used on {needed}, was given {type_name(value)}")


def _text(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(key)}: {_text(value[key])}" for key in sorted(value, key=str)) + "}"
    if value is None:
        return "null"
    if isinstance(value, float):
        return format_double(value)
    return to_text(value)


# ---- regular expressions


def _found(text: str, pattern: str) -> str:
    return next(iter(compiled(pattern).find_all(text, 1)), "")


def _all_found(text: str, pattern: str, count: int = -1) -> list[str]:
    return compiled(pattern).find_all(text, count)


# ---- URLs


class URL(Opaque):
    """A parsed, absolute URL."""

    __slots__ = ("parts", "text")
    cel_kind = "kubernetes.URL"

    def __init__(self, text: str, parts: SplitResult) -> None:
        self.text, self.parts = text, parts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, URL) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


def _url(text: str) -> URL:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise CelError(f'URL parse error during conversion from string: parse "{text}": {error}') from None
    if " " in parts.netloc or not (text.startswith("/") or (parts.scheme and re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", text))):
        raise CelError(f'URL parse error during conversion from string: parse "{text}": invalid URI for request')
    return URL(text, parts)


def _is_url(text: str) -> bool:
    try:
        _url(text)
    except CelError:
        return False
    return True


def _hostname(url: URL) -> str:
    host = url.parts.netloc.rpartition("@")[2]
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _port(url: URL) -> str:
    return str(url.parts.port) if url.parts.port is not None else ""


def declarations() -> list[tuple[str, Overload]]:
    once, twice = traversal(), traversal(2)
    return [
        overload("string.charAt(int) string", _char_at),
        overload("string.indexOf(string) int", _index_of, of_tree), overload("string.indexOf(string, int) int", _index_of, of_tree),
        overload("string.lastIndexOf(string) int", _last_index_of, of_tree),
        overload("string.lastIndexOf(string, int) int", _last_index_of, of_tree),
        overload("string.lowerAscii() string", lambda text: text.translate(_TO_LOWER), once),
        overload("string.upperAscii() string", lambda text: text.translate(_TO_UPPER), once),
        overload("string.replace(string, string) string", _replaced, twice),
        overload("string.replace(string, string, int) string", _replaced, twice),
        overload("string.split(string) list(string)", _split, twice), overload("string.split(string, int) list(string)", _split, twice),
        overload("string.substring(int) string", _substring, once), overload("string.substring(int, int) string", _substring, once),
        overload("string.trim() string", str.strip, once), overload("list(string).join() string", _joined, of_result),
        overload("list(string).join(string) string", _joined, of_result),
        overload("string.format(list(dyn)) string", _formatted, once), static("strings.quote", "(string) string", _quoted, once),
        overload("string.find(string) string", _found, of_regex), overload("string.findAll(string) list(string)", _all_found, of_regex),
        overload("string.findAll(string, int) list(string)", _all_found, of_regex),
        static("jsonpatch.escapeKey", "(string) string", lambda key: key.replace("~", "~0").replace("/", "~1"), once),
        overload("url(string) kubernetes.URL", _url, once), overload("isURL(string) bool", _is_url, once),
        overload("kubernetes.URL.getScheme() string", lambda url: url.parts.scheme),
        overload("kubernetes.URL.getHost() string", lambda url: url.parts.netloc.rpartition("@")[2]),
        overload("kubernetes.URL.getHostname() string", _hostname), overload("kubernetes.URL.getPort() string", _port),
        overload("kubernetes.URL.getEscapedPath() string", lambda url: quote(url.parts.path, safe="/%:@!$&'()*+,;=~-._")),
        overload("kubernetes.URL.getQuery() map(string, list(string))", lambda url: parse_qs(url.parts.query, keep_blank_values=True)),
    ]  # fmt: skip


