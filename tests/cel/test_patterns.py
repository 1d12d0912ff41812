"""Patterns of Go mean in Python what they mean in Go, and what Go refuses is refused in its words."""

from __future__ import annotations

import random
import re

import pytest

from kubecosm.cel import linear
from kubecosm.cel.linear import LinearPattern, is_ambiguous, read, unbounded_repeats
from kubecosm.cel.patterns import PatternError, translate
from kubecosm.cel.re2 import python_syntax

FITTING = [
    ("^(?i)(abort|warn)?$", "WARN"), (r"^\p{Greek}+$", "αβ"), (r"[\pL_]+$", "é_"), (r"^\P{Lu}$", "a"), (r"^\p{^Lu}$", "a"),
    (r"^\p{uppercase letter}\p{old-italic}\p{LC}$", "A\U00010300b"), (r"^\P{Assigned}\PN$", "\u0378a"),
    (r"^[^\s]$", "\v"), (r"\bfoo\b", "éfoo"), (r"(?s)^a.b$", "a\nb"), ("a{,2}", "a{,2}"), ("^a{2}$", "aa"), ("(?m)^x$", "y\nx\n"),
    ("(?U)a+", "aaa"), (r"\Qa.b\E+", "a.bbb"), ("^[]a]+$", "]a"), ("^(?i:ab)c$", "ABc"), (r"^\x{1F600}\x41\101$", "😀AA"),
    ("(?i)k", "\u212a"), ("^*", ""), ("(|a)+", ""), (r"^[-+]?\d+$", "-5"), ("^[[:upper:]_]$", "_"), ("^(?<word>a)$", "a"),
]  # fmt: skip
WRONG = [
    ("^(?i)(abort|warn)?$", "wan"), (r"^\p{Greek}+$", "ab"), (r"^\d$", "٣"), ("^a.b$", "a\nb"), ("^x$", "x\n"), ("[[:^alpha:]]", "a"),
    ("^(?i:ab)c$", "ABC"), ("(?i)^[^a]$", "A"), (r"^\s$", "\v"), (r"^\w$", "é"),
]  # fmt: skip
REFUSED = {
    "(": "missing closing ): `(`", "a)": "unexpected ): `a)`", "[a": "missing closing ]: `[a`",
    "[b-a]": "invalid character class range: `b-a`", "a**": "invalid nested repetition operator: `**`",
    "+": "missing argument to repetition operator: `+`", "a|*": "missing argument to repetition operator: `*`",
    "a{1001}": "invalid repeat count: `{1001}`", "a{2,1}": "invalid repeat count: `{2,1}`", "(a{100}){11}": "invalid repeat count: `{11}`",
    "(?=a)": "invalid or unsupported Perl syntax: `(?=`", "(?<!a)": "invalid named capture: `(?<!a)`",
    r"(a)\1": r"invalid escape sequence: `\1`", r"\Z": r"invalid escape sequence: `\Z`",
    "a\\": "trailing backslash at end of expression: ``",
    "(?P<x y>a)": "invalid named capture: `(?P<x y>`", "[[:foo:]]": "invalid character class range: `[:foo:]`",
    r"\p{Foo}": r"invalid character class range: `\p{Foo}`", "a++": "invalid nested repetition operator: `++`",
}  # fmt: skip


@pytest.mark.parametrize(("pattern", "text"), FITTING)
def test_pattern_fits_what_it_fits_in_go(pattern: str, text: str) -> None:
    assert translate(pattern).is_in(text)
    assert LinearPattern(read(python_syntax(pattern))).is_in(text)


@pytest.mark.parametrize(("pattern", "text"), WRONG)
def test_pattern_does_not_fit_what_it_does_not_fit_in_go(pattern: str, text: str) -> None:
    assert not translate(pattern).is_in(text)
    assert not LinearPattern(read(python_syntax(pattern))).is_in(text)


