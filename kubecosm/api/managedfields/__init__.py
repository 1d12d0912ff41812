"""Who owns which field: metadata.managedFields on every write, and server-side apply.

`on_create` and `on_update` record in place; `apply` merges. `manager_name` tells the manager of a request.
"""

from kubecosm.api.managedfields.apply import apply
from kubecosm.api.managedfields.entries import manager_name
from kubecosm.api.managedfields.scale import SCALES, ReplicasPaths, owners_of_scale, owners_of_workload
from kubecosm.api.managedfields.update import keep_times_if_unchanged, on_create, on_update, zero_object

__all__ = [
    "SCALES", "ReplicasPaths", "apply", "keep_times_if_unchanged", "manager_name", "on_create", "on_update", "owners_of_scale",
    "owners_of_workload", "zero_object",
]  # fmt: skip
