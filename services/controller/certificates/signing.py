"""CSR signing controller: issues what was approved, for Kubernetes' own four signers, with the cluster's authority.

Watches CertificateSigningRequests. Writes their status. Imitates pkg/controller/certificates/signer.
"""

from __future__ import annotations

import base64
from datetime import timedelta

from kubecosm.api.certificates import APPROVED, DENIED, FAILED, RequestError, complaint_of_signer, decode_request, has_condition
from kubecosm.api.errors import Conflict, NotFound
from kubecosm.api.meta import Key
from kubecosm.api.names import SIGNER_API_CLIENT, SIGNER_KUBELET_CLIENT, SIGNER_KUBELET_SERVING, SIGNER_LEGACY_UNKNOWN
from kubecosm.api.resources import CERTIFICATESIGNINGREQUESTS, Object
from kubecosm.api.times import format_time
from kubecosm.client.controller import Context, ControllerSpec, ReconcileError, Result, done
from kubecosm.runtime.errors import check_pem

from ..config import Config
from .authority import Authority, plan_lifetime

RETRY_SECONDS = (0.2, 1000.0)
SIGNERS = frozenset((SIGNER_API_CLIENT, SIGNER_KUBELET_CLIENT, SIGNER_KUBELET_SERVING, SIGNER_LEGACY_UNKNOWN))


def is_wanted(csr: Object) -> bool:
    """Approved, for one of our signers, and neither issued nor failed."""
    if csr["spec"].get("signerName") not in SIGNERS or (csr.get("status") or {}).get("certificate"):
        return False
    return has_condition(csr, APPROVED) and not has_condition(csr, DENIED) and not has_condition(csr, FAILED)


def plan_issued(csr: Object, certificate: bytes) -> Object:
    return {**csr, "status": {**(csr.get("status") or {}), "certificate": base64.b64encode(certificate).decode()}}


def plan_failed(csr: Object, why: str, now: str) -> Object:
    """The request with the condition that ends it."""
    condition = {"type": FAILED, "status": "True", "reason": "SignerValidationFailure", "message": why, "lastUpdateTime": now}
    status = csr.get("status") or {}
    return {**csr, "status": {**status, "conditions": [*(status.get("conditions") or ()), condition]}}


class Signing:
    """The controller; `SPEC` and `reconcile` are what the runner asks for."""

    def __init__(self, authority: Authority | None, most: timedelta) -> None:
        self.SPEC = SPEC
        self._authority = authority
        self._most = most

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        csr = ctx.cache(CERTIFICATESIGNINGREQUESTS).get(key)
        if csr is None or self._authority is None or not is_wanted(csr):
            return done()
        spec = csr["spec"]
        try:
            request = decode_request(spec.get("request") or "")
        except RequestError as error:
            raise ReconcileError(f'unable to parse csr "{key.name}": {error}') from error
        usages = spec.get("usages") or ()
        complaint = complaint_of_signer(spec["signerName"], request, usages)
        if complaint:
            changed = plan_failed(csr, complaint, format_time(ctx.clock.now()))
        else:
            lifetime = plan_lifetime(spec.get("expirationSeconds"), self._most)
            changed = plan_issued(csr, self._authority.sign(request, usages, lifetime, ctx.clock.now()))
        try:
            ctx.expect_written(await ctx.client.update(CERTIFICATESIGNINGREQUESTS, changed, subresource="status"))
        except (Conflict, NotFound):
            return done()  # its change or end wakes us
        return done()


SPEC = ControllerSpec(
    name="certificate", component="certificate-controller", primary=CERTIFICATESIGNINGREQUESTS, workers=5, retry_seconds=RETRY_SECONDS
)


def build(config: Config) -> Signing:
    """Without an authority nothing is signed, as in Kubernetes. StartupError when its files are not there."""
    files = config.cluster_signing_cert_file, config.cluster_signing_key_file
    check_pem("--cluster-signing-cert-file", files[0])
    check_pem("--cluster-signing-key-file", files[1])
    return Signing(Authority(*files) if all(files) else None, timedelta(seconds=config.cluster_signing_duration))
