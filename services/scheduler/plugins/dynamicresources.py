"""DynamicResources, as far as pods without resource claims see it. Allocating claims is left out: such pods stay pending and say why."""

from __future__ import annotations

from ..framework.diagnosis import Diagnosis
from ..framework.handle import Handle
from ..framework.interface import CycleState, PostFilterResult
from ..framework.status import SKIP_STATUS, Status, unresolvable, unschedulable
from ..state.podinfo import PodInfo

NOTHING_TO_DEALLOCATE = "no new claims to deallocate"
NOT_SUPPORTED = "resource claims are not allocated by this scheduler"


class DynamicResources:
    name = "DynamicResources"

    def __init__(self, handle: Handle) -> None:
        pass

    def pre_filter(self, state: CycleState, pod: PodInfo) -> Status | None:
        return unresolvable(NOT_SUPPORTED) if pod.pod["spec"].get("resourceClaims") else SKIP_STATUS

    def post_filter(self, state: CycleState, pod: PodInfo, diagnosis: Diagnosis) -> PostFilterResult:
        return PostFilterResult(status=unschedulable(NOTHING_TO_DEALLOCATE))
