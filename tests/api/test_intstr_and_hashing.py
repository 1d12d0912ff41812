"""Percentages scale and round; revision hashes are stable and look like Kubernetes' own."""

import re

import pytest

from kubecosm.api.hashing import fnv32a, object_hash, safe_encode
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


def test_equal_objects_hash_equally_and_collisions_change_the_hash() -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    same = {"spec": {"containers": [{"image": "i", "name": "c"}]}, "metadata": {"labels": {"a": "b"}}}
    assert object_hash(template) == object_hash(same)
    assert len({object_hash(template), object_hash(template, 0), object_hash(template, 1)}) == 3
    assert re.fullmatch(r"[bcdfghjklmnpqrstvwxz2456789]{1,10}", object_hash(template))
