"""Quantities parse exactly, print canonically and add without loss."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubecosm.api.quantity import BINARY_SI, Quantity, QuantityError, canonical, milli_value, parse, whole_value

CANONICAL = {
    "0": "0", "00": "0", "0Ki": "0", "0.0": "0", "1": "1", "1.": "1.", "1000m": "1", "0.5": "500m", ".5": "500m", "-1.5": "-1500m",
    "1.5Gi": "1536Mi", "0.5Mi": "512Ki", "1024Ki": "1Mi", "1000Ki": "1000Ki", "1025Mi": "1025Mi", "100k": "100k", "1000k": "1M",
    "1e3": "1e3", "1E3": "1E3", "100000e3": "100e6", "1.2345": "1234500u", "0.0000000001": "1n", "9Ei": "9223372036854775807",
    "1000E": "1e21", "129M": "129M", "128974848": "128974848", "0.5Ki": "512", "100.5Ki": "102912",
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), CANONICAL.items())
def test_a_quantity_is_given_back_as_kubernetes_gives_it_back(text: str, expected: str) -> None:
    assert canonical(text) == expected


SUFFIX = "unable to parse quantity's suffix"
FORMAT = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"


@pytest.mark.parametrize(
    ("text", "message"),
    [("", FORMAT), ("abc", FORMAT), ("1 ", FORMAT), ("1.2.3", FORMAT), ("true", FORMAT), ("1Kib", FORMAT),
     ("--1", SUFFIX), ("1ee", SUFFIX), ("1Mii", SUFFIX), ("1e99999999", SUFFIX)],
)  # fmt: skip
def test_text_that_is_no_quantity_is_refused_with_kubernetes_words(text: str, message: str) -> None:
    with pytest.raises(QuantityError) as caught:
        parse(text)
    assert str(caught.value) == message


def test_values_round_away_from_zero() -> None:
    assert (milli_value("0.1"), milli_value("1500u"), milli_value("-1500u"), milli_value(2), milli_value(0.25)) == (100, 2, -2, 2000, 250)
    assert (whole_value("1500m"), whole_value("1Ki"), whole_value("-1500m")) == (2, 1024, -2)


def test_equal_amounts_are_equal_in_any_format() -> None:
    assert parse("1Gi") == parse("1024Mi") == Quantity.from_value(1 << 30, BINARY_SI)
    assert hash(parse("1")) == hash(parse("1000m"))
    assert parse("999m") < parse("1") <= parse("1.0")


def test_a_sum_keeps_the_first_format_unless_it_is_zero() -> None:
    assert str(parse("1Gi") + parse("512Mi")) == "1536Mi"
    assert str(parse("0") + parse("512Mi")) == "512Mi"
    assert str(parse("100m") + parse("2")) == "2100m"
    assert str(parse("1") - parse("1500m")) == "-500m"


def test_defaulting_rounds_to_whole_millis() -> None:
    assert str(parse("1.0001").round_up(-3)) == "1001m"
    assert str(parse("1500m").round_up(-3)) == "1500m"


texts = st.builds(
    lambda sign, whole, fraction, suffix: f"{sign}{whole}{fraction}{suffix}",
    st.sampled_from(["", "-", "+"]), st.integers(0, 10**12), st.one_of(st.just(""), st.integers(0, 10**6).map(lambda n: f".{n}")),
    st.sampled_from(["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "e3", "e-3", "E+2"]),
)  # fmt: skip


@given(texts)
def test_canonical_text_means_the_same_amount_and_is_stable(text: str) -> None:
    quantity = parse(text)
    again = Quantity(quantity.nanos, quantity.format)
    assert parse(str(again)) == quantity
    assert parse(canonical(text)) == quantity
    assert str(Quantity(parse(str(again)).nanos, parse(str(again)).format)) == str(again)


@given(texts, texts)
def test_addition_is_exact_and_undone_by_subtraction(left: str, right: str) -> None:
    one, other = parse(left), parse(right)
    assert one + other == other + one
    assert one + other - other == one
    assert (one < other) == (one - other < parse("0"))
