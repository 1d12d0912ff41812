"""CertificateSigningRequests. Imitates pkg/apis/certificates/validation and pkg/registry/certificates."""

from __future__ import annotations

import base64
import re

from kubecosm.api.certificates import APPROVED, DENIED, FAILED, RequestError, decode_request
from kubecosm.api.field import FieldError, duplicate, forbidden_field, go_quote, invalid_value, not_supported, required
from kubecosm.api.names import SIGNER_LEGACY_UNKNOWN
from kubecosm.api.resources import Object
from kubecosm.api.times import format_time
from kubecosm.runtime.clock import Clock

from ..formats import Errors, is_dns1123_subdomain, is_path_segment
from ..strategy import StatusStrategy, Strategy, keep_field

USAGES = (
    "signing", "digital signature", "content commitment", "key encipherment", "key agreement", "data encipherment", "cert sign",
    "crl sign", "encipher only", "decipher only", "any", "server auth", "client auth", "code signing", "email protection", "s/mime",
    "ipsec end system", "ipsec tunnel", "ipsec user", "timestamping", "ocsp signing", "microsoft sgc", "netscape sgc",
)  # fmt: skip
EXPIRATION_SECONDS_MIN = 600
_BLOCKS = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_DECISIONS = (APPROVED, DENIED)
_FINAL = (*_DECISIONS, FAILED)


class SigningRequestStrategy(Strategy):
    """A CertificateSigningRequest as its requester makes it; nothing of it can be changed afterwards."""

    tracks_generation = False

    def validate_name(self, name: str, *, prefix: bool) -> list[str]:
        return list(is_path_segment(name))

    def default(self, obj: Object) -> None:
        obj.setdefault("spec", {})
        obj.setdefault("status", {})

    def set_requester(self, obj: Object, username: str, uid: str, groups: list[str], extra: dict[str, list[str]]) -> None:
        spec = obj["spec"]
        for field in ("username", "uid", "groups", "extra"):
            spec.pop(field, None)
        spec.update({k: v for k, v in (("username", username), ("uid", uid), ("groups", groups), ("extra", extra)) if v})

    def prepare_for_create(self, obj: Object) -> None:
        obj["status"] = {}

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        keep_field(obj, old, "spec")
        keep_field(obj, old, "status")

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        spec = obj["spec"]
        complaint = _check_request(spec.get("request") or "")
        if complaint:
            errors.append(invalid_value("spec.request", spec.get("request") or "", complaint))
        usages = spec.get("usages") or ()
        if not usages:
            errors.append(required("spec.usages"))
        for i, usage in enumerate(usages):
            if usage not in USAGES:
                errors.append(not_supported(f"spec.usages[{i}]", usage, sorted(USAGES)))
            if usage in usages[:i]:
                errors.append(duplicate(f"spec.usages[{i}]", usage))
        if spec.get("signerName") == SIGNER_LEGACY_UNKNOWN:
            detail = "the legacy signerName is not allowed via this API version"
            errors.append(invalid_value("spec.signerName", SIGNER_LEGACY_UNKNOWN, detail))
        else:
            _check_signer(spec.get("signerName", ""), "spec.signerName", errors)
        seconds = spec.get("expirationSeconds")
        if seconds is not None and seconds < EXPIRATION_SECONDS_MIN:
            detail = f"may not specify a duration less than {EXPIRATION_SECONDS_MIN} seconds"
            errors.append(invalid_value("spec.expirationSeconds", seconds, detail))
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        return []

    def selectable_fields(self, obj: Object) -> dict[str, str]:
        return {"spec.signerName": (obj.get("spec") or {}).get("signerName", "")}

    def selectable_field_names(self) -> tuple[str, ...]:
        return ("spec.signerName",)


def _check_request(text: str) -> str:
    """What is wrong with the request or with its signature; empty if nothing is (validateCSR)."""
    try:
        request = decode_request(text)
    except RequestError as error:
        return str(error)
    assert request.parsed is not None
    return "" if request.parsed.is_signature_valid else "x509: the signature does not verify"


def _check_signer(name: str, path: str, errors: Errors) -> None:
    """`domain/path` with a domain of at least two parts (ValidateSignerName)."""
    if not name:
        errors.append(required(path))
        return
    segments = name.split("/")
    if len(segments) != 2:
        detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        errors.append(invalid_value(path, name, detail))
        return
    for complaint in is_dns1123_subdomain(segments[0]):
        errors.append(invalid_value(path, segments[0], f"validating label \"{segments[0]}\": {complaint}"))
    if "." not in segments[0]:
        errors.append(invalid_value(path, segments[0], "should be a domain with at least two segments separated by dots"))
    for complaint in is_dns1123_subdomain(segments[1]):
        errors.append(invalid_value(path, segments[1], f"validating label \"{segments[1]}\": {complaint}"))