@pytest.mark.parametrize("pattern", REFUSED)
def test_what_go_refuses_is_refused_in_its_words(pattern: str) -> None:
    with pytest.raises(PatternError) as caught:
        translate(pattern)
    assert str(caught.value) == f"error parsing regexp: {REFUSED[pattern]}"


ATOMS = (
    "a", "b", "_", ".", "[ab]", "[^a]", r"\w", r"\W", r"\s", r"\n", "é", "(?i:A)", "^", "$", r"\b", r"\B", r"\A", r"\z", "(?m:^)", "(?m:$)",
)  # fmt: skip
REPEATS = ("*", "+", "?", "*?", "+?", "??", "{2}", "{1,3}", "{2,}", "{0,2}?")


def made_pattern(rng: random.Random, depth: int) -> str:
    parts = []
    for _ in range(rng.randint(1, 3)):
        part = rng.choice(ATOMS)
        if depth and rng.random() < 0.5:
            part = f"({'?:' if rng.random() < 0.5 else ''}{made_pattern(rng, depth - 1)})"
        parts.append(part + (rng.choice(REPEATS) if rng.random() < 0.4 else ""))
    return "".join(parts) + ("|" + made_pattern(rng, 0) if rng.random() < 0.3 else "")


@pytest.mark.parametrize("seed", range(6))
def test_both_engines_find_the_same(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(60):
        source = made_pattern(rng, 2)
        written = python_syntax(source)
        ours, pythons = LinearPattern(read(written)), re.compile(written)
        for text in ("", *("".join(rng.choices("abA_é \n", k=rng.randint(1, 7))) for _ in range(12))):
            if text or r"\B" not in source:  # which Python does not find in an empty text
                assert ours.is_in(text) == bool(pythons.search(text)), (source, text)


def test_both_engines_find_the_same_when_they_forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "STEPS_KEPT_MAX", 3)
    ours = LinearPattern(read(python_syntax(r"^(a|b)*\bc$")))
    assert [ours.is_in(text) for text in ("abab c", "c", "ab-c", "abcc", "")] == [False, True, False, False, False]


ENDLESS = ("^(a|a)*$", "^(a+)+$", "^(([a-z])+.)+[A-Z]([a-z])+$", "(x+x+)+y", "^(.*a){12}$", "^([a-z0-9]+[.-]?)+$")


@pytest.mark.parametrize("pattern", ENDLESS)
def test_patterns_that_make_backtracking_endless_are_done_at_once(pattern: str) -> None:
    text = ("x" if "x" in pattern else "a") * 3000 + "!"
    assert not translate(pattern).is_in(text)
    assert translate(pattern).find_all(text) == []


def test_long_texts_are_no_trouble_for_several_repeats() -> None:
    assert not translate(".*a.*b.*c.*d").is_in("abc" * 3000)
    assert translate(".*a.*b.*c.*d").is_in("abc" * 3000 + "d")


@pytest.mark.parametrize(
    ("pattern", "ambiguous", "unbounded"),
    [
        ("^[a-z]([-a-z0-9]*[a-z0-9])?$", False, 1), (r"^a(\.a*)*$", True, 2), ("(a|b){3}", True, 0), ("(ab?){1}", False, 0),
        ("a*b+c{2,}", False, 3),
    ],
)  # fmt: skip
def test_what_backtracking_may_take_is_seen_in_the_pattern(pattern: str, ambiguous: bool, unbounded: int) -> None:
    tree = read(python_syntax(pattern))
    assert (is_ambiguous(tree), unbounded_repeats(tree)) == (ambiguous, unbounded)


def test_an_empty_text_has_no_edge_of_a_word() -> None:
    assert translate(r"^\B$").is_in("")
    assert not translate(r"\b").is_in("")


def test_what_is_found_is_told_from_the_left() -> None:
    assert translate("a+|b").find_all("caab b") == ["aa", "b", "b"]
    assert translate("a+|b").find_all("caab b", 2) == ["aa", "b"]
    assert translate("a+|b").find_all("caab b", 0) == []
