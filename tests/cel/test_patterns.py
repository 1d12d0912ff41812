"""Patterns of Go mean in Python what they mean in Go, and what Go refuses is refused in its words."""

from __future__ import annotations

import pytest

from kubecosm.cel.patterns import PatternError, translate

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
    assert translate(pattern).search(text)


@pytest.mark.parametrize(("pattern", "text"), WRONG)
def test_pattern_does_not_fit_what_it_does_not_fit_in_go(pattern: str, text: str) -> None:
    assert not translate(pattern).search(text)


@pytest.mark.parametrize("pattern", REFUSED)
def test_what_go_refuses_is_refused_in_its_words(pattern: str) -> None:
    with pytest.raises(PatternError) as caught:
        translate(pattern)
    assert str(caught.value) == f"error parsing regexp: {REFUSED[pattern]}"
