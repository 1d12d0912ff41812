"""Which ReplicaSet is the new one, which are old; revisions, annotations, and the ReplicaSet a template becomes.

Pure functions. Imitates pkg/controller/deployment/util/deployment_util.go and sync.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kubecosm.api.meta import annotations_of, controller_ref
from kubecosm.api.names import (
    ANNOTATION_DEPLOYMENT_DESIRED_REPLICAS,
    ANNOTATION_DEPLOYMENT_MAX_REPLICAS,
    ANNOTATION_DEPLOYMENT_REVISION,
    ANNOTATION_DEPLOYMENT_REVISION_HISTORY,
    ANNOTATION_DEPLOYMENT_ROLLBACK_TO,
    ANNOTATION_LAST_APPLIED,
    LABEL_POD_TEMPLATE_HASH,
)
from kubecosm.api.resources import DEPLOYMENTS, Object

from ...common.fenceposts import fenceposts
from ...common.gotext import template_hash

REVISION_HISTORY_LENGTH_MAX = 2000
"""Characters of the revision-history annotation; the oldest revisions are cut."""
NAME_LENGTH_MAX = 253

ANNOTATIONS_NOT_COPIED = frozenset({
    ANNOTATION_LAST_APPLIED, ANNOTATION_DEPLOYMENT_REVISION, ANNOTATION_DEPLOYMENT_REVISION_HISTORY,
    ANNOTATION_DEPLOYMENT_DESIRED_REPLICAS, ANNOTATION_DEPLOYMENT_MAX_REPLICAS, ANNOTATION_DEPLOYMENT_ROLLBACK_TO,
})  # fmt: skip


def spec_replicas(obj: Object) -> int:
    count = obj["spec"].get("replicas")
    return 1 if count is None else count


def status_count(obj: Object, field: str) -> int:
    """A number of the status, 0 where it is left out."""
    return (obj.get("status") or {}).get(field) or 0


def total_spec_replicas(replicasets: Iterable[Object]) -> int:
    return sum(spec_replicas(rs) for rs in replicasets)


def total_status(replicasets: Iterable[Object], field: str) -> int:
    return sum(status_count(rs, field) for rs in replicasets)


def is_rolling(deployment: Object) -> bool:
    kind: str = (deployment["spec"].get("strategy") or {}).get("type", "RollingUpdate")
    return kind == "RollingUpdate"


def _fenceposts(deployment: Object) -> tuple[int, int]:
    rolling = (deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    return fenceposts(rolling.get("maxSurge"), rolling.get("maxUnavailable"), spec_replicas(deployment))


def max_surge(deployment: Object) -> int:
    """Pods above spec.replicas that a rolling update may have; 0 for Recreate."""
    return _fenceposts(deployment)[0] if is_rolling(deployment) else 0


def max_unavailable(deployment: Object) -> int:
    """Pods below spec.replicas that may be missing; 0 for Recreate."""
    desired = spec_replicas(deployment)
    if not is_rolling(deployment) or desired == 0:
        return 0
    return min(_fenceposts(deployment)[1], desired)


def by_age(replicasets: Iterable[Object]) -> list[Object]:
    """Oldest first; equal ages by name."""
    return sorted(replicasets, key=lambda rs: (rs["metadata"].get("creationTimestamp") or "", rs["metadata"]["name"]))


def active(replicasets: Iterable[Object]) -> list[Object]:
    """Those that shall have pods."""
    return [rs for rs in replicasets if spec_replicas(rs) > 0]


def revision_of(obj: Object) -> int:
    """The revision annotation as a number; 0 where it is absent or broken."""
    text = annotations_of(obj).get(ANNOTATION_DEPLOYMENT_REVISION, "")
    return int(text) if text.isdigit() else 0


def without_hash(template: Object) -> Object:
    """The template without the pod-template-hash label."""
    meta = {field: value for field, value in (template.get("metadata") or {}).items() if value}
    labels = {name: value for name, value in (meta.get("labels") or {}).items() if name != LABEL_POD_TEMPLATE_HASH}
    return {**template, "metadata": {**meta, "labels": labels}}


def same_template(template: Object, other: Object) -> bool:
    """Equal but for the pod-template-hash label (EqualIgnoreHash)."""
    return template.get("spec") == other.get("spec") and without_hash(template) == without_hash(other)


def split(deployment: Object, replicasets: Sequence[Object]) -> tuple[Object | None, list[Object]]:
    """(new, old): new is the oldest ReplicaSet with the Deployment's template; old are all others, oldest first."""
    ordered = by_age(replicasets)
    template = deployment["spec"]["template"]
    new = next((rs for rs in ordered if same_template(rs["spec"]["template"], template)), None)
    return new, [rs for rs in ordered if rs is not new]


