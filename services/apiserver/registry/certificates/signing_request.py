"""CertificateSigningRequests. Imitates pkg/apis/certificates/validation and pkg/registry/certificates."""

from __future__ import annotations

import base64
import re

from kubecosm.api.field import FieldError, duplicate, forbidden_field, invalid_value, not_supported, required
from kubecosm.api.resources import Object

from ..formats import FIELD_IMMUTABLE, Errors, is_dns1123_subdomain, is_path_segment
from ..strategy import StatusStrategy, Strategy, keep_field

USAGES = (
    "signing", "digital signature", "content commitment", "key encipherment", "key agreement", "data encipherment", "cert sign",
    "crl sign", "encipher only", "decipher only", "any", "server auth", "client auth", "code signing", "email protection", "s/mime",
    "ipsec end system", "ipsec tunnel", "ipsec user", "timestamping", "ocsp signing", "microsoft sgc", "netscape sgc",
)  # fmt: skip
EXPIRATION_SECONDS_MIN = 600
_PEM = re.compile(rb"-----BEGIN CERTIFICATE REQUEST-----\s+[A-Za-z0-9+/=\s]+-----END CERTIFICATE REQUEST-----")
_DECISIONS = ("Approved", "Denied")


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
        request = spec.get("request") or ""
        if not _PEM.search(_decoded(request)):
            errors.append(invalid_value("spec.request", request, "PEM block type must be CERTIFICATE REQUEST"))
        usages = spec.get("usages") or ()
        if not usages:
            errors.append(required("spec.usages"))
        for i, usage in enumerate(usages):
            if usage not in USAGES:
                errors.append(not_supported(f"spec.usages[{i}]", usage, sorted(USAGES)))
            if usage in usages[:i]:
                errors.append(duplicate(f"spec.usages[{i}]", usage))
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


def _decoded(text: str | None) -> bytes:
    try:
        return base64.b64decode(text or "")
    except ValueError:
        return b""


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
    for i, condition in enumerate((obj.get("status") or {}).get("conditions") or ()):
        path, kind, status = f"status.conditions[{i}]", condition.get("type", ""), condition.get("status", "")
        if not kind:
            errors.append(required(f"{path}.type"))
        if not status:
            errors.append(required(f"{path}.status"))
        elif kind in (*_DECISIONS, "Failed") and status != "True":
            errors.append(not_supported(f"{path}.status", status, ("True",)))
        if kind in seen:
            errors.append(duplicate(f"{path}.type", kind))
        seen.add(kind)
        other = {"Approved": "Denied", "Denied": "Approved"}.get(kind)
        if other in seen:
            errors.append(invalid_value(f"{path}.type", kind, "Approved and Denied conditions are mutually exclusive"))


class SigningRequestStatusStrategy(StatusStrategy):
    """certificatesigningrequests/status: the signer's certificate; decisions stay as they are."""

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        super().prepare_for_update(obj, old)
        decided = [c for c in (old.get("status") or {}).get("conditions") or () if c.get("type") in _DECISIONS]
        others = [c for c in (obj.get("status") or {}).get("conditions") or () if c.get("type") not in _DECISIONS]
        if decided or others:
            obj.setdefault("status", {})["conditions"] = [*decided, *others]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        _check_conditions(obj, errors)
        before, now = (old.get("status") or {}).get("certificate"), (obj.get("status") or {}).get("certificate")
        if before and now != before:
            errors.append(invalid_value("status.certificate", now, FIELD_IMMUTABLE))
        return errors


class SigningRequestApprovalStrategy(StatusStrategy):
    """certificatesigningrequests/approval: only conditions come from the client."""

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        conditions = (obj.get("status") or {}).get("conditions")
        super().prepare_for_update(obj, old)
        obj["status"] = {**(old.get("status") or {})}
        if conditions:
            obj["status"]["conditions"] = conditions

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        _check_conditions(obj, errors)
        for kind in _DECISIONS:
            now, before = (_has(o, kind) for o in (obj, old))
            if before and not now:
                errors.append(forbidden_field("status.conditions", f'updates may not remove a condition of type "{kind}"'))
        return errors


def _has(obj: Object, kind: str) -> bool:
    return any(c.get("type") == kind for c in (obj.get("status") or {}).get("conditions") or ())
