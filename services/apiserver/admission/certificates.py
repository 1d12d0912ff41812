"""Who may approve, sign and vouch for what, signer by signer; and what no signer may be asked for.

Imitates plugin/pkg/admission/certificates. Permissions are asked of the authorizer as verbs on the synthetic resource `signers`.
"""

from __future__ import annotations

from collections.abc import Awaitable

from kubecosm.api.certificates import RequestError, decode_request
from kubecosm.api.field import go_quote
from kubecosm.api.names import SIGNER_API_CLIENT
from kubecosm.api.resources import CERTIFICATESIGNINGREQUESTS, Object, Resource

from ..authn.user import GROUP_MASTERS, User
from ..authz.attributes import Attributes as Asked
from ..authz.attributes import Decision, decide
from ..state import State
from .chain import CREATE, UPDATE, Attributes, Plugin
from .refusal import refuse

GROUP = "certificates.k8s.io"
TRUST_BUNDLES = "clustertrustbundles"


async def may_use_signer(state: State, user: User, verb: str, signer: str) -> bool:
    """Whether a user may do something with a signer, by its name or by its domain (`example.com/*`)."""
    if state.authorizer is None:
        return True
    for name in (signer, f"{signer.partition('/')[0]}/*"):
        asked = Asked(user, verb, group=GROUP, version="*", resource="signers", name=name)
        if (await decide(state.authorizer, asked))[0] is Decision.ALLOW:
            return True
    return False


class _OfSigners(Plugin):
    """The common part: a verb that the caller needs for the request's signer."""

    verb = ""
    doing = ""

    def __init__(self, state: State) -> None:
        self._state = state

    async def _check(self, attributes: Attributes, signer: str) -> None:
        if not await may_use_signer(self._state, attributes.user, self.verb, signer):
            raise refuse(attributes, f"user not permitted to {self.doing} with signerName {go_quote(signer)}")


class CertificateApproval(_OfSigners):
    """Approving and denying needs the verb `approve`."""

    name, verb, doing = "CertificateApproval", "approve", "approve requests"
    operations = (UPDATE,)

    def handles(self, resource: Resource, subresource: str) -> bool:
        return resource == CERTIFICATESIGNINGREQUESTS and subresource == "approval"

    def validate(self, attributes: Attributes) -> Awaitable[None] | None:
        assert attributes.old is not None
        return self._check(attributes, attributes.old["spec"].get("signerName", ""))


class CertificateSigning(_OfSigners):
    """Issuing a certificate, and saying that it failed, needs the verb `sign`."""

    name, verb, doing = "CertificateSigning", "sign", "sign requests"
    operations = (UPDATE,)

    def handles(self, resource: Resource, subresource: str) -> bool:
        return resource == CERTIFICATESIGNINGREQUESTS and subresource == "status"

    def validate(self, attributes: Attributes) -> Awaitable[None] | None:
        assert attributes.old is not None
        assert attributes.obj is not None
        now, before = attributes.obj.get("status") or {}, attributes.old.get("status") or {}
        if all((now.get(field) or None) == (before.get(field) or None) for field in ("certificate", "conditions")):
            return None
        return self._check(attributes, attributes.old["spec"].get("signerName", ""))


class ClusterTrustBundleAttest(_OfSigners):
    """Vouching for a signer's trust anchors needs the verb `attest`."""

    name, verb, doing = "ClusterTrustBundleAttest", "attest", "attest"
    operations = (CREATE, UPDATE)

    def handles(self, resource: Resource, subresource: str) -> bool:
        return resource.group == GROUP and resource.plural == TRUST_BUNDLES and not subresource

    def validate(self, attributes: Attributes) -> Awaitable[None] | None:
        obj, old = attributes.obj, attributes.old
        signer = ((obj or {}).get("spec") or {}).get("signerName", "")
        if obj is None or not signer:
            return None
        if old is not None and _without_owners(obj) == _without_owners(old):
            return None
        return self._attest(attributes, signer)

    async def _attest(self, attributes: Attributes, signer: str) -> None:
        if not await may_use_signer(self._state, attributes.user, self.verb, signer):
            raise refuse(attributes, f"user not permitted to attest for signerName {go_quote(signer)}")


def _without_owners(bundle: Object) -> Object:
    """All but what garbage collection changes."""
    changed = ("ownerReferences", "finalizers", "managedFields", "resourceVersion")
    return {**bundle, "metadata": {key: value for key, value in bundle["metadata"].items() if key not in changed}}


class CertificateSubjectRestriction(Plugin):
    """Nobody gets a client certificate of system:masters by asking for it."""

    name = "CertificateSubjectRestriction"
    operations = (CREATE,)

    def handles(self, resource: Resource, subresource: str) -> bool:
        return resource == CERTIFICATESIGNINGREQUESTS and not subresource

    def validate(self, attributes: Attributes) -> Awaitable[None] | None:
        spec = (attributes.obj or {}).get("spec") or {}
        if spec.get("signerName") != SIGNER_API_CLIENT:
            return None
        try:
            request = decode_request(spec.get("request") or "")
        except RequestError as error:
            raise refuse(attributes, f"failed to parse CSR: {error}") from error
        if GROUP_MASTERS in request.organizations:
            raise refuse(attributes, f"use of {SIGNER_API_CLIENT} signer with {GROUP_MASTERS} group is not allowed")
        return None
