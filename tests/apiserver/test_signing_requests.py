"""CertificateSigningRequests on a server: who may decide and sign, what stays, and when it happened."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .harness import Api, with_api
from .test_admission_optional import grant, rule

PATH = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
GROUP = "certificates.k8s.io"


async def refusal(api: Api, path: str, body: Any, method: str = "POST", **options: Any) -> str:
    return str((await api.refused(method, path, body, **options))["message"])


def request(*organizations: str) -> str:
    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, text) for text in organizations]
    subject = x509.Name([*names, x509.NameAttribute(NameOID.COMMON_NAME, "jane")])
    signed = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return base64.b64encode(signed.public_bytes(serialization.Encoding.PEM)).decode()


def csr(name: str, signer: str = "kubernetes.io/kube-apiserver-client", text: str = "", **spec: Any) -> dict[str, Any]:
    fields = {"request": text or request(), "signerName": signer, "usages": ["client auth"], **spec}
    return {"apiVersion": f"{GROUP}/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name}, "spec": fields}


def decided(obj: dict[str, Any], *kinds: str, **fields: str) -> dict[str, Any]:
    return obj | {"status": {"conditions": [{"type": kind, "status": "True", "reason": "Test", **fields} for kind in kinds]}}


def test_requests_must_be_requests_for_a_signer_that_may_be_named(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        legacy = await refusal(api, PATH, csr("a", "kubernetes.io/legacy-unknown"))
        assert legacy.endswith(
            'spec.signerName: Invalid value: "kubernetes.io/legacy-unknown": the legacy signerName is not allowed via this API version'
        )
        pem = base64.b64encode(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").decode()
        assert "PEM block type must be CERTIFICATE REQUEST" in await refusal(api, PATH, csr("a", text=pem))
        forged = bytearray(base64.b64decode(request()))
        at = forged.index(b"\n-----END") - 8
        forged[at] = ord("A") if forged[at] != ord("A") else ord("B")
        assert "spec.request: Invalid value" in await refusal(api, PATH, csr("a", text=base64.b64encode(forged).decode()))
        few = await refusal(api, PATH, csr("a", expirationSeconds=60))
        assert "may not specify a duration less than 600 seconds" in few

    with_api(tmp_path, test)


def test_decisions_are_made_once_by_approval_and_get_their_time(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        made = await api.create(PATH, csr("a"))
        by_status = await refusal(api, f"{PATH}/a/status", decided(made, "Approved"), "PUT")
        assert 'status.conditions: Forbidden: updates may not add a condition of type "Approved"' in by_status
        approved = await api.put(f"{PATH}/a/approval", decided(made, "Approved"))
        (condition,) = approved["status"]["conditions"]
        assert condition["lastUpdateTime"] == condition["lastTransitionTime"] >= made["metadata"]["creationTimestamp"]
        both = await refusal(api, f"{PATH}/a/approval", decided(approved, "Approved", "Denied"), "PUT")
        assert "Approved and Denied conditions are mutually exclusive" in both
        removed = await refusal(api, f"{PATH}/a/approval", approved | {"status": {}}, "PUT")
        assert 'status.conditions: Forbidden: updates may not remove a condition of type "Approved"' in removed
        certificate = {"certificate": base64.b64encode(b"no certificate").decode()}
        wrong = await refusal(api, f"{PATH}/a/status", approved | {"status": approved["status"] | certificate}, "PUT")
        assert 'status.certificate: Invalid value: "<certificate data>": must contain at least one CERTIFICATE PEM block' in wrong

    with_api(tmp_path, test)


def test_deciding_and_signing_need_the_signers_permission(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        row = "certificatesigningrequests"
        approval, status = rule(GROUP, f"{row}/approval", "update"), rule(GROUP, f"{row}/status", "update")
        await grant(api, "jane", rule(GROUP, row, "create", "get"), approval, status)
        made = await api.create(PATH, csr("a", "example.com/ours"), token="user-token")
        assert made["spec"]["username"] == "jane"
        denied = await refusal(api, f"{PATH}/a/approval", decided(made, "Approved"), "PUT", token="user-token")
        assert denied.endswith('"a" is forbidden: user not permitted to approve requests with signerName "example.com/ours"')
        roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles/jane"
        await api.merge(roles, {"rules": [approval, status, rule(GROUP, "signers", "approve", only="example.com/*")]})
        approved = await api.put(f"{PATH}/a/approval", decided(made, "Approved"), token="user-token")
        failed = approved | {"status": {"conditions": [*approved["status"]["conditions"], {"type": "Failed", "status": "True"}]}}
        denied = await refusal(api, f"{PATH}/a/status", failed, "PUT", token="user-token")
        assert denied.endswith('"a" is forbidden: user not permitted to sign requests with signerName "example.com/ours"')
        await api.merge(roles, {"rules": [status, rule(GROUP, "signers", "sign", only="example.com/ours")]})
        await api.put(f"{PATH}/a/status", failed, token="user-token")

    with_api(tmp_path, test, authorization_mode=("RBAC",))


def test_nobody_asks_to_be_a_master(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        assert (await refusal(api, PATH, csr("a", text=request("system:masters")))).endswith(
            '"a" is forbidden: use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed'
        )
        await api.create(PATH, csr("b", "example.com/ours", text=request("system:masters")))

    with_api(tmp_path, test)
