"""Which nodes match a compiled node selector: a mask over all rows, cached until a label of any node changes."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from .columns import MISSING, BoolArray, LabelColumn
from .nodes import NodeTable
from .nodeselector import NodeRequirement, NodeTerm, NodeTerms, integer

CACHED_MASKS_BYTES_MAX = 8 * 1024 * 1024


class NodeMatcher:
    """Evaluates node selectors over the whole table. Masks are shared: do not write to them."""

    def __init__(self, nodes: NodeTable) -> None:
        self._nodes = nodes
        self._masks: OrderedDict[NodeTerms, BoolArray] = OrderedDict()
        self._version = (-1, -1)

    def mask(self, selector: NodeTerms) -> BoolArray:
        """True where the node satisfies `selector`; rows without a node may say anything."""
        version = (self._nodes.labels.version, self._nodes.version)
        if version != self._version:
            self._masks.clear()
            self._version = version
        mask = self._masks.get(selector)
        if mask is None:
            mask = self._masks[selector] = self._evaluate(selector)
            if len(self._masks) * self._nodes.size > CACHED_MASKS_BYTES_MAX:
                self._masks.popitem(last=False)
        return mask

    def _evaluate(self, selector: NodeTerms) -> BoolArray:
        mask = np.ones(self._nodes.size, np.bool_)
        for requirement in selector.selector:
            mask &= self._labels_match(requirement)
        if selector.terms is not None:
            any_term = np.zeros(self._nodes.size, np.bool_)
            for term in selector.terms:
                any_term |= self._term_matches(term)
            mask &= any_term
        return mask

    def _term_matches(self, term: NodeTerm) -> BoolArray:
        mask = np.ones(self._nodes.size, np.bool_)
        for requirement in term.labels:
            mask &= self._labels_match(requirement)
        for requirement in term.fields:
            mask &= self._names_match(requirement)
        return mask

    def _labels_match(self, requirement: NodeRequirement) -> BoolArray:
        column = self._nodes.labels.get(requirement.key)
        ids = column.ids
        operator = requirement.operator
        if operator == "Exists":
            return np.not_equal(ids, MISSING)
        if operator == "DoesNotExist":
            return np.equal(ids, MISSING)
        if operator == "In":
            return _in(column, requirement.values)
        if operator == "NotIn":
            return ~_in(column, requirement.values)
        return _compare(column, requirement)

    def _names_match(self, requirement: NodeRequirement) -> BoolArray:
        """metadata.name, the only field a node selector may use; others match nothing."""
        mask = np.zeros(self._nodes.size, np.bool_)
        if requirement.key != "metadata.name":
            return mask
        for name in requirement.values:
            row = self._nodes.row_of.get(name)
            if row is not None:
                mask[row] = True
        return mask if requirement.operator == "In" else ~mask


def _in(column: LabelColumn, values: tuple[str, ...]) -> BoolArray:
    ids = column.ids
    mask = np.zeros(len(ids), np.bool_)
    for value in values:
        wanted = column.id_of.get(value)
        if wanted is not None:
            mask |= ids == wanted
    return mask


def _compare(column: LabelColumn, requirement: NodeRequirement) -> BoolArray:
    """Gt and Lt: both sides must be integers; anything else matches nothing."""
    bound = integer(requirement.values[0]) if len(requirement.values) == 1 else None
    verdicts = np.zeros(len(column.values) + 1, np.bool_)
    if bound is not None and requirement.operator in ("Gt", "Lt"):
        for value, index in column.id_of.items():
            number = integer(value)
            verdicts[index] = number is not None and (number > bound if requirement.operator == "Gt" else number < bound)
    return verdicts[column.ids]