def _extended_history(history: str, revision: str) -> str:
    """The history with one more revision; the oldest go when it grows too long."""
    revisions = [*(history.split(",") if history else ()), revision]
    while len(",".join(revisions)) > REVISION_HISTORY_LENGTH_MAX:
        revisions.pop(0)
    return ",".join(revisions)


def size_annotations(deployment: Object) -> dict[str, str]:
    """What a scale remembers, so that a later one can be proportional."""
    desired = spec_replicas(deployment)
    return {
        ANNOTATION_DEPLOYMENT_DESIRED_REPLICAS: str(desired),
        ANNOTATION_DEPLOYMENT_MAX_REPLICAS: str(desired + max_surge(deployment)),
    }


def plan_annotations(deployment: Object, replicaset: Object, new_revision: int, *, exists: bool) -> dict[str, str]:
    """The annotations the new ReplicaSet shall have: the Deployment's own, its revision, and the revisions it had before."""
    old = annotations_of(replicaset)
    annotations = {**old, **{name: value for name, value in annotations_of(deployment).items() if name not in ANNOTATIONS_NOT_COPIED}}
    old_revision = old.get(ANNOTATION_DEPLOYMENT_REVISION, "")
    if old_revision and not old_revision.isdigit():
        return dict(old)
    if int(old_revision or 0) < new_revision:
        annotations[ANNOTATION_DEPLOYMENT_REVISION] = str(new_revision)
        if old_revision:
            history = old.get(ANNOTATION_DEPLOYMENT_REVISION_HISTORY, "")
            annotations[ANNOTATION_DEPLOYMENT_REVISION_HISTORY] = _extended_history(history, old_revision)
    if not exists:
        annotations.update(size_annotations(deployment))
    return annotations


def next_revision(old: Iterable[Object]) -> int:
    return max((revision_of(rs) for rs in old), default=0) + 1


def new_replicas(deployment: Object, replicasets: Iterable[Object], current: int) -> int:
    """How many replicas the new ReplicaSet, now at `current`, may have beside `replicasets` (all of them, itself included)."""
    desired = spec_replicas(deployment)
    if not is_rolling(deployment):
        return desired
    room = desired + max_surge(deployment) - total_spec_replicas(replicasets)
    return current if room <= 0 else current + min(room, desired - current)


def plan_new_replicaset(deployment: Object, old: Sequence[Object]) -> Object:
    """The ReplicaSet that the Deployment's template becomes (named by its hash, which the collision count changes)."""
    meta, spec = deployment["metadata"], deployment["spec"]
    template = spec["template"]
    hash_text = template_hash(template, (deployment.get("status") or {}).get("collisionCount"))
    labels = {**((template.get("metadata") or {}).get("labels") or {}), LABEL_POD_TEMPLATE_HASH: hash_text}
    selector = spec["selector"]
    replicaset: Object = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{meta['name'][: NAME_LENGTH_MAX - len(hash_text) - 1]}-{hash_text}",
            "namespace": meta["namespace"],
            "labels": labels,
            "ownerReferences": [controller_ref(deployment, DEPLOYMENTS)],
        },
        "spec": {
            "replicas": new_replicas(deployment, old, 0),
            "selector": {**selector, "matchLabels": {**(selector.get("matchLabels") or {}), LABEL_POD_TEMPLATE_HASH: hash_text}},
            "template": {**template, "metadata": {**(template.get("metadata") or {}), "labels": labels}},
        },
    }
    if spec.get("minReadySeconds"):
        replicaset["spec"]["minReadySeconds"] = spec["minReadySeconds"]
    replicaset["metadata"]["annotations"] = plan_annotations(deployment, replicaset, next_revision(old), exists=False)
    return replicaset


def plan_cleanup(deployment: Object, old: Sequence[Object]) -> list[Object]:
    """Old ReplicaSets beyond spec.revisionHistoryLimit, lowest revisions first; never one that has or shall have pods."""
    limit = deployment["spec"].get("revisionHistoryLimit")
    if limit is None or limit == 2**31 - 1:
        return []
    alive = [rs for rs in old if "deletionTimestamp" not in rs["metadata"]]
    surplus = len(alive) - limit
    ordered = sorted(by_age(alive), key=revision_of)
    return [rs for rs in ordered[: max(surplus, 0)] if _is_empty(rs)]


def _is_empty(replicaset: Object) -> bool:
    observed = replicaset["metadata"].get("generation", 0) <= status_count(replicaset, "observedGeneration")
    return observed and spec_replicas(replicaset) == 0 and status_count(replicaset, "replicas") == 0
