"""What a list or watch asks for: a namespace, a name, label and field requirements."""

from __future__ import annotations

from dataclasses import dataclass

from kubecosm.api.selectors import ALL_FIELDS, EVERYTHING, FieldSelector, LabelSelector

from .entry import AttributesOf, Entry

NODE_NAME = "spec.nodeName"
"""The field by which watches are indexed besides namespace and name: every kubelet watches the pods of its node."""


@dataclass(frozen=True)
class Selection:
    """Empty namespace: all of them. Equal selections see the same events, so they share the work."""

    namespace: str = ""
    labels: LabelSelector = EVERYTHING
    fields: FieldSelector = ALL_FIELDS

    @property
    def name(self) -> str | None:
        """The one name that can match, if the fields demand one."""
        return self.fields.exact_value("metadata.name")

    @property
    def node_name(self) -> str | None:
        return self.fields.exact_value(NODE_NAME)

    @property
    def is_plain(self) -> bool:
        """Only the namespace matters."""
        return self.labels.is_everything and self.fields.is_everything

    def matches(self, entry: Entry, attributes_of: AttributesOf) -> bool:
        """Whether an object belongs; the namespace included."""
        if self.namespace and not entry.key.startswith(self.namespace + "/"):
            return False
        if self.is_plain:
            return True
        labels, fields = entry.attributes(attributes_of)
        return self.labels.matches(labels) and self.fields.matches(fields)
