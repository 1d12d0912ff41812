"""Percentages scale and round; hashes have the values and the alphabet of Kubernetes."""

import pytest

from kubecosm.api.hashing import fnv32a, safe_encode
from kubecosm.api.intstr import int_value, is_percent, scaled_value


def test_percentages_scale_and_round_as_asked() -> None:
    assert (scaled_value("25%", 10, round_up=True), scaled_value("25%", 10, round_up=False)) == (3, 2)
    assert scaled_value(3, 10, round_up=True) == 3
    assert scaled_value("0%", 10, round_up=True) == 0
    for text in ("3", "a%"):
        with pytest.raises(ValueError, match="invalid value for IntOrString"):
            scaled_value(text, 10, round_up=True)


def test_text_is_told_from_percent_and_number() -> None:
    assert is_percent("10%")
    assert not is_percent("%")
    assert not is_percent(10)
    assert (int_value("80"), int_value("http"), int_value(80)) == (80, 0, 80)


def test_fnv_and_the_safe_alphabet_give_known_values() -> None:
    assert fnv32a(b"") == 2166136261
    assert fnv32a(b"foobar") == 0xBF9CF968
    assert safe_encode("0123456789") == "456789bcdf"
