"""What a Job's status may say, whoever writes it."""

from __future__ import annotations

from typing import Any

import pytest

from kubecosm.api.resources import JOBS
from kubecosm.services.apiserver.registry.batch.intervals import IntervalError, count_indexes, overlap
from kubecosm.services.apiserver.registry.strategy import strategy_for

from .kinds import causes, created, update_causes
from .test_registry_workloads import job

START, END = "2026-01-02T03:04:05Z", "2026-01-02T03:05:00Z"
CONDITIONS = "status.conditions: Invalid value: "


def conditions(*types: str) -> dict[str, Any]:
    return {"conditions": [{"type": one, "status": "True"} for one in types]}


def complaints(status: dict[str, Any], before: dict[str, Any] | None = None, **spec: Any) -> list[str]:
    old = {**created(JOBS, job(**spec)), "status": before or {}}
    return update_causes(JOBS, old, {"status": status}, "status")


def test_a_status_as_the_job_controller_writes_it_passes() -> None:
    done = conditions("SuccessCriteriaMet", "Complete")
    assert not complaints({"active": 1, "ready": 1, "startTime": START})
    assert not complaints({**done, "startTime": START, "completionTime": END, "succeeded": 1})
    assert not complaints({**conditions("FailureTarget", "Failed"), "startTime": START, "failed": 1})
    suspended = {**conditions("Suspended"), "startTime": START}
    resumed = {"conditions": [{"type": "Suspended", "status": "False"}], "startTime": END}
    assert not complaints(resumed, suspended)


BAD = {
    "complete without criteria": (
        {**conditions("Complete"), "startTime": START, "completionTime": END},
        [CONDITIONS + "cannot set Complete=True condition without the SuccessCriteriaMet=true condition"],
    ),
    "failed without target": (
        {**conditions("Failed"), "startTime": START},
        [CONDITIONS + "cannot set Failed=True condition without the FailureTarget=true condition"],
    ),
    "complete and on its way to fail": (
        {**conditions("Complete", "SuccessCriteriaMet", "FailureTarget"), "startTime": START, "completionTime": END},
        [
            CONDITIONS + "cannot set Complete=True and FailureTarget=true conditions",
            CONDITIONS + "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
        ],
    ),
    "finished but never started, with pods": (
        {**conditions("FailureTarget", "Failed"), "active": 2, "terminating": 1},
        [
            "status.active: Invalid value: 2: active>0 is invalid for finished job",
            "status.startTime: Required value: startTime is required for finished job",
            "status.terminating: Invalid value: 1: terminating>0 is invalid for finished job",
        ],
    ),
    "complete without an end": (
        {**conditions("SuccessCriteriaMet", "Complete"), "startTime": START},
        ["status.completionTime: Required value: completionTime is required for Complete jobs"],
    ),
    "an end before the start": (
        {"startTime": END, "completionTime": START},
        [
            f'status.completionTime: Invalid value: "{START}": cannot set completionTime when there is no Complete=True condition',
            f'status.completionTime: Invalid value: "{START}": completionTime cannot be set before startTime',
        ],
    ),
    "more ready than active": ({"ready": 2, "active": 1}, ["status.ready: Invalid value: 2: cannot set more ready pods than active"]),
    "uncounted twice": (
        {"uncountedTerminatedPods": {"succeeded": ["a"], "failed": ["a", ""]}},
        [
            'status.uncountedTerminatedPods.failed[0]: Duplicate value: "a"',
            'status.uncountedTerminatedPods.failed[1]: Invalid value: "": must not be empty',
        ],
    ),
    "indexes of a Job that has none": (
        {"completedIndexes": "0", "failedIndexes": "0"},
        [
            'status.completedIndexes: Invalid value: "0": cannot set non-empty completedIndexes when non-indexed completion mode',
            'status.failedIndexes: Invalid value: "0": cannot set non-null failedIndexes when backoffLimitPerIndex is null',
            'status.failedIndexes: Invalid value: "0": failedIndexes and completedIndexes overlap at index: 0',
        ],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_clients_of_jobs_could_not_make_sense_of_is_refused(case: str) -> None:
    status, expected = BAD[case]
    assert complaints(status) == expected


def test_what_has_happened_cannot_be_undone() -> None:
    failed = {**conditions("FailureTarget", "Failed"), "startTime": START, "failed": 3}
    assert complaints({"conditions": [], "failed": 2}, failed) == [
        CONDITIONS + "cannot disable the terminal Failed=True condition",
        CONDITIONS + "cannot disable the terminal FailureTarget=True condition",
        "status.failed: Invalid value: 2: cannot decrease the failed counter",
    ]
    expected = "status.startTime: Required value: startTime cannot be removed for unsuspended job"
    assert complaints({"startTime": None}, {"startTime": START}) == [expected]
    assert not complaints({"startTime": None}, {"startTime": START}, suspend=True)
    shrunk = complaints({"succeeded": 1}, {"succeeded": 2}, completionMode="Indexed", completions=1, parallelism=1)
    assert not shrunk


def test_a_status_that_is_wrong_already_can_still_be_written_to() -> None:
    wrong = {**conditions("Complete"), "active": 1}
    assert not complaints({**wrong, "failed": 1}, wrong)


def test_sets_of_indexes_are_read_strictly() -> None:
    assert count_indexes("0,2-4", 5) == 4
    assert overlap("0-2,5", "2-3", 10) == 2
    for text, complaint in (
        ("5", 'too large index: "5"'), ("1,1", "non-increasing order, previous: 1, current: 1"),
        ("x", 'cannot convert string to integer for index: "x"'), ("3-2", "non-increasing order, previous: 3, current: 2"),
    ):  # fmt: skip
        with pytest.raises(IntervalError, match=complaint):
            count_indexes(text, 5)


def test_rules_of_a_success_policy_name_indexes_that_exist() -> None:
    policy = {"rules": [{"succeededIndexes": "0-7"}, {"succeededIndexes": "0,1", "succeededCount": 3}]}
    assert causes(JOBS, job(completionMode="Indexed", completions=4, parallelism=1, successPolicy=policy)) == [
        'spec.successPolicy.rules[0].succeededIndexes: Invalid value: "0-7": error parsing succeededIndexes: too large index: "7"',
        "spec.successPolicy.rules[1].succeededCount: Invalid value: 3: must be less than or equal to 2 "
        "(the number of indexes in the specified succeededIndexes field)",
    ]


def test_without_completions_only_they_are_missed() -> None:
    policy = {"rules": [{"succeededIndexes": "0", "succeededCount": 1}]}
    expected = "spec.completions: Required value: when completion mode is Indexed"
    assert causes(JOBS, job(completionMode="Indexed", parallelism=1, successPolicy=policy)) == [expected]


def test_an_indexed_job_changes_its_size_in_tandem() -> None:
    old = created(JOBS, job(completionMode="Indexed", completions=4, parallelism=2))
    assert not update_causes(JOBS, old, {"spec": {"completions": 3, "parallelism": 3}})
    expected = "spec.completions: Invalid value: 3: can only be modified in tandem with spec.parallelism"
    assert update_causes(JOBS, old, {"spec": {"completions": 3}}) == [expected]


def test_a_job_too_large_to_be_followed_is_warned_of() -> None:
    large = created(JOBS, job(completionMode="Indexed", completions=100_001, parallelism=10_001))
    (warning,) = strategy_for(JOBS).warnings(large)
    assert warning.startswith("spec: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4,")
