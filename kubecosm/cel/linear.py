"""Whether a regular expression is found in a text, in time that grows with the text and not beyond, as RE2 takes.

Python's engine backtracks: with a pattern like `^([a-z]+-?)*$` each further letter doubles its time, and nothing else runs meanwhile. Here
all ways through the pattern are followed at once, and what a set of them makes of a character is remembered. Reads what `re2.python_syntax`
writes, which is all that it understands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

STEPS_KEPT_MAX = 4096
"""Of a pattern; then all are forgotten."""
INSIDE = "o"
"""A neighbour that no anchor asks about."""
_ANCHORS = {r"(?m:^)": "^", r"(?m:$)": "$", r"(?a:\b)": "b", r"(?a:\B)": "B", r"(?:\A)": "A", r"(?:\Z)": "Z"}
_COUNTED = re.compile(r"\{(\d+)(?:(,)(\d*))?\}")
_ATOM = re.compile(r"\(\?i:(?:\[[^]]*\]|.)\)|\[[^]]*\]|[^()|*+?{]|\{", re.DOTALL)


@dataclass(frozen=True)
class Atom:
    """One character, by a pattern of its own."""

    pattern: str


@dataclass(frozen=True)
class Anchor:
    """A place: `A` and `Z` the ends of the text, `^` and `$` those of a line, `b` the edge of a word, `B` none."""

    kind: str


@dataclass(frozen=True)
class Sequence:
    parts: tuple[Tree, ...]


@dataclass(frozen=True)
class Choice:
    parts: tuple[Tree, ...]


@dataclass(frozen=True)
class Repeat:
    """`most` None: any number."""

    part: Tree
    least: int
    most: int | None


Tree = Atom | Anchor | Sequence | Choice | Repeat


class _Reader:
    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0

    def choice(self) -> Tree:
        parts = [self._sequence()]
        while self._text.startswith("|", self._at):
            self._at += 1
            parts.append(self._sequence())
        return parts[0] if len(parts) == 1 else Choice(tuple(parts))

    def _sequence(self) -> Tree:
        parts: list[Tree] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            parts.append(self._repeated(self._single()))
        return Sequence(tuple(parts))

    def _single(self) -> Tree:
        for written, kind in _ANCHORS.items():
            if self._text.startswith(written, self._at):
                self._at += len(written)
                return Anchor(kind)
        if (atom := _ATOM.match(self._text, self._at)) is not None:
            self._at = atom.end()
            return Atom(atom[0])
        self._at += 3 if self._text.startswith("(?:", self._at) else 1
        inside = self.choice()
        self._at += 1
        return inside

    def _repeated(self, part: Tree) -> Tree:
        char = self._text[self._at : self._at + 1]
        if char and char in "*+?":
            self._at += 1
            part = Repeat(part, int(char == "+"), 1 if char == "?" else None)
        elif (counted := _COUNTED.match(self._text, self._at)) is not None:
            self._at = counted.end()
            least = int(counted[1])
            part = Repeat(part, least, least if counted[2] is None else int(counted[3]) if counted[3] else None)
        else:
            return part
        self._at += self._text.startswith("?", self._at)  # greedy or not, it is found or it is not
        return part


def read(translated: str) -> Tree:
    """The tree of a pattern as `python_syntax` writes it."""
    return _Reader(translated).choice()


def is_ambiguous(tree: Tree, *, repeated: bool = False) -> bool:
    """Whether something that repeats has parts that repeat or differ: backtracking may then take time without end."""
    if isinstance(tree, Repeat):
        varies = tree.least != tree.most
        return (varies and repeated) or is_ambiguous(tree.part, repeated=repeated or tree.most is None or tree.most > 1)
    if isinstance(tree, Choice) and repeated:
        return True
    return isinstance(tree, Sequence | Choice) and any(is_ambiguous(part, repeated=repeated) for part in tree.parts)


def unbounded_repeats(tree: Tree) -> int:
    """How many parts repeat without an end: backtracking takes a power of the text's length with one more than that."""
    if isinstance(tree, Repeat):
        return unbounded_repeats(tree.part) + (tree.most is None)
    return sum(map(unbounded_repeats, tree.parts)) if isinstance(tree, Sequence | Choice) else 0


@dataclass
class _Node:
    """A place in the pattern: it takes a character, or is passed at an anchor, or leads on to others at once."""

    takes: re.Pattern[str] | None = None
    anchor: str = ""
    leads: list[int] = field(default_factory=list)


@dataclass(eq=False)
class _Reached:
    """Nodes that wait for a character, and what comes of each that was seen."""

    waiting: tuple[int, ...]
    is_end: bool
    after: dict[str, frozenset[int]] = field(default_factory=dict)
    """The nodes behind a character."""
    next: dict[str, _Reached] = field(default_factory=dict)
    """What is reached behind it, in the midst of a text."""


