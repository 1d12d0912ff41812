"""How a Deployment sizes its ReplicaSets: sizes by name before, the change, sizes by name after. The newest ReplicaSet stands first."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import pytest

from kubecosm.api.resources import Object
from kubecosm.api.times import format_time
from kubecosm.services.controller.workloads.deployment.replicasets import new_replicas, plan_cleanup
from kubecosm.services.controller.workloads.deployment.scaling import plan_proportional, plan_rolling
from kubecosm.testing.virtualtime import EPOCH


def deployment(replicas: int, surge: int = 0, unavailable: int = 0, **spec: int) -> Object:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    return {"metadata": {"name": "web"}, "spec": {"replicas": replicas, "strategy": strategy, **spec}}


def replica_set(name: str, size: int, age: float = 0, *, available: int | None = None, noted: tuple[int, int] | None = None) -> Object:
    annotations = {} if noted is None else dict(zip(("desired-replicas", "max-replicas"), map(str, noted), strict=True))
    meta = {
        "name": name, "uid": name, "creationTimestamp": format_time(EPOCH - timedelta(hours=age)), "generation": 1,
        "annotations": {f"deployment.kubernetes.io/{key}": value for key, value in annotations.items()},
    }  # fmt: skip
    counts = {"replicas": size, "availableReplicas": size if available is None else available, "observedGeneration": 1}
    return {"metadata": meta, "spec": {"replicas": size}, "status": counts}


@pytest.mark.parametrize(
    ("change", "before", "after", "surges"),
    [
        pytest.param((10, 12), {"v1": 10}, {"v1": 12}, (0, 0), id="one grows"),
        pytest.param((10, 5), {"v1": 10}, {"v1": 5}, (0, 0), id="one shrinks"),
        pytest.param((5, 10), {"v2": 2, "v1": 3}, {"v2": 4, "v1": 6}, (0, 0), id="two grow in proportion"),
        pytest.param((5, 3), {"v2": 2, "v1": 3}, {"v2": 1, "v1": 2}, (0, 0), id="two shrink in proportion"),
        pytest.param((9, 4), {"v2": 8, "v1": 1}, {"v2": 4, "v1": 0}, (0, 0), id="the small one ends"),
        pytest.param((7, 10), {"v3": 2, "v2": 3, "v1": 2}, {"v3": 3, "v2": 4, "v1": 3}, (0, 0), id="three grow"),
        pytest.param((13, 8), {"v3": 2, "v2": 8, "v1": 3}, {"v3": 1, "v2": 5, "v1": 2}, (0, 0), id="three shrink"),
        pytest.param((3, 4), {"v3": 1, "v2": 1, "v1": 1}, {"v3": 2, "v2": 1, "v1": 1}, (0, 0), id="what is left over goes to the newest"),
        pytest.param((3, 2), {"v3": 1, "v2": 1, "v1": 1}, {"v3": 1, "v2": 1, "v1": 0}, (0, 0), id="what is too much goes from the oldest"),
        pytest.param((6, 0), {"v3": 3, "v2": 2, "v1": 1}, {"v3": 0, "v2": 0, "v1": 0}, (0, 0), id="to nothing"),
        pytest.param((6, 6), {"v3": 0, "v2": 0, "v1": 0}, {"v3": 6, "v2": 0, "v1": 0}, (0, 0), id="from nothing only the newest"),
        pytest.param((10, 20), {"v2": 6, "v1": 6}, {"v2": 11, "v1": 11}, (2, 2), id="with surge"),
        pytest.param((10, 50), {"v2": 5, "v1": 8}, {"v2": 22, "v1": 34}, (3, 6), id="surge and size change"),
    ],
)
def test_scaling_in_the_middle_of_a_rollout_keeps_proportions(
    change: tuple[int, int], before: Mapping[str, int], after: Mapping[str, int], surges: tuple[int, int]
) -> None:
    noted = change[0], change[0] + surges[0]
    sets = [replica_set(name, size, age, noted=noted) for age, (name, size) in enumerate(before.items())]
    assert scaled(plan_proportional(deployment(change[1], surges[1]), sets[0], sets[1:]), before) == after


def scaled(scales: list[object], before: Mapping[str, int]) -> dict[str, int]:
    return dict(before) | {scale.replicaset["metadata"]["name"]: scale.replicas for scale in scales}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("change", "before", "after"),
    [
        pytest.param((4, 5), {"v2": 2, "v1": 2}, {"v2": 3, "v1": 2}, id="of two old ones the newer"),
        pytest.param((10, 14), {"v2": 7, "v1": 3}, {"v2": 10, "v1": 4}, id="old ones in proportion, while a new template waits"),
    ],
)
def test_old_replica_sets_are_scaled_though_there_is_no_new_one_yet(
    change: tuple[int, int], before: Mapping[str, int], after: Mapping[str, int]
) -> None:
    sets = [replica_set(name, size, age, noted=(change[0], change[0])) for age, (name, size) in enumerate(before.items())]
    assert scaled(plan_proportional(deployment(change[1]), None, sets), before) == after


def test_a_scale_that_was_cut_short_is_finished_by_what_each_replica_set_noted() -> None:
    new, old = replica_set("v3", 2, 0, noted=(5, 5)), [replica_set("v2", 1, 1, noted=(3, 3)), replica_set("v1", 1, 2, noted=(5, 5))]
    before = {"v3": 2, "v2": 1, "v1": 1}
    assert scaled(plan_proportional(deployment(5), new, old), before) == {"v3": 2, "v2": 2, "v1": 1}


def test_a_full_but_broken_new_replica_set_does_not_end_the_old_one() -> None:
    new, old = replica_set("v2", 2, 0, available=0, noted=(2, 3)), replica_set("v1", 1, 1, noted=(2, 3))
    before = {"v2": 2, "v1": 1}
    assert scaled(plan_proportional(deployment(2, 1, 1), new, [old]), before) == before


@pytest.mark.parametrize(
    ("surge", "old", "new", "wanted"),
    [(0, 10, 0, 0), (2, 10, 0, 2), (2, 5, 0, 7), (2, 10, 2, 2)],
    ids=["no room", "the surge", "the surge and what is missing", "the surge is used up"],
)
def test_a_new_replica_set_grows_into_the_room_that_surge_leaves(surge: int, old: int, new: int, wanted: int) -> None:
    assert new_replicas(deployment(10, surge), [replica_set("v1", old), replica_set("v2", new)], new) == wanted


def test_a_new_replica_set_that_is_too_big_shrinks_first() -> None:
    assert scaled(plan_rolling(deployment(10, 2), replica_set("v2", 11), [replica_set("v1", 2)]), {})["v2"] == 10


@pytest.mark.parametrize(
    ("unavailable", "old", "available", "new", "wanted"),
    [
        pytest.param(0, 10, 10, (0, 0), 9, id="neither surge nor unavailability count as one"),
        pytest.param(2, 10, 10, (0, 0), 8, id="as many as may be unavailable"),
        pytest.param(2, 10, 8, (0, 0), 8, id="the sick ones"),
        pytest.param(2, 10, 9, (0, 0), 8, id="the sick one and a healthy one"),
        pytest.param(2, 8, 8, (2, 0), 8, id="none while new ones are not available"),
        pytest.param(2, 10, 1, (0, 0), 8, id="sick ones only as far as pods may be missing"),
    ],
)
def test_old_replica_sets_shrink_as_far_as_availability_allows(
    unavailable: int, old: int, available: int, new: tuple[int, int], wanted: int
) -> None:
    body = {**replica_set("v2", new[0], available=new[1])}
    sets = [replica_set("v1", old, 1, available=available)]
    assert scaled(plan_rolling(deployment(10, 0, unavailable), body, sets), {"v1": old})["v1"] == wanted


@pytest.mark.parametrize(
    ("limit", "sizes", "doomed"),
    [
        (1, [(0, 0), (0, 0), (0, 0)], ["rs0", "rs1"]),
        (0, [(0, 0), (0, 1), (1, 0), (1, 1)], ["rs0"]),
        (0, [(1, 1), (1, 1)], []),
        (2**31 - 1, [(0, 0)], []),
    ],
    ids=["beyond the limit", "only empty ones", "none is empty", "no limit"],
)
def test_history_is_cut_where_nothing_runs(limit: int, sizes: list[tuple[int, int]], doomed: list[str]) -> None:
    sets = [replica_set(f"rs{index}", size, 9 - index) for index, (size, _) in enumerate(sizes)]
    old = [{**rs, "status": {**rs["status"], "replicas": count}} for rs, (_, count) in zip(sets, sizes, strict=True)]
    assert [rs["metadata"]["name"] for rs in plan_cleanup(deployment(1, revisionHistoryLimit=limit), old)] == doomed
