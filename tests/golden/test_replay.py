"""The comparison with recorded exchanges: what is masked, what counts as a difference, and a floor that only rises."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.exchanges import differences, masked
from tests.golden.score import Score, below, raised, read_floor, write_floor


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"metadata": {"uid": "x", "resourceVersion": "12"}}, {"metadata": {"uid": "<uid>", "resourceVersion": "<rv>"}}),
        ({"resourceVersion": "not-a-number"}, {"resourceVersion": "not-a-number"}),
        ({"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "None"]}, {"clusterIP": "<ip>", "clusterIPs": ["<ip>", "None"]}),
        ({"nodePort": 30123, "port": 80}, {"nodePort": "<port>", "port": 80}),
        ({"message": "at 2026-01-02T03:04:05Z by 01234567-89ab-cdef-0123-456789abcdef"}, {"message": "at <time> by <uid>"}),
        ({"name": "kube-api-access-a1b2c"}, {"name": "kube-api-access-<rand>"}),
        ({"cells": ["web", "80:31234/TCP", "3s", 2]}, {"cells": ["web", "80:<port>/TCP", "<age>", 2]}),
    ],
)
def test_what_differs_from_run_to_run_is_masked(answer: object, expected: object) -> None:
    assert masked(answer) == expected


def test_every_difference_is_named_by_its_place() -> None:
    want, got = {"a": [1, {"b": "x"}], "c": None}, {"a": [1, {"b": "y"}], "d": 1}
    assert list(differences(want, got)) == [(".a[1].b", "x", "y"), (".c", None, "<absent>"), (".d", "<absent>", 1)]
    assert list(differences({"a": True}, {"a": 1})) == [(".a", True, 1)]
    assert not list(differences(want, want))


def test_the_score_counts_by_operation() -> None:
    score = Score()
    score.add("create", alike=True, identical=True)
    score.add("create", alike=True, identical=False)
    score.add("get", alike=False, identical=False)
    score.add("get", alike=True, identical=True)
    assert score.percent() == {"alike": 75.0, "identical": 50.0}
    assert score.lines()[-1] == "golden: 4 exchanges, status alike 75.0%, identical 50.0%"
    with pytest.raises(ValueError, match="no exchange"):
        Score().percent()


def test_a_figure_below_the_floor_is_complained_of() -> None:
    complaints = below({"alike": 99.7, "identical": 98.0}, {"alike": 99.7, "identical": 98.1})
    assert complaints == ["identical: 98.00 % is below the floor of 98.1 %"]


def test_the_floor_only_rises(tmp_path: Path) -> None:
    floor = {"alike": 99.7, "identical": 98.1}
    assert raised({"alike": 99.88, "identical": 97.0}, floor) == {"alike": 99.8, "identical": 98.1}
    write_floor(floor, tmp_path / "floor.json")
    assert read_floor(tmp_path / "floor.json") == floor


def test_the_committed_floor_asks_for_something() -> None:
    assert all(least > 90 for least in read_floor().values())
