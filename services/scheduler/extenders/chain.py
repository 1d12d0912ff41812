"""All extenders in the order of the configuration: what they make of feasible nodes, scores, victims and bindings."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from kubecosm.api.resources import Object
from kubecosm.runtime.logs import get_logger

from ..framework.diagnosis import Diagnosis
from ..framework.interface import SCORE_MAX
from ..framework.status import EXTENDER, unresolvable, unschedulable
from ..plugins.preemption_choice import Candidate, importance
from ..state.nodes import NodeTable
from ..state.podinfo import PodInfo
from . import wire
from .client import HttpExtender
from .wire import ExtenderError

EXTENDER_SCORE_MAX = 10
"""Extenders score 0…10 (MaxExtenderPriority)."""
FAILURES = (ExtenderError, AttributeError, KeyError, TypeError, ValueError)
"""What an answer of the wrong shape ends in, too."""

log = get_logger("kube-scheduler")


class Extenders:
    """Asks the extenders that a pod concerns, one after the other; one that fails is passed over if it is `ignorable`."""

    def __init__(self, extenders: Sequence[HttpExtender], nodes: NodeTable) -> None:
        self._extenders, self._nodes = extenders, nodes

    def interested(self, pod: PodInfo) -> list[HttpExtender]:
        return [extender for extender in self._extenders if extender.is_interested(pod)]

    # ---- filter

    async def filter(self, pod: PodInfo, names: Sequence[str], diagnosis: Diagnosis) -> list[str]:
        """The nodes that all extenders let pass; refusals go into the diagnosis. ExtenderError if one fails that must not."""
        left = list(names)
        for extender in self.interested(pod):
            if not left:
                break
            if not extender.settings.filter_verb:
                continue
            try:
                left = await self._filter_by(extender, pod, left, diagnosis)
            except FAILURES as failed:
                if not extender.settings.ignorable:
                    raise _as_error(extender, failed) from failed
                log.warning("skipping extender as it returned an error and is ignorable", extender=extender.name, error=str(failed))
        if len(left) != len(names):
            diagnosis.unschedulable_plugins.add(EXTENDER)
        return left

    async def _filter_by(self, extender: HttpExtender, pod: PodInfo, names: list[str], diagnosis: Diagnosis) -> list[str]:
        answer = await extender.send(extender.settings.filter_verb, self._args(extender, pod, names))
        passed = wire.filtered_names(answer) or []
        known = set(names)
        for name in passed:
            if name not in known:
                raise ExtenderError(f'extender "{extender.name}" claims a filtered node "{name}" which is not found in the input node list')
        refused, hopeless = wire.failed_nodes(answer)
        rows = {name: row for row, name in enumerate(diagnosis.node_names)}
        for name in known.difference(passed):
            why = hopeless.get(name, refused.get(name, ""))
            status = unresolvable(why) if name in hopeless else unschedulable(*([why] if why else []))
            diagnosis.refuse_row(rows[name], status.of(EXTENDER))
        kept = set(passed)
        return [name for name in names if name in kept]

    def _args(self, extender: HttpExtender, pod: PodInfo, names: Sequence[str]) -> Object:
        """Names where the extender keeps nodes itself, else whole nodes."""
        if extender.settings.node_cache_capable:
            return wire.extender_args(pod.pod, None, names)
        objects = (self._nodes.objects[row] for name in names if (row := self._nodes.row_of.get(name)) is not None)
        return wire.extender_args(pod.pod, [node for node in objects if node is not None], None)

    # ---- prioritize

    async def prioritize(self, pod: PodInfo, names: Sequence[str]) -> dict[str, int]:
        """What to add to each node's total; extenders that fail say nothing."""
        chosen = [extender for extender in self.interested(pod) if extender.settings.prioritize_verb]
        async with asyncio.TaskGroup() as tasks:
            answers = [tasks.create_task(self._priorities_of(extender, pod, names), name="prioritize") for extender in chosen]
        total: dict[str, int] = {}
        for extender, scores in zip(chosen, answers, strict=True):
            for name, score in scores.result().items():
                total[name] = total.get(name, 0) + score * extender.settings.weight * (SCORE_MAX // EXTENDER_SCORE_MAX)
        return total

    async def _priorities_of(self, extender: HttpExtender, pod: PodInfo, names: Sequence[str]) -> dict[str, int]:
        try:
            return wire.priorities(await extender.send(extender.settings.prioritize_verb, self._args(extender, pod, names)))
        except FAILURES as failed:
            log.info("failed to run extender's priority function; no score given by it", extender=extender.name, error=str(failed))
            return {}

    # ---- preempt

    async def preempt(self, pod: PodInfo, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The candidates as the extenders want them, perhaps with other victims. ExtenderError if one fails that must not."""
        left = {self._nodes.names[candidate.row]: candidate for candidate in candidates}
        for extender in self.interested(pod):
            if not extender.settings.preempt_verb or not left:
                continue
            try:
                left = await self._preempt_by(extender, pod, left)
            except FAILURES as failed:
                if not extender.settings.ignorable:
                    raise _as_error(extender, failed) from failed
                log.info("skipped extender as it returned error and has ignorable flag set", extender=extender.name, error=str(failed))
        return list(left.values())

    async def _preempt_by(self, extender: HttpExtender, pod: PodInfo, candidates: Mapping[str, Candidate]) -> dict[str, Candidate]:
        told = {name: ([v.pod for v in candidate.victims], candidate.violations) for name, candidate in candidates.items()}
        body = wire.victims_args(pod.pod, told, uids_only=extender.settings.node_cache_capable)
        answer = wire.meta_victims(await extender.send(extender.settings.preempt_verb, body))
        left: dict[str, Candidate] = {}
        for node, (uids, violations) in answer.items():
            if uids:
                left[node] = self._candidate(extender, node, uids, violations)
            elif not extender.settings.ignorable:
                raise ExtenderError(f'expected at least one victim pod on node "{node}"')
        return left

    def _candidate(self, extender: HttpExtender, node: str, uids: Sequence[str], violations: int) -> Candidate:
        row = self._nodes.row_of.get(node)
        placed = self._nodes.pods[row] if row is not None else {}
        for uid in uids:
            if uid not in placed:
                raise ExtenderError(
                    f"extender: {extender.name} claims to preempt pod (UID: {uid}) on node: {node}, but the pod is not found on that node"
                )
        assert row is not None, "a node with pods has a row"
        return Candidate(row, tuple(sorted((placed[uid] for uid in uids), key=importance)), violations)

    # ---- bind

    async def bind(self, pod: PodInfo, node: str) -> bool:
        """Whether an extender has bound the pod; False leaves it to the plugins. ExtenderError if one failed that must not."""
        for extender in self.interested(pod):
            if not extender.settings.bind_verb:
                continue
            try:
                await extender.send(extender.settings.bind_verb, wire.binding_args(pod.namespace, pod.name, pod.uid, node))
                return True
            except FAILURES as failed:
                if not extender.settings.ignorable:
                    raise _as_error(extender, failed) from failed
                log.info("skipping extender in bind as it returned error and is ignorable", extender=extender.name, error=str(failed))
        return False


def _as_error(extender: HttpExtender, failed: Exception) -> ExtenderError:
    if isinstance(failed, ExtenderError):
        return failed
    return ExtenderError(f"extender {extender.name} gave an answer of the wrong form: {failed!r}")
