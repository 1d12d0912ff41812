"""Node groups: how many nodes of which shape there may be. Read from the ConfigMap kube-system/cluster-autoscaler-node-groups. Pure.

data:
  groups.yaml: |
    - name: large
      minSize: 0
      maxSize: 10
      price: 0.5           # of a node and hour, for the price expander; left out: by CPU and memory
      template:            # a Node without a name
        metadata: {labels: {pool: large}}
        spec: {taints: [{key: dedicated, value: large, effect: NoSchedule}]}
        status: {capacity: {cpu: "16", memory: 64Gi, pods: "110"}}
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kubecosm.api.meta import is_deleting, labels_of
from kubecosm.api.names import LABEL_HOSTNAME, LABEL_NODE_GROUP, LABEL_SIMULATED
from kubecosm.api.quantity import Quantity, QuantityError
from kubecosm.api.resources import Object

CONFIG_MAP, CONFIG_KEY = "cluster-autoscaler-node-groups", "groups.yaml"
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?\Z")
PODS_DEFAULT = "110"
EXAMPLE = "expected a list of {name, minSize, maxSize, template}"


class GroupsError(ValueError):
    """The ConfigMap does not describe groups; the message says what to do."""


@dataclass(frozen=True)
class NodeGroup:
    """Between `minimum` and `maximum` nodes made from one template."""

    name: str
    minimum: int
    maximum: int
    template: Object
    price: float | None = None
    """What a node costs an hour; None: what its CPU and memory usually cost."""

    def node(self, name: str) -> Object:
        """A Node of the group, ready to be created."""
        meta = self.template.get("metadata") or {}
        labels = {**(meta.get("labels") or {}), LABEL_SIMULATED: "true", LABEL_NODE_GROUP: self.name, LABEL_HOSTNAME: name}
        metadata: Object = {"name": name, "labels": labels}
        if meta.get("annotations"):
            metadata["annotations"] = meta["annotations"]
        capacity = {"pods": PODS_DEFAULT, **self.template["status"]["capacity"]}
        return {
            "apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": dict(self.template.get("spec") or {}),
            "status": {"capacity": capacity, "allocatable": capacity},
        }  # fmt: skip

    def members(self, nodes: Iterable[Object]) -> list[Object]:
        return [node for node in nodes if labels_of(node).get(LABEL_NODE_GROUP) == self.name and not is_deleting(node)]


def plan_groups(data: Object | None) -> tuple[NodeGroup, ...]:
    """The groups that a ConfigMap's data describes. Raises GroupsError."""
    text = (data or {}).get(CONFIG_KEY)
    if text is None:
        raise GroupsError(f"{CONFIG_KEY} is missing: {EXAMPLE}")
    import yaml  # rarely needed

    try:
        listed = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise GroupsError(f"{CONFIG_KEY} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(listed, list):
        raise GroupsError(f"{CONFIG_KEY}: {EXAMPLE}")
    groups = tuple(_group(raw) for raw in listed)
    names = [group.name for group in groups]
    if len(set(names)) < len(names):
        raise GroupsError(f"{CONFIG_KEY}: two groups have one name, of {', '.join(names)}")
    return groups


def _group(raw: object) -> NodeGroup:
    if not isinstance(raw, dict) or not isinstance(raw.get("name"), str) or not NAME.match(raw["name"]):
        raise GroupsError(f"{CONFIG_KEY}: each group needs a `name` of lower case letters, digits and dashes")
    name, low, high, template = raw["name"], raw.get("minSize", 0), raw.get("maxSize"), raw.get("template")
    if not isinstance(low, int) or not isinstance(high, int) or not 0 <= low <= high:
        raise GroupsError(f"group {name}: minSize and maxSize must be whole numbers with 0 <= minSize <= maxSize")
    capacity = ((template.get("status") or {}).get("capacity") if isinstance(template, dict) else None) or {}
    if not isinstance(capacity, dict) or "cpu" not in capacity or "memory" not in capacity:
        raise GroupsError(f"group {name}: template.status.capacity must name at least cpu and memory")
    try:
        quantities = {resource: str(Quantity.of(value)) for resource, value in capacity.items()}
    except (QuantityError, TypeError) as error:
        raise GroupsError(f"group {name}: template.status.capacity: {error}") from error
    price = raw.get("price")
    if price is not None and (isinstance(price, bool) or not isinstance(price, int | float) or price < 0):
        raise GroupsError(f"group {name}: price must be a number that is not negative")
    return NodeGroup(name, low, high, {**raw["template"], "status": {"capacity": quantities}}, price)


def ordered(groups: Sequence[NodeGroup]) -> list[NodeGroup]:
    return sorted(groups, key=lambda group: group.name)
