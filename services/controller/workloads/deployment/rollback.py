"""Rolling a Deployment back because its annotation asks for it, as clients of extensions/v1beta1 did; kubectl writes the old template.

Pure functions. Imitates pkg/controller/deployment/rollback.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kubecosm.api.meta import annotations_of
from kubecosm.api.names import ANNOTATION_DEPLOYMENT_ROLLBACK_TO
from kubecosm.api.resources import Object

from .replicasets import ANNOTATIONS_NOT_COPIED, revision_of, same_template, without_hash

REVISION_NOT_FOUND = "DeploymentRollbackRevisionNotFound"


@dataclass(frozen=True)
class Rollback:
    """The Deployment as it shall be written, and the event that tells of it."""

    deployment: Object
    type: str
    reason: str
    message: str


def wanted_revision(deployment: Object) -> int | None:
    """The revision that the annotation names, 0 for the last one before the newest; None if there is no number in it."""
    text = annotations_of(deployment).get(ANNOTATION_DEPLOYMENT_ROLLBACK_TO, "")
    return int(text) if text.isascii() and text.isdigit() else None


def plan_rollback(deployment: Object, replicasets: Sequence[Object], revision: int) -> Rollback:
    """The Deployment with the template of the revision, if there is one and it is another; the annotation goes in any case."""
    if revision == 0:
        revision = _last_revision(replicasets)
        if revision == 0:
            return Rollback(_cleared(deployment), "Warning", REVISION_NOT_FOUND, "Unable to find last revision.")
    found = next((rs for rs in replicasets if revision_of(rs) == revision), None)
    if found is None:
        return Rollback(_cleared(deployment), "Warning", REVISION_NOT_FOUND, "Unable to find the revision to rollback to.")
    name, template = deployment["metadata"]["name"], found["spec"]["template"]
    if same_template(deployment["spec"]["template"], template):
        message = f'The rollback revision contains the same template as current deployment "{name}"'
        return Rollback(_cleared(deployment), "Warning", "DeploymentRollbackTemplateUnchanged", message)
    kept = {key: value for key, value in annotations_of(deployment).items() if key in ANNOTATIONS_NOT_COPIED}
    old = {key: value for key, value in annotations_of(found).items() if key not in ANNOTATIONS_NOT_COPIED}
    meta, spec = {**deployment["metadata"], "annotations": {**kept, **old}}, {**deployment["spec"], "template": without_hash(template)}
    message = f'Rolled back deployment "{name}" to revision {revision}'
    return Rollback(_cleared({**deployment, "metadata": meta, "spec": spec}), "Normal", "DeploymentRollback", message)


def _last_revision(replicasets: Sequence[Object]) -> int:
    """The second highest revision; 0 if there are not two."""
    revisions = sorted((revision_of(rs) for rs in replicasets), reverse=True)
    return revisions[1] if len(revisions) > 1 else 0


def _cleared(deployment: Object) -> Object:
    annotations = {key: value for key, value in annotations_of(deployment).items() if key != ANNOTATION_DEPLOYMENT_ROLLBACK_TO}
    return {**deployment, "metadata": {**deployment["metadata"], "annotations": annotations}}
