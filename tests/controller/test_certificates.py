"""Certificate requests and bootstrap tokens in virtual time."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kubecosm.api.certificates import decode_request, kubelet_client_complaint, kubelet_serving_complaint
from kubecosm.api.resources import CERTIFICATESIGNINGREQUESTS as CSRS
from kubecosm.api.resources import CONFIGMAPS, SECRETS, Object
from kubecosm.api.times import format_time
from kubecosm.runtime.errors import StartupError
from kubecosm.services.controller.certificates import approving, bootstrap_signer, cleaner, signing, token_cleaner
from kubecosm.services.controller.certificates.authority import Authority, plan_lifetime, plan_validity
from kubecosm.services.controller.certificates.signing import Signing
from kubecosm.services.controller.config import Config

from .fake_api import FakeApi
from .harness import controllers, run, settle, wait_for

CLIENT_USAGES = ["digital signature", "client auth"]


def name(common_name: str, *organizations: str) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, text) for text in organizations]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def request(common_name: str, *organizations: str, dns: tuple[str, ...] = ()) -> str:
    """spec.request for a new key."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(name(common_name, *organizations))
    if dns:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(text) for text in dns]), critical=False)
    signed = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return base64.b64encode(signed.public_bytes(serialization.Encoding.PEM)).decode()


def csr(called: str, signer: str, text: str, usages: list[str] | None = None, **spec: Any) -> Object:
    fields = {"request": text, "signerName": f"kubernetes.io/{signer}", "usages": usages or CLIENT_USAGES, **spec}
    return {"metadata": {"name": called}, "spec": fields, "status": {}}


