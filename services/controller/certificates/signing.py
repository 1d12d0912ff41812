"""CSR signing controller: issues what was approved, for Kubernetes' own four signers, with the cluster's authority or with one for each.

Watches CertificateSigningRequests. Writes their status. Imitates pkg/controller/certificates/signer.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import timedelta

from kubecosm.api.certificates import APPROVED, DENIED, FAILED, RequestError, complaint_of_signer, decode_request, has_condition
from kubecosm.api.errors import Conflict, NotFound
from kubecosm.api.meta import Key
from kubecosm.api.names import SIGNER_API_CLIENT, SIGNER_KUBELET_CLIENT, SIGNER_KUBELET_SERVING, SIGNER_LEGACY_UNKNOWN
from kubecosm.api.resources import CERTIFICATESIGNINGREQUESTS, Object
from kubecosm.api.times import format_time
from kubecosm.client.controller import Context, ControllerSpec, ReconcileError, Result, done
from kubecosm.runtime.errors import StartupError, check_pem

from ..config import Config
from .authority import Authority, plan_lifetime

RETRY_SECONDS = (0.2, 1000.0)
SIGNERS = {
    SIGNER_KUBELET_SERVING: "kubelet-serving",
    SIGNER_KUBELET_CLIENT: "kubelet-client",
    SIGNER_API_CLIENT: "kube-apiserver-client",
    SIGNER_LEGACY_UNKNOWN: "legacy-unknown",
}
"""Signer → its part of the flags --cluster-signing-…-cert-file and -key-file."""


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

    def __init__(self, authorities: Mapping[str, Authority], most: timedelta) -> None:
        """`authorities`: by signer; a signer without one issues nothing."""
        self.SPEC = SPEC
        self._authorities = authorities
        self._most = most

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        csr = ctx.cache(CERTIFICATESIGNINGREQUESTS).get(key)
        authority = self._authorities.get(csr["spec"].get("signerName", "")) if csr is not None else None
        if csr is None or authority is None or not is_wanted(csr):
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
            changed = plan_issued(csr, authority.sign(request, usages, lifetime, ctx.clock.now()))
        try:
            ctx.expect_written(await ctx.client.update(CERTIFICATESIGNINGREQUESTS, changed, subresource="status"))
        except (Conflict, NotFound):
            return done()  # its change or end wakes us
        return done()


SPEC = ControllerSpec(
    name="certificate", component="certificate-controller", primary=CERTIFICATESIGNINGREQUESTS, workers=5, retry_seconds=RETRY_SECONDS
)


def _files(config: Config, part: str) -> tuple[str, str]:
    """Certificate and key of the flags with this part, or of those without any. StartupError for one without the other."""
    flag = f"--cluster-signing-{part}-" if part else "--cluster-signing-"
    names = [f"{flag}{kind}-file" for kind in ("cert", "key")]
    certificate, key = (getattr(config, name.removeprefix("--").replace("-", "_")) for name in names)
    if bool(certificate) != bool(key):
        given, missing = names if certificate else reversed(names)
        raise StartupError(f"cannot specify {given} without {missing}")
    check_pem(names[0], certificate)
    check_pem(names[1], key)
    return certificate, key


def build(config: Config) -> Signing:
    """Without an authority nothing is signed, as in Kubernetes. StartupError when its files are not there."""
    common = _files(config, "")
    own = {signer: files for signer, part in SIGNERS.items() if all(files := _files(config, part))}
    if own and all(common):
        raise StartupError("cannot specify --cluster-signing-{cert,key}-file and other --cluster-signing-*-file flags at the same time")
    if all(common):
        authorities = dict.fromkeys(SIGNERS, Authority(*common))
    else:
        authorities = {signer: Authority(*files) for signer, files in own.items()}
    return Signing(authorities, timedelta(seconds=config.cluster_signing_duration))
