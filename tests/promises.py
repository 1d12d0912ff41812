"""`@promise("…")`: says which official conformance promise a test keeps.

    @promise("Watchers should be able to start watching from a specific resource version")
    def test_…

The argument is the name of a Kubernetes 1.36 conformance test, as in tests/conformance/promises.txt, with or without its bracketed labels.
An unknown name fails when the module is imported, so that nothing can be claimed that was never promised. Several names may be given to
one test, and one name to several tests; the decorator also stands on classes and, as `pytestmark = [promise(…)]`, on modules.

`pytest -m promise` runs all of them, `pytest --promise "Garbage collector"` those whose name contains the text;
`scripts/conformance.py` writes docs/conformance.md from them. Owns the names; what the promises mean is in each test.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

NAMES = Path(__file__).parent / "conformance" / "promises.txt"
LABEL = re.compile(r"\[[^\]]*\]")


def plain(name: str) -> str:
    """A promise's name without its labels ([sig-…], [Conformance], [Serial], …) and surplus spaces."""
    return " ".join(LABEL.sub(" ", name).split())


@cache
def official_names() -> dict[str, str]:
    """Plain name → official name, of every promise that the table tells about."""
    return {plain(line): line for line in NAMES.read_text(encoding="utf-8").splitlines()}


def promise(*names: str) -> pytest.MarkDecorator:
    """Marks a test as one that keeps these promises. ValueError for a name that is none."""
    unknown = [name for name in names if plain(name) not in official_names()]
    if unknown or not names:
        raise ValueError(f"not in {NAMES}: {unknown}")
    return pytest.mark.promise(*(official_names()[plain(name)] for name in names))


def promises_of(item: pytest.Item) -> list[str]:
    """The official names of what a collected test keeps."""
    return [name for mark in item.iter_markers("promise") for name in mark.args]