class LinearPattern:
    """A pattern, ready to be looked for."""

    def __init__(self, tree: Tree) -> None:
        """Raises RecursionError for what is nested too deeply."""
        self._nodes = [_Node()]  # the first is the end
        self._tests: dict[str, re.Pattern[str]] = {}
        self._anchors: set[str] = set()
        self._start = self._build(tree, 0)
        self._reached: dict[tuple[frozenset[int], str, str], _Reached] = {}
        self._kept = 0

    def _add(self, node: _Node) -> int:
        self._nodes.append(node)
        return len(self._nodes) - 1

    def _build(self, tree: Tree, then: int) -> int:
        """The node to begin at, from which the way leads on to `then`."""
        match tree:
            case Atom(pattern):
                test = self._tests.setdefault(pattern, re.compile(pattern, re.DOTALL))
                return self._add(_Node(takes=test, leads=[then]))
            case Anchor(kind):
                self._anchors.add(kind)
                return self._add(_Node(anchor=kind, leads=[then]))
            case Sequence(parts):
                for part in reversed(parts):
                    then = self._build(part, then)
                return then
            case Choice(parts):
                return self._add(_Node(leads=[self._build(part, then) for part in parts]))
            case Repeat(part, least, most):
                return self._build_repeat(part, least, most, then)

    def _build_repeat(self, part: Tree, least: int, most: int | None, then: int) -> int:
        if most is None:
            loop = self._add(_Node(leads=[then]))
            self._nodes[loop].leads.append(self._build(part, loop))
            begin = loop
        else:
            begin = then
            for _ in range(most - least):
                begin = self._add(_Node(leads=[self._build(part, begin), then]))
        for _ in range(least):
            begin = self._build(part, begin)
        return begin

    def is_in(self, text: str) -> bool:
        """Whether it is found anywhere."""
        if not self._anchors <= {"A", "Z"}:
            return self._is_in_lines(text)
        if not text:
            return self._reach((), "", "").is_end
        reached = self._reach((), "", INSIDE)
        for char in text[:-1]:
            if reached.is_end:
                return True
            reached = reached.next.get(char) or self._next(reached, char)
        return reached.is_end or self._reach(self._step(reached, text[-1]), INSIDE, "").is_end

    def _next(self, reached: _Reached, char: str) -> _Reached:
        found = reached.next[char] = self._reach(self._step(reached, char), INSIDE, INSIDE)
        return found

    def _is_in_lines(self, text: str) -> bool:
        """The same, where the characters around a place matter to anchors."""
        places: frozenset[int] = frozenset()
        before = ""
        for char in (*text, ""):
            follows = _kind(char)
            reached = self._reach(places, before, follows)
            if reached.is_end:
                return True
            if char:
                places = self._step(reached, char)
            before = follows
        return False

    def _reach(self, places: Iterable[int], before: str, follows: str) -> _Reached:
        """All that is reached at a place of the text without a character, from nodes that were there and from the beginning."""
        key = frozenset(places), before, follows
        found = self._reached.get(key)
        if found is not None:
            return found
        seen: set[int] = set()
        left = [*key[0], self._start]
        while left:
            index = left.pop()
            node = self._nodes[index]
            if index not in seen and (not node.anchor or _holds(node.anchor, before, follows)):
                seen.add(index)
                if node.takes is None:
                    left.extend(node.leads)
        self._remember()
        found = _Reached(tuple(index for index in seen if self._nodes[index].takes is not None), 0 in seen)
        self._reached[key] = found
        return found

    def _step(self, reached: _Reached, char: str) -> frozenset[int]:
        """The nodes that a character leads to."""
        known = reached.after.get(char)
        if known is not None:
            return known
        verdicts: dict[re.Pattern[str], bool] = {}
        found: set[int] = set()
        for index in reached.waiting:
            node = self._nodes[index]
            assert node.takes is not None
            if node.takes not in verdicts:
                verdicts[node.takes] = node.takes.fullmatch(char) is not None
            if verdicts[node.takes]:
                found.add(node.leads[0])
        self._remember()
        result = reached.after[char] = frozenset(found)
        return result

    def _remember(self) -> None:
        self._kept += 1
        if self._kept > STEPS_KEPT_MAX:
            self._kept = 0
            for reached in list(self._reached.values()):
                reached.next.clear()
                reached.after.clear()
            self._reached.clear()


def _kind(char: str) -> str:
    """What a character is to anchors: a line's end, a letter of a word or another; empty at the ends of the text."""
    if not char or char == "\n":
        return char
    return "w" if char == "_" or (char.isascii() and char.isalnum()) else INSIDE


def _holds(anchor: str, before: str, follows: str) -> bool:
    match anchor:
        case "A":
            return not before
        case "Z":
            return not follows
        case "^":
            return before in ("", "\n")
        case "$":
            return follows in ("", "\n")
        case _:
            return ((before == "w") != (follows == "w")) == (anchor == "b")