def _check_conditions(obj: Object, errors: Errors) -> None:
    seen: set[str] = set()
    for i, condition in enumerate(_conditions(obj)):
        path, kind, status = f"status.conditions[{i}]", condition.get("type", ""), condition.get("status", "")
        allowed = ("True",) if kind in _FINAL else ("False", "True", "Unknown")
        if not kind:
            errors.append(required(f"{path}.type"))
        if not status:
            errors.append(required(f"{path}.status"))
        elif status not in allowed:
            errors.append(not_supported(f"{path}.status", status, allowed))
        if {*seen, kind}.issuperset(_DECISIONS):
            errors.append(invalid_value(f"{path}.type", kind, "Approved and Denied conditions are mutually exclusive"))
        if kind in seen:
            errors.append(duplicate(f"{path}.type", kind))
        seen.add(kind)


def _check_removed(obj: Object, old: Object, errors: Errors, *, may_decide: bool) -> None:
    """Final conditions stay; only approval adds decisions."""
    for kind in _FINAL:
        now, before = (sum(c.get("type") == kind for c in _conditions(o)) for o in (obj, old))
        if now < before:
            errors.append(forbidden_field("status.conditions", f'updates may not remove a condition of type "{kind}"'))
        elif now > before and kind in _DECISIONS and not may_decide:
            errors.append(forbidden_field("status.conditions", f'updates may not add a condition of type "{kind}"'))


def _conditions(obj: Object) -> list[Object]:
    conditions: list[Object] = (obj.get("status") or {}).get("conditions") or []
    return conditions


def _set_times(obj: Object, old: Object, clock: Clock | None) -> None:
    """Conditions that do not say when get the time (populateConditionTimestamps)."""
    if clock is None:
        return
    now = format_time(clock.now())
    lasting = {(c.get("type"), c.get("status")): c["lastTransitionTime"] for c in _conditions(old) if c.get("lastTransitionTime")}
    for condition in _conditions(obj):
        if not condition.get("lastUpdateTime"):
            condition["lastUpdateTime"] = now
        if not condition.get("lastTransitionTime"):
            condition["lastTransitionTime"] = lasting.get((condition.get("type"), condition.get("status")), now)


def _check_certificate(data: str) -> str:
    """What is wrong with status.certificate; empty if nothing is (validateCertificate)."""
    from cryptography import x509  # here: only who signs pays for it

    text = base64.b64decode(data)
    blocks = _BLOCKS.findall(text)
    if not blocks:
        return "must contain at least one CERTIFICATE PEM block"
    for kind, content in blocks:
        if kind != b"CERTIFICATE":
            return f"only CERTIFICATE PEM blocks are allowed, found {go_quote(kind.decode())}"
        if b":" in content:
            return "no PEM block headers are permitted"
    try:
        x509.load_pem_x509_certificates(text)
    except ValueError as error:
        return str(error)
    return ""


class SigningRequestStatusStrategy(StatusStrategy):
    """certificatesigningrequests/status: the signer's certificate; decisions stay as they are."""

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        super().prepare_for_update(obj, old)
        for kind in _DECISIONS:
            _preserve(kind, obj, old)
        _set_times(obj, old, self.clock)

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        _check_conditions(obj, errors)
        before, now = (old.get("status") or {}).get("certificate"), (obj.get("status") or {}).get("certificate")
        complaint = _check_certificate(now) if now and now != before else ""
        if complaint:
            errors.append(invalid_value("status.certificate", "<certificate data>", complaint))
        _check_removed(obj, old, errors, may_decide=False)
        if before and now != before:
            errors.append(forbidden_field("status.certificate", "updates may not modify existing certificate content"))
        return errors


def _preserve(kind: str, obj: Object, old: Object) -> None:
    """Conditions of a kind stay as they were, unless some came or went, which validation refuses (preserveConditionInstances)."""
    kept = [condition for condition in _conditions(old) if condition.get("type") == kind]
    places = [i for i, condition in enumerate(_conditions(obj)) if condition.get("type") == kind]
    if len(kept) == len(places):
        for place, condition in zip(places, kept, strict=True):
            obj["status"]["conditions"][place] = dict(condition)


class SigningRequestApprovalStrategy(StatusStrategy):
    """certificatesigningrequests/approval: only conditions come from the client."""

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        conditions = _conditions(obj)
        super().prepare_for_update(obj, old)
        obj["status"] = {**(old.get("status") or {})}
        if conditions:
            obj["status"]["conditions"] = conditions
        else:
            obj["status"].pop("conditions", None)
        _set_times(obj, old, self.clock)

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        _check_conditions(obj, errors)
        _check_removed(obj, old, errors, may_decide=True)
        return errors
