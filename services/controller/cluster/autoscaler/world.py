"""Nodes with their pods, and who is in which topology domain: for pods that must be near to, or away from, others. Pure.

Imitates what cluster-autoscaler asks PodTopologySpread and InterPodAffinity. Left out: namespace selectors but the empty one, which means
all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from kubecosm.api.meta import is_deleting, labels_of
from kubecosm.api.resources import Object
from kubecosm.api.selectors import LabelSelector, from_label_selector

from ...common.nodes import matches_node
from .simulation import ANTI_AFFINITY, Ask, Room, why_not

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
SKEWED = "node(s) didn't match pod topology spread constraints"
NO_LABEL = "node(s) didn't match pod topology spread constraints (missing required label)"
AFFINITY = "node(s) didn't match pod affinity rules"
EXISTING = "node(s) didn't satisfy existing pods anti-affinity rules"


class Query(NamedTuple):
    """Pods of these namespaces (None: of all) that the selector matches, counted by the values of a label of their nodes."""

    namespaces: frozenset[str] | None
    selector: LabelSelector
    key: str

    def about(self, pod: Object) -> bool:
        inside = self.namespaces is None or pod["metadata"]["namespace"] in self.namespaces
        return inside and self.selector.matches(labels_of(pod))


class Spread(NamedTuple):
    query: Query
    max_skew: int
    min_domains: int
    everywhere: bool
    """Nodes that the pod may not use count, too."""


class Wishes(NamedTuple):
    """What a pod demands of the pods around it."""

    spread: tuple[Spread, ...]
    near: tuple[Query, ...]
    apart: tuple[Query, ...]

    @staticmethod
    def of(pod: Object) -> Wishes:
        spec, affinity = pod["spec"], pod["spec"].get("affinity") or {}
        hard = (one for one in spec.get("topologySpreadConstraints") or () if one.get("whenUnsatisfiable") == "DoNotSchedule")
        spread = (
            Spread(_query(one, pod), one["maxSkew"], one.get("minDomains") or 1, one.get("nodeAffinityPolicy") == "Ignore") for one in hard
        )
        kinds = ("podAffinity", "podAntiAffinity")
        near, apart = (tuple(_query(term, pod) for term in (affinity.get(kind) or {}).get(REQUIRED) or ()) for kind in kinds)
        return Wishes(tuple(spread), near, apart)


class World:
    """Counts are made when first asked for, and follow what is placed from then on."""

    def __init__(self, rooms: Iterable[Room]) -> None:
        self.rooms = list(rooms)
        self._counts: dict[Query, Counter[str]] = {}
        self._refusals: dict[Query, Counter[str]] | None = None
        self._wishes: dict[int, Wishes] = {}
        self._domains: dict[tuple[int, Spread], tuple[int, frozenset[str]]] = {}
        """(pod, constraint) → the domains there were when there were so many rooms. Pods are told apart by `id`: they outlive a plan."""

    def fork(self) -> World:
        """To try things: rooms that are added and pods that are placed there leave this world as it is."""
        other = World(self.rooms)
        other._counts = {query: counts.copy() for query, counts in self._counts.items()}
        other._refusals = {query: counts.copy() for query, counts in self._refusals.items()} if self._refusals is not None else None
        return other

    def take(self, ask: Ask, room: Room) -> None:
        """Place a pod."""
        room.take(ask)
        labels = labels_of(room.node)
        for query, counts in self._counts.items():
            if query.key in labels and query.about(ask.pod):
                counts[labels[query.key]] += 1
        if self._refusals is not None:
            _note_refusals(self._refusals, ask.pod, labels)

    def place(self, asks: Iterable[Ask], rooms: Sequence[Room] | None = None) -> tuple[list[Ask], list[tuple[Ask, Counter[str]]]]:
        """First fit: (those that found a room, and took it; those that did not, with how often which reason spoke against it)."""
        placed, left = [], []
        for ask in asks:
            reasons: Counter[str] = Counter()
            for room in self.rooms if rooms is None else rooms:
                reason = self.why_not(ask, room)
                if reason is None:
                    self.take(ask, room)
                    placed.append(ask)
                    break
                reasons[reason] += 1
            else:
                left.append((ask, reasons))
        return placed, left

    def why_not(self, ask: Ask, room: Room) -> str | None:
        """Why the pod does not fit, in the scheduler's words; None if it does."""
        return why_not(ask, room) or self._why_apart(ask.pod, labels_of(room.node))

    def _why_apart(self, pod: Object, labels: Mapping[str, str]) -> str | None:
        wishes = self._wishes.get(id(pod))
        if wishes is None:
            wishes = self._wishes[id(pod)] = Wishes.of(pod)
        for spread in wishes.spread:
            if why := self._why_skewed(pod, spread, labels):
                return why
        if not self._finds_company(pod, wishes.near, labels):
            return AFFINITY
        if any(self._count(query)[labels.get(query.key, "")] for query in wishes.apart):
            return ANTI_AFFINITY
        refused = any(query.about(pod) and counts[labels.get(query.key, "")] for query, counts in self._refused_by().items())
        return EXISTING if refused else None

    def _why_skewed(self, pod: Object, spread: Spread, labels: Mapping[str, str]) -> str | None:
        key = spread.query.key
        if key not in labels:
            return NO_LABEL
        counts, domains = self._count(spread.query), self._domains_of(pod, spread) | {labels[key]}
        fewest = min(counts[domain] for domain in domains) if len(domains) >= spread.min_domains else 0
        after = counts[labels[key]] + (1 if spread.query.about(pod) else 0)
        return SKEWED if after - fewest > spread.max_skew else None

    def _domains_of(self, pod: Object, spread: Spread) -> frozenset[str]:
        """The values of nodes that the pod may use; of all nodes if the constraint says so."""
        known = self._domains.get((id(pod), spread))
        if known is None or known[0] != len(self.rooms):
            found = frozenset(
                value for room in self.rooms
                if (value := labels_of(room.node).get(spread.query.key)) is not None
                and (spread.everywhere or matches_node(pod["spec"], room.node))
            )  # fmt: skip
            known = self._domains[id(pod), spread] = len(self.rooms), found
        return known[1]

    def _finds_company(self, pod: Object, queries: Sequence[Query], labels: Mapping[str, str]) -> bool:
        """The first of pods that want to be together may go anywhere."""
        if all(query.key in labels and self._count(query)[labels[query.key]] for query in queries):
            return True
        alone = not any(self._count(query).total() for query in queries)
        return alone and all(query.key in labels and query.about(pod) for query in queries)

    def _count(self, query: Query) -> Counter[str]:
        counts = self._counts.get(query)
        if counts is None:
            counts = self._counts[query] = Counter()
            for room in self.rooms:
                value = labels_of(room.node).get(query.key)
                if value is not None:
                    counts[value] += sum(query.about(pod) and not is_deleting(pod) for pod in room.pods)
        return counts

    def _refused_by(self) -> dict[Query, Counter[str]]:
        """What the placed pods do not want near, and in which domains they are."""
        if self._refusals is None:
            self._refusals = {}
            for room in self.rooms:
                for pod in room.pods:
                    _note_refusals(self._refusals, pod, labels_of(room.node))
        return self._refusals


def _note_refusals(refusals: dict[Query, Counter[str]], pod: Object, labels: Mapping[str, str]) -> None:
    for term in ((pod["spec"].get("affinity") or {}).get("podAntiAffinity") or {}).get(REQUIRED) or ():
        if term["topologyKey"] in labels:
            refusals.setdefault(_query(term, pod), Counter())[labels[term["topologyKey"]]] += 1


def _query(term: Object, pod: Object) -> Query:
    """The pods that a term, or a constraint, of this pod is about."""
    own = pod["metadata"]["namespace"]
    everywhere = term.get("namespaceSelector") == {}
    selector = term.get("labelSelector")
    labels = labels_of(pod)
    if selector is not None and (keys := [key for key in term.get("matchLabelKeys") or () if key in labels]):
        more = [{"key": key, "operator": "In", "values": [labels[key]]} for key in keys]
        selector = {**selector, "matchExpressions": [*(selector.get("matchExpressions") or ()), *more]}
    return Query(None if everywhere else frozenset(term.get("namespaces") or [own]), from_label_selector(selector), term["topologyKey"])
