"""CSR cleaner: forgets requests that nobody needs any more.

Watches CertificateSigningRequests; deletes them: an hour after they were issued, denied or failed, a day after nobody decided on them,
and when what was issued has expired. What was approved waits for its signer for ever. Imitates pkg/controller/certificates/cleaner.
"""

from __future__ import annotations

import base64
from datetime import datetime, timedelta

from kubecosm.api.certificates import APPROVED, DENIED, FAILED
from kubecosm.api.errors import Conflict, NotFound
from kubecosm.api.meta import Key, uid_of
from kubecosm.api.resources import CERTIFICATESIGNINGREQUESTS, Object
from kubecosm.api.times import parse_time
from kubecosm.client.controller import Context, ControllerSpec, Result, done, requeue

DECIDED_FOR = timedelta(hours=1)
UNDECIDED_FOR = timedelta(hours=24)


def plan_end(csr: Object) -> datetime | None:
    """When a request is to be deleted; None: it is still waited for, or nothing is known of its age."""
    status = csr.get("status") or {}
    conditions = {c.get("type"): c.get("lastUpdateTime") for c in status.get("conditions") or ()}
    issued = status.get("certificate")
    if not conditions and not issued:
        created = csr["metadata"].get("creationTimestamp")
        return parse_time(created) + UNDECIDED_FOR if created else None
    settled = (APPROVED, DENIED, FAILED) if issued else (DENIED, FAILED)
    ends = [parse_time(conditions[kind]) + DECIDED_FOR for kind in settled if conditions.get(kind)]
    if issued:
        ends += _expiry(issued)
    return min(ends, default=None)


def _expiry(certificate: str) -> list[datetime]:
    from cryptography import x509  # here: only who meets a certificate pays for it

    try:
        return [x509.load_pem_x509_certificate(base64.b64decode(certificate)).not_valid_after_utc]
    except ValueError:
        return []  # another signer's affair


async def reconcile(ctx: Context, key: Key) -> Result:
    csr = ctx.cache(CERTIFICATESIGNINGREQUESTS).get(key)
    end = plan_end(csr) if csr is not None else None
    if csr is None or end is None:
        return done()
    left = (end - ctx.clock.now()).total_seconds()
    if left > 0:
        return requeue(after_seconds=left)
    try:
        await ctx.client.delete(CERTIFICATESIGNINGREQUESTS, key.name, options={"preconditions": {"uid": uid_of(csr)}})
    except (Conflict, NotFound):
        return done()
    ctx.expect_deleted(csr)
    return done()


SPEC = ControllerSpec(name="certificate_cleaner", component="certificate-controller", primary=CERTIFICATESIGNINGREQUESTS, workers=1)
