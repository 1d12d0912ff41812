"""CSR approving controller: approves client certificates that kubelets ask for, if their users may.

Watches CertificateSigningRequests. Writes their approval, asks for SubjectAccessReviews. Imitates pkg/controller/certificates/approver.
"""

from __future__ import annotations

from kubecosm.api.certificates import (
    APPROVED,
    DENIED,
    CertificateRequest,
    RequestError,
    decode_request,
    has_condition,
    kubelet_client_complaint,
)
from kubecosm.api.errors import Conflict, NotFound
from kubecosm.api.meta import Key
from kubecosm.api.names import SIGNER_KUBELET_CLIENT
from kubecosm.api.resources import CERTIFICATESIGNINGREQUESTS, Object, builtin
from kubecosm.api.times import format_time
from kubecosm.client.controller import Context, ControllerSpec, ReconcileError, Result, done

RETRY_SECONDS = (0.2, 1000.0)
ACCESS_REVIEWS = builtin("authorization.k8s.io", "v1", "subjectaccessreviews")
SELF, ANY = "selfnodeclient", "nodeclient"
MESSAGES = {
    SELF: "Auto approving self kubelet client certificate after SubjectAccessReview.",
    ANY: "Auto approving kubelet client certificate after SubjectAccessReview.",
}


def plan_permissions(csr: Object, request: CertificateRequest) -> tuple[str, ...]:
    """The subresources of certificatesigningrequests that the requester may need `create` on, first come first; none: not ours."""
    spec = csr["spec"]
    if spec.get("signerName") != SIGNER_KUBELET_CLIENT or kubelet_client_complaint(request, spec.get("usages") or ()):
        return ()
    return (SELF, ANY) if spec.get("username") == request.common_name else (ANY,)


def plan_review(csr: Object, subresource: str) -> Object:
    """May the requester have such certificates?"""
    spec = csr["spec"]
    row = CERTIFICATESIGNINGREQUESTS
    attributes = {"group": row.group, "resource": row.plural, "verb": "create", "version": "*"}
    who = {"user": spec.get("username", ""), "uid": spec.get("uid", "")}
    who |= {"groups": spec.get("groups") or [], "extra": spec.get("extra") or {}}
    return {
        "apiVersion": ACCESS_REVIEWS.api_version, "kind": ACCESS_REVIEWS.kind,
        "spec": {**who, "resourceAttributes": {**attributes, "subresource": subresource}},
    }  # fmt: skip


def plan_approval(csr: Object, subresource: str, now: str) -> Object:
    """The approved request."""
    condition = {"type": APPROVED, "status": "True", "reason": "AutoApproved", "message": MESSAGES[subresource], "lastUpdateTime": now}
    status = csr.get("status") or {}
    return {**csr, "status": {**status, "conditions": [*(status.get("conditions") or ()), condition]}}


async def reconcile(ctx: Context, key: Key) -> Result:
    csr = ctx.cache(CERTIFICATESIGNINGREQUESTS).get(key)
    if csr is None or (csr.get("status") or {}).get("certificate") or has_condition(csr, APPROVED) or has_condition(csr, DENIED):
        return done()
    if csr["spec"].get("signerName") != SIGNER_KUBELET_CLIENT:
        return done()
    try:
        request = decode_request(csr["spec"].get("request") or "")
    except RequestError as error:
        raise ReconcileError(f'unable to parse csr "{key.name}": {error}') from error
    permissions = plan_permissions(csr, request)
    for subresource in permissions:
        review = await ctx.client.create(ACCESS_REVIEWS, plan_review(csr, subresource))
        if (review.get("status") or {}).get("allowed"):
            approved = plan_approval(csr, subresource, format_time(ctx.clock.now()))
            try:
                ctx.expect_written(await ctx.client.update(CERTIFICATESIGNINGREQUESTS, approved, subresource="approval"))
            except (Conflict, NotFound):
                return done()  # its change or end wakes us
            return done()
    if permissions:
        raise ReconcileError(f'recognized csr "{key.name}" as {list(permissions)} but subject access review was not approved')
    return done()


SPEC = ControllerSpec(
    name="certificate_approving",
    component="certificate-controller",
    primary=CERTIFICATESIGNINGREQUESTS,
    workers=1,
    retry_seconds=RETRY_SECONDS,
)