def make_authority(tmp_path: Path) -> Authority:
    """A new authority that is good for a year."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    subject = name("test-ca")
    certificate = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256())
    )  # fmt: skip
    cert_file, key_file = tmp_path / "ca.crt", tmp_path / "ca.key"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key_file.write_bytes(key.private_bytes(*pem))
    return Authority(str(cert_file), str(key_file))


def status_of(api: FakeApi, called: str) -> Object:
    found = next((obj for obj in api.all(CSRS) if obj["metadata"]["name"] == called), None)
    return (found or {}).get("status") or {}


def conditions_of(api: FakeApi, called: str) -> list[tuple[str, str, str]]:
    return [(c["type"], c["reason"], c.get("message", "")) for c in status_of(api, called).get("conditions") or ()]


def approve(api: FakeApi, obj: Object) -> None:
    now = format_time(api.clock.now())
    api.set_status(CSRS, obj, conditions=[{"type": "Approved", "status": "True", "reason": "Test", "lastUpdateTime": now}])


def test_an_approved_request_is_signed_by_the_authority(tmp_path: Path) -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, Signing(dict.fromkeys(signing.SIGNERS, make_authority(tmp_path)), timedelta(days=30))):
            made = await api.create(CSRS, csr("c", "kube-apiserver-client", request("jane", "devs"), expirationSeconds=3600))
            await settle(1)
            assert "certificate" not in status_of(api, "c"), "nothing is signed before it is approved"
            approve(api, made)
            await wait_for(lambda: status_of(api, "c").get("certificate"))
        issued = x509.load_pem_x509_certificate(base64.b64decode(status_of(api, "c")["certificate"]))
        authority = x509.load_pem_x509_certificate((tmp_path / "ca.crt").read_bytes())
        issued.verify_directly_issued_by(authority)
        assert issued.subject == name("jane", "devs")
        assert issued.not_valid_after_utc - issued.not_valid_before_utc == timedelta(seconds=3600 + 300)
        purposes = issued.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(purposes) == [ExtendedKeyUsageOID.CLIENT_AUTH]
        assert not issued.extensions.get_extension_for_class(x509.BasicConstraints).value.ca

    run(test)


def test_without_usages_of_its_key_a_certificate_does_not_speak_of_them(tmp_path: Path) -> None:
    asked = decode_request(request("jane"))
    pem = make_authority(tmp_path).sign(asked, ["client auth"], timedelta(hours=1), datetime.now(UTC))
    kinds = {type(extension.value) for extension in x509.load_pem_x509_certificate(pem).extensions}
    assert kinds == {x509.ExtendedKeyUsage, x509.BasicConstraints, x509.AuthorityKeyIdentifier}


def test_what_a_signer_does_not_issue_has_failed(tmp_path: Path) -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, Signing(dict.fromkeys(signing.SIGNERS, make_authority(tmp_path)), timedelta(days=30))):
            wrong = {
                "a": csr("a", "kube-apiserver-client", request("jane"), ["server auth"]),
                "b": csr("b", "kubelet-serving", request("system:node:n", "devs"), ["digital signature", "server auth"]),
            }
            for obj in wrong.values():
                approve(api, await api.create(CSRS, obj))
            other = await api.create(CSRS, csr("o", "x", request("jane")) | {"spec": {"signerName": "example.com/mine", "request": ""}})
            approve(api, other)
            await wait_for(lambda: all(len(conditions_of(api, called)) == 2 for called in wrong))
        assert conditions_of(api, "a")[1] == (
            "Failed", "SignerValidationFailure", "invalid usage for client certificate: server auth"
        )  # fmt: skip
        assert conditions_of(api, "b")[1] == ("Failed", "SignerValidationFailure", "subject organization is not system:nodes")
        assert len(conditions_of(api, "o")) == 1, "other signers' requests are left alone"

    run(test)


def test_what_kubelets_may_ask_for() -> None:
    client, serving = ["digital signature", "client auth"], ["digital signature", "key encipherment", "server auth"]
    own = decode_request(request("system:node:n", "system:nodes"))
    named = decode_request(request("system:node:n", "system:nodes", dns=("n",)))
    assert kubelet_client_complaint(own, client) == ""
    assert kubelet_client_complaint(named, client) == "DNS subjectAltNames are not allowed"
    assert kubelet_client_complaint(own, serving) == "usages did not match [key encipherment digital signature client auth]"
    assert kubelet_client_complaint(decode_request(request("n", "system:nodes")), client).endswith("does not begin with system:node:")
    assert kubelet_serving_complaint(named, serving) == ""
    assert kubelet_serving_complaint(own, serving) == "DNS or IP subjectAltName is required"


def test_lifetimes_are_bounded() -> None:
    year, now = timedelta(days=365), datetime(2026, 1, 1, tzinfo=UTC)
    assert plan_lifetime(None, year) == year
    assert plan_lifetime(60, year) == timedelta(seconds=600)
    assert plan_lifetime(10**9, year) == year
    five = timedelta(minutes=5)
    assert plan_validity(year, now, now + 2 * year) == (now - five, now + year - five)
    assert plan_validity(year, now, now + five) == (now - five, now + five)


def test_kubelets_are_approved_if_a_review_says_so() -> None:
    async def test(api: FakeApi) -> None:
        allowed: list[str] = []
        created = api.create

        async def create(resource: Any, obj: Object, *args: Any, **options: Any) -> Object:
            if resource != approving.ACCESS_REVIEWS:
                return await created(resource, obj, *args, **options)
            attributes = obj["spec"]["resourceAttributes"]
            allowed.append(f"{obj['spec']['user']} {attributes['verb']} {attributes['resource']}/{attributes['subresource']}")
            return obj | {"status": {"allowed": attributes["subresource"] == "nodeclient"}}

        api.create = create  # type: ignore[method-assign]
        async with controllers(api, approving):
            spec = {"username": "system:node:n", "groups": ["system:nodes"]}
            own = csr("own", "kube-apiserver-client-kubelet", request("system:node:n", "system:nodes"), **spec)
            await api.create(CSRS, own)
            await api.create(CSRS, csr("user", "kube-apiserver-client", request("jane"), username="jane"))
            await wait_for(lambda: conditions_of(api, "own"))
            await settle(1)
        assert allowed == [f"system:node:n create certificatesigningrequests/{sub}" for sub in ("selfnodeclient", "nodeclient")]
        assert conditions_of(api, "own") == [
            ("Approved", "AutoApproved", "Auto approving kubelet client certificate after SubjectAccessReview.")
        ]
        assert conditions_of(api, "user") == []

    run(test)


def test_requests_are_forgotten_once_they_are_settled() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, cleaner):
            for called in ("issued", "denied", "pending"):
                await api.create(CSRS, csr(called, "kube-apiserver-client", "", username="jane"))
            by_name = {obj["metadata"]["name"]: obj for obj in api.all(CSRS)}
            now = format_time(api.clock.now())
            api.set_status(CSRS, by_name["issued"], certificate="eA==", conditions=[{"type": "Approved", "lastUpdateTime": now}])
            api.set_status(CSRS, by_name["denied"], conditions=[{"type": "Denied", "lastUpdateTime": now}])
            await settle(3590)
            assert len(api.all(CSRS)) == 3
            await settle(20)
            assert [obj["metadata"]["name"] for obj in api.all(CSRS)] == ["pending"]
            unsigned = await api.create(CSRS, csr("approved", "example.com/signer", "", username="jane"))
            api.set_status(CSRS, unsigned, conditions=[{"type": "Approved", "lastUpdateTime": now}])
            await settle(30 * 3600)
            assert [obj["metadata"]["name"] for obj in api.all(CSRS)] == ["approved"]

    run(test)


def token(token_id: str, secret: str, **more: str) -> Object:
    data = {"token-id": token_id, "token-secret": secret, "usage-bootstrap-signing": "true", **more}
    encoded = {key.replace("_", "-"): base64.b64encode(value.encode()).decode() for key, value in data.items()}
    meta = {"name": f"bootstrap-token-{token_id}", "namespace": "kube-system"}
    return {"metadata": meta, "type": "bootstrap.kubernetes.io/token", "data": encoded}


def test_bootstrap_tokens_sign_cluster_info_until_they_expire() -> None:
    async def test(api: FakeApi) -> None:
        end = format_time(api.clock.now() + timedelta(seconds=100))
        async with controllers(api, bootstrap_signer, token_cleaner):
            info = {"metadata": {"name": "cluster-info", "namespace": "kube-public"}, "data": {"kubeconfig": "content"}}
            await api.create(CONFIGMAPS, info)
            await api.create(SECRETS, token("abcdef", "0123456789abcdef", expiration=end))
            await api.create(SECRETS, token("silent", "0123456789abcdef", usage_bootstrap_signing="false"))
            misnamed = token("ghijkl", "0123456789abcdef", expiration=end)
            misnamed["metadata"]["name"] = "bootstrap-token-other"
            await api.create(SECRETS, misnamed)
            await wait_for(lambda: "jws-kubeconfig-abcdef" in api.all(CONFIGMAPS)[0]["data"])
            assert set(api.all(CONFIGMAPS)[0]["data"]) == {"kubeconfig", "jws-kubeconfig-abcdef"}
            check_signature(api.all(CONFIGMAPS)[0]["data"]["jws-kubeconfig-abcdef"], "abcdef", "0123456789abcdef", "content")
            await settle(95)
            assert len(api.all(SECRETS)) == 3
            await settle(10)
            assert [obj["metadata"]["name"] for obj in api.all(SECRETS)] == ["bootstrap-token-silent"]
            assert set(api.all(CONFIGMAPS)[0]["data"]) == {"kubeconfig"}

    run(test)


def check_signature(detached: str, token_id: str, secret: str, content: str) -> None:
    header, nothing, signature = detached.split(".")
    assert nothing == ""

    def decode(text: str) -> bytes:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

    assert json.loads(decode(header)) == {"alg": "HS256", "kid": token_id}
    payload = base64.urlsafe_b64encode(content.encode()).rstrip(b"=").decode()
    assert decode(signature) == hmac.new(secret.encode(), f"{header}.{payload}".encode(), hashlib.sha256).digest()


def test_an_authority_that_is_not_there_is_missed_at_the_start() -> None:
    with pytest.raises(StartupError, match="--cluster-signing-cert-file /nowhere: no such file"):
        signing.build(Config(cluster_signing_cert_file="/nowhere", cluster_signing_key_file="/nowhere"))


def test_signers_may_have_authorities_of_their_own(tmp_path: Path) -> None:
    async def test(api: FakeApi) -> None:
        make_authority(tmp_path)
        config = Config(
            cluster_signing_kube_apiserver_client_cert_file=str(tmp_path / "ca.crt"),
            cluster_signing_kube_apiserver_client_key_file=str(tmp_path / "ca.key"),
        )
        async with controllers(api, signing.build(config)):
            for called, signer in (("c", "kube-apiserver-client"), ("k", "kubelet-serving")):
                approve(api, await api.create(CSRS, csr(called, signer, request("jane"))))
            await wait_for(lambda: status_of(api, "c").get("certificate"))
            await settle(1)
            assert not status_of(api, "k").get("certificate"), "the others issue nothing then"

    run(test)


def test_flags_of_authorities_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    make_authority(tmp_path)
    crt, key = str(tmp_path / "ca.crt"), str(tmp_path / "ca.key")
    with pytest.raises(StartupError, match="cannot specify --cluster-signing-key-file without --cluster-signing-cert-file"):
        signing.build(Config(cluster_signing_key_file=key))
    both = Config(
        cluster_signing_cert_file=crt, cluster_signing_key_file=key, cluster_signing_legacy_unknown_cert_file=crt,
        cluster_signing_legacy_unknown_key_file=key,
    )  # fmt: skip
    with pytest.raises(StartupError, match=r"and other --cluster-signing-\*-file flags at the same time"):
        signing.build(both)
