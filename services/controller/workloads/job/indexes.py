"""Sets of completion indexes in the form `1,3-5`, as Jobs write and read them. Pure functions.

Imitates pkg/controller/job/indexed_job_utils.go.
"""

from __future__ import annotations

from collections.abc import Iterable

from kubecosm.api.meta import annotations_of
from kubecosm.api.names import (
    ANNOTATION_JOB_COMPLETION_INDEX,
    ANNOTATION_JOB_INDEX_FAILURE_COUNT,
    ANNOTATION_JOB_INDEX_IGNORED_FAILURE_COUNT,
)
from kubecosm.api.resources import Object

NO_INDEX = -1
COUNT_MAX = 2**31 - 1
"""A larger number in an annotation is none of ours."""


def parse(text: str | None, completions: int) -> set[int]:
    """The indexes below `completions`; what cannot be read is passed over, as in Kubernetes."""
    found: set[int] = set()
    for part in (text or "").split(","):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            continue
        found.update(range(int(first), min(int(last if dash else first), completions - 1) + 1))
    return {index for index in found if index < completions}


def render(indexes: Iterable[int]) -> str:
    """`1,3-5,7`: neighbours are joined, two neighbours by a comma.

    >>> render({7, 1, 4, 5, 3})
    '1,3-5,7'
    """
    parts: list[str] = []
    ordered = sorted(indexes)
    position = 0
    while position < len(ordered):
        end = position
        while end + 1 < len(ordered) and ordered[end + 1] == ordered[end] + 1:
            end += 1
        first, last = ordered[position], ordered[end]
        parts.append(str(first) if first == last else f"{first},{last}" if last == first + 1 else f"{first}-{last}")
        position = end + 1
    return ",".join(parts)


def is_indexed(job: Object) -> bool:
    mode: str = job["spec"].get("completionMode", "NonIndexed")
    return mode == "Indexed"


def index_of(pod: Object) -> int:
    """The pod's completion index; NO_INDEX if it has none."""
    text = annotations_of(pod).get(ANNOTATION_JOB_COMPLETION_INDEX, "")
    return int(text) if text.isdigit() else NO_INDEX


def failure_count(pod: Object) -> int:
    """How often the pod's index had failed before it."""
    return _count(pod, ANNOTATION_JOB_INDEX_FAILURE_COUNT)


def ignored_failure_count(pod: Object) -> int:
    """The same for failures that the policy ignored."""
    return _count(pod, ANNOTATION_JOB_INDEX_IGNORED_FAILURE_COUNT)


def tries(pod: Object) -> int:
    """All failures of the pod's index before it."""
    return failure_count(pod) + ignored_failure_count(pod)


def _count(pod: Object, annotation: str) -> int:
    text = annotations_of(pod).get(annotation, "")
    return int(text) if text.isdigit() and int(text) <= COUNT_MAX else 0
