"""Sets of code points as sorted ranges: POSIX, Perl and Unicode classes of regular expressions, and how they are written for Python.

General categories come from Python's own tables when they are asked for, scripts from scripts.json.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path

Ranges = tuple[tuple[int, int], ...]
"""Inclusive, in order, without overlaps."""
LAST = sys.maxunicode
EVERYTHING: Ranges = ((0, LAST),)


def of_text(text: str) -> Ranges:
    """`0-9_` → ranges; a dash stands between two characters."""
    found, position = [], 0
    while position < len(text):
        if text[position + 1 : position + 2] == "-":
            found.append((ord(text[position]), ord(text[position + 2])))
            position += 3
        else:
            found.append((ord(text[position]),) * 2)
            position += 1
    return joined(found)


def joined(parts: Iterable[tuple[int, int]]) -> Ranges:
    """The union."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(parts):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    return tuple(found)


def without(ranges: Ranges) -> Ranges:
    """All code points that are not in it."""
    found, start = [], 0
    for first, last in ranges:
        if first > start:
            found.append((start, first - 1))
        start = last + 1
    if start <= LAST:
        found.append((start, LAST))
    return tuple(found)


PERL = {"d": of_text("0-9"), "s": of_text("\t\n\f\r "), "w": of_text("0-9A-Z_a-z")}
POSIX = {
    name: of_text(text)
    for name, text in {
        "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "ascii": "\x00-\x7f", "blank": "\t ", "cntrl": "\x00-\x1f\x7f", "digit": "0-9",
        "graph": "!-~", "lower": "a-z", "print": " -~", "punct": "!-/:-@[-`{-~", "space": "\t\n\v\f\r ", "upper": "A-Z",
        "word": "0-9A-Z_a-z", "xdigit": "0-9A-Fa-f",
    }.items()
}  # fmt: skip
_CATEGORIES = """
C other / Cc control cntrl / Cf format / Cn unassigned / Co privateuse / Cs surrogate / L letter / LC casedletter / Ll lowercaseletter
Lm modifierletter / Lo otherletter / Lt titlecaseletter / Lu uppercaseletter / M mark combiningmark / Mc spacingmark / Me enclosingmark
Mn nonspacingmark / N number / Nd decimalnumber digit / Nl letternumber / No othernumber / P punctuation punct
Pc connectorpunctuation / Pd dashpunctuation / Pe closepunctuation / Pf finalpunctuation / Pi initialpunctuation / Po otherpunctuation
Ps openpunctuation / S symbol / Sc currencysymbol / Sk modifiersymbol / Sm mathsymbol / So othersymbol / Z separator
Zl lineseparator / Zp paragraphseparator / Zs spaceseparator
"""
_CASED = ("Lu", "Ll", "Lt")


def unicode_class(name: str) -> Ranges | None:
    """A general category or a script by its name or alias, however that is spelt; None if there is none of that name."""
    return _named(name.translate({ord(ignored): None for ignored in "_- "}).lower())


@cache
def _named(plain: str) -> Ranges | None:
    if plain == "any":
        return EVERYTHING
    if plain == "ascii":
        return POSIX["ascii"]
    if plain == "assigned":
        return without(_category("Cn"))
    if (category := _category_names().get(plain)) is not None:
        return _category(category)
    row = _scripts().get(plain)
    return _unpacked(row) if row is not None else None


def _category(name: str) -> Ranges:
    kinds = _CASED if name == "LC" else name
    return joined(run for kind, runs in _runs().items() if kind.startswith(kinds) for run in runs)


@cache
def _runs() -> dict[str, list[tuple[int, int]]]:
    """Two-letter category → its code points; takes a fifth of a second, once."""
    found: dict[str, list[tuple[int, int]]] = {}
    first, kind = 0, unicodedata.category("\0")
    for code, of_code in enumerate(map(unicodedata.category, map(chr, range(LAST + 1)))):
        if of_code != kind:
            found.setdefault(kind, []).append((first, code - 1))
            first, kind = code, of_code
    found.setdefault(kind, []).append((first, LAST))
    return found


@cache
def _category_names() -> dict[str, str]:
    entries = [entry.split() for line in _CATEGORIES.strip().splitlines() for entry in line.split(" / ")]
    return {plain: names[0] for names in entries for plain in (names[0].lower(), *names[1:])}


@cache
def _scripts() -> dict[str, str]:
    """Script, in small letters alone → its row."""
    found: dict[str, str] = json.loads(Path(__file__).with_name("scripts.json").read_text())
    return {name.replace("_", "").lower(): row for name, row in found.items()}


def _unpacked(row: str) -> Ranges:
    found, end = [], 0
    for part in row.split():
        distance, _, more = part.partition("+")
        first = end + int(distance, 16)
        end = first + int(more or "0", 16)
        found.append((first, end))
    return tuple(found)


def written(ranges: Ranges) -> str:
    """A class in Python's syntax."""
    if not ranges:
        return r"[^\x00-\U0010ffff]"
    if ranges == EVERYTHING:
        return r"[\x00-\U0010ffff]"
    return f"[{''.join(_char(first) if first == last else f'{_char(first)}-{_char(last)}' for first, last in ranges)}]"


def _char(code: int) -> str:
    if 0x30 <= code <= 0x39 or 0x41 <= code <= 0x5A or 0x61 <= code <= 0x7A:
        return chr(code)
    return f"\\U{code:08x}"
