"""Label and field selectors: the query grammar with Kubernetes' own error texts, LabelSelector objects, and fast matching.

Imitates k8s.io/apimachinery/pkg/labels and pkg/fields. A selector is parsed once and compiled to a closure over a dict. Which fields of a
kind may be selected is not decided here.
"""

from kubecosm.api.selectors.fields import ALL_FIELDS, FieldRequirement, FieldSelector, parse_fields
from kubecosm.api.selectors.grammar import parse_labels
from kubecosm.api.selectors.labels import (
    DOUBLE_EQUALS,
    EQUALS,
    EVERYTHING,
    EXISTS,
    GREATER,
    IN,
    LESS,
    NOT_EQUALS,
    NOT_EXISTS,
    NOT_IN,
    NOTHING,
    LabelSelector,
    Requirement,
    from_label_selector,
    from_labels,
    new_requirement,
    requirement_errors,
)
from kubecosm.api.selectors.matching import Labels, Match, SelectorError

__all__ = [
    "ALL_FIELDS", "DOUBLE_EQUALS", "EQUALS", "EVERYTHING", "EXISTS", "GREATER", "IN", "LESS", "NOTHING", "NOT_EQUALS",
    "NOT_EXISTS", "NOT_IN", "FieldRequirement", "FieldSelector", "LabelSelector", "Labels", "Match", "Requirement", "SelectorError",
    "from_label_selector", "from_labels", "new_requirement", "parse_fields", "parse_labels",
    "requirement_errors",
]  # fmt: skip
