"""Formats of names and values beyond kubecosm.api.validation, with Kubernetes' wording; the frequent ones remember what they saw.

Each `is_…` function returns the complaints about one value as a tuple; empty means well formed. The `check_…` functions append
FieldErrors. Imitates apimachinery's util/validation and api/validation (NameIsDNSSubdomain and friends).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from kubecosm.api import validation as syntax
from kubecosm.api.field import FieldError, invalid_value, required
from kubecosm.api.validation import max_length_error, regex_error

Errors = list[FieldError]
CACHE_SIZE = 8192
Complaints = tuple[str, ...]

FIELD_IMMUTABLE = "field is immutable"
NEGATIVE = "must be greater than or equal to 0"
NOT_POSITIVE = "must be greater than zero"

UID_MAX = 2**31 - 1
INT32_MAX = 2**31 - 1


@lru_cache(CACHE_SIZE)
def is_dns1123_label(value: str) -> Complaints:
    return tuple(syntax.dns1123_label(value))


@lru_cache(CACHE_SIZE)
def is_dns1123_subdomain(value: str) -> Complaints:
    return tuple(syntax.dns1123_subdomain(value))


@lru_cache(CACHE_SIZE)
def is_dns1035_label(value: str) -> Complaints:
    return tuple(syntax.dns1035_label(value))


@lru_cache(CACHE_SIZE)
def is_qualified_name(value: str) -> Complaints:
    return tuple(syntax.qualified_name(value))


@lru_cache(CACHE_SIZE)
def is_label_value(value: str) -> Complaints:
    return tuple(syntax.label_value(value))


def is_path_segment(value: str) -> Complaints:
    """What may stand as one segment of a URL path (RBAC names)."""
    if value in (".", ".."):
        return (f"may not be '{value}'",)
    return tuple(f"may not contain '{bad}'" for bad in ("/", "%") if bad in value)


def mask_trailing_dash(name: str) -> str:
    """A generateName may end with a dash: judge it as if a letter followed."""
    return name[:-2] + "a" if len(name) > 1 and name.endswith("-") else name


_PORT_NAME = re.compile(r"[-a-z0-9]+")
_LETTER = re.compile(r"[a-z]")
_CONFIG_KEY_FMT = r"[-._a-zA-Z0-9]+"
_CONFIG_KEY = re.compile(_CONFIG_KEY_FMT)
_PERCENT_FMT = "[0-9]+%"
_PERCENT = re.compile(_PERCENT_FMT)
_HEADER_FMT = "[-A-Za-z0-9]+"
_HEADER = re.compile(_HEADER_FMT)
_C_IDENTIFIER_FMT = "[A-Za-z_][A-Za-z0-9_]*"
_C_IDENTIFIER = re.compile(_C_IDENTIFIER_FMT)
_LABEL_FMT = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_WILDCARD_FMT = rf"\*\.{_LABEL_FMT}(\.{_LABEL_FMT})*"
_WILDCARD = re.compile(_WILDCARD_FMT)
_LABEL_UNDERSCORE_FMT = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SUBDOMAIN_UNDERSCORE_FMT = rf"{_LABEL_UNDERSCORE_FMT}(\.{_LABEL_UNDERSCORE_FMT})*"
_SUBDOMAIN_UNDERSCORE = re.compile(_SUBDOMAIN_UNDERSCORE_FMT)
_HTTP_PATH_FMT = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+"
_HTTP_PATH = re.compile(_HTTP_PATH_FMT)


def inclusive_range(low: int, high: int) -> str:
    return f"must be between {low} and {high}, inclusive"


_PORT_RANGE = (inclusive_range(1, 65535),)
_ID_RANGE = (inclusive_range(0, UID_MAX),)


def is_port(value: int) -> Complaints:
    return () if 1 <= value <= 65535 else _PORT_RANGE


def is_user_or_group_id(value: int) -> Complaints:
    return () if 0 <= value <= UID_MAX else _ID_RANGE


@lru_cache(CACHE_SIZE)
def is_port_name(value: str) -> Complaints:
    complaints = []
    if len(value) > 15:
        complaints.append(max_length_error(15))
    if not _PORT_NAME.fullmatch(value):
        complaints.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not _LETTER.search(value):
        complaints.append("must contain at least one letter (a-z)")
    if "--" in value:
        complaints.append("must not contain consecutive hyphens")
    if value and (value[0] == "-" or value[-1] == "-"):
        complaints.append("must not begin or end with a hyphen")
    return tuple(complaints)


@lru_cache(CACHE_SIZE)
def is_env_name(value: str) -> Complaints:
    """Any printable ASCII but `=` (RelaxedEnvironmentVariableValidation)."""
    if not value:
        return ("environment variable name must be non-empty",)
    if not all(" " <= char <= "~" and char != "=" for char in value):
        return ("a valid environment variable name must consist only of printable ASCII characters other than '='",)
    return ()


@lru_cache(CACHE_SIZE)
def is_config_key(value: str) -> Complaints:
    """A key of a ConfigMap or Secret."""
    complaints = []
    if len(value) > 253:
        complaints.append(max_length_error(253))
    if not _CONFIG_KEY.fullmatch(value):
        message = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
        complaints.append(regex_error(message, _CONFIG_KEY_FMT, "key.name", "KEY_NAME", "key-name"))
    if value in (".", ".."):
        complaints.append(f"must not be '{value}'")
    elif value.startswith(".."):
        complaints.append("must not start with '..'")
    return tuple(complaints)


def is_percent(value: str) -> Complaints:
    if _PERCENT.fullmatch(value):
        return ()
    message = "a valid percent string must be a numeric string followed by an ending '%'"
    return (regex_error(message, _PERCENT_FMT, "1%", "93%"),)


def is_http_header(value: str) -> Complaints:
    if _HEADER.fullmatch(value):
        return ()
    return (regex_error("a valid HTTP header must consist of alphanumeric characters or '-'", _HEADER_FMT, "X-Header-Name"),)


def is_c_identifier(value: str) -> Complaints:
    if _C_IDENTIFIER.fullmatch(value):
        return ()
    message = (
        "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'"
    )
    return (regex_error(message, _C_IDENTIFIER_FMT, "my_name", "MY_NAME", "MyName"),)


def is_wildcard_subdomain(value: str) -> Complaints:
    complaints = [max_length_error(253)] if len(value) > 253 else []
    if not _WILDCARD.fullmatch(value):
        message = (
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, "
            "which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character"
        )
        complaints.append(regex_error(message, _WILDCARD_FMT, "*.example.com"))
    return tuple(complaints)


def is_subdomain_with_underscore(value: str) -> Complaints:
    complaints = [max_length_error(253)] if len(value) > 253 else []
    if not _SUBDOMAIN_UNDERSCORE.fullmatch(value):
        message = (
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', "
            "and must start and end with an alphanumeric character"
        )
        complaints.append(regex_error(message, _SUBDOMAIN_UNDERSCORE_FMT, "example.com"))
    return tuple(complaints)


@lru_cache(CACHE_SIZE)
def parse_ip(value: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address, None if it is not one. IPv4 octets may have leading zeros, as Kubernetes tolerates."""
    if value.count(".") == 3 and ":" not in value:
        octets = value.split(".")
        if not all(octet.isascii() and octet.isdigit() and len(octet) <= 3 for octet in octets):
            return None
        value = ".".join(str(int(octet)) for octet in octets)
    try:
        return None if "%" in value else ipaddress.ip_address(value)
    except ValueError:
        return None


@lru_cache(CACHE_SIZE)
def parse_cidr(value: str) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface | None:
    """The address and prefix of `10.0.0.0/8`; None if it is not one. A bare address is none."""
    address, slash, prefix = value.partition("/")
    if not slash or not prefix.isdigit() or parse_ip(address) is None:
        return None
    try:
        return ipaddress.ip_interface(f"{parse_ip(address)}/{int(prefix)}")
    except ValueError:
        return None


IP_COMPLAINT = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
CIDR_COMPLAINT = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"


def check_ip(value: str, path: str, errors: Errors) -> bool:
    if parse_ip(value) is None:
        errors.append(invalid_value(path, value, IP_COMPLAINT))
        return False
    return True


def check_cidr(value: str, path: str, errors: Errors) -> bool:
    if parse_cidr(value) is None:
        errors.append(invalid_value(path, value, CIDR_COMPLAINT))
        return False
    return True


def check_non_special_ip(value: str, path: str, errors: Errors) -> None:
    """Endpoints and external IPs may not be unspecified or link-local addresses (ValidateNonSpecialIP).

    Kubernetes refuses loopback addresses as well; here nodes, pods and Services live in 127.0.0.0/8, and the API server at 127.0.0.1.
    """
    ip = parse_ip(value)
    if ip is None:
        errors.append(invalid_value(path, value, "must be a valid IP address"))
        return
    if ip.is_unspecified:
        errors.append(invalid_value(path, value, f"may not be unspecified ({value})"))
    if ip.is_link_local:
        errors.append(invalid_value(path, value, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"))
    if ip in _LINK_LOCAL_MULTICAST[ip.version]:
        errors.append(invalid_value(path, value, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"))


_LINK_LOCAL_MULTICAST: Mapping[int, Any] = {4: ipaddress.ip_network("224.0.0.0/24"), 6: ipaddress.ip_network("ff02::/16")}


def check(complaints: Complaints, value: Any, path: str, errors: Errors) -> None:
    """Append one `Invalid value` per complaint."""
    for complaint in complaints:
        errors.append(invalid_value(path, value, complaint))


def check_dns1123_label(value: str, path: str, errors: Errors) -> None:
    for complaint in is_dns1123_label(value):
        errors.append(invalid_value(path, value, complaint))


def check_dns1123_subdomain(value: str, path: str, errors: Errors) -> None:
    for complaint in is_dns1123_subdomain(value):
        errors.append(invalid_value(path, value, complaint))


def check_qualified_name(value: str, path: str, errors: Errors) -> None:
    for complaint in is_qualified_name(value):
        errors.append(invalid_value(path, value, complaint))


def check_port(value: int, path: str, errors: Errors) -> None:
    if not 1 <= value <= 65535:
        errors.append(invalid_value(path, value, _PORT_RANGE[0]))


def check_port_or_name(value: int | str, path: str, errors: Errors) -> None:
    for complaint in is_port(value) if isinstance(value, int) else is_port_name(value):
        errors.append(invalid_value(path, value, complaint))


def check_non_negative(value: int, path: str, errors: Errors) -> None:
    if value < 0:
        errors.append(invalid_value(path, value, NEGATIVE))


def check_immutable(new: Any, old: Any, path: str, errors: Errors) -> None:
    if new != old:
        errors.append(invalid_value(path, new, FIELD_IMMUTABLE))


def check_int_or_percent(value: int | str, path: str, errors: Errors) -> None:
    """A non-negative number, or a percentage (ValidatePositiveIntOrPercent)."""
    if isinstance(value, str):
        check(is_percent(value), value, path, errors)
    else:
        check_non_negative(value, path, errors)


def check_at_most_100_percent(value: int | str, path: str, errors: Errors) -> None:
    if isinstance(value, str) and not is_percent(value) and int(value[:-1]) > 100:
        errors.append(invalid_value(path, value, "must not be greater than 100%"))


def check_fully_qualified_name(value: str, path: str, errors: Errors) -> None:
    """A domain of at least three segments (webhook and policy names)."""
    if not value:
        errors.append(required(path))
    elif complaints := is_dns1123_subdomain(value):
        errors.append(invalid_value(path, value, ",".join(complaints)))
    elif value.count(".") < 2:
        errors.append(invalid_value(path, value, "should be a domain with at least three segments separated by dots"))


def check_fully_qualified_domain(value: str, path: str, errors: Errors) -> None:
    """A domain of at least two segments, maybe with a trailing dot."""
    if not value:
        errors.append(required(path))
        return
    name = value.removesuffix(".")
    if complaints := is_dns1123_subdomain(name):
        errors.append(invalid_value(path, name, ",".join(complaints)))
    elif "." not in name:
        errors.append(invalid_value(path, name, "should be a domain with at least two segments separated by dots"))
    else:
        bad = next((label for label in name.split(".") if is_dns1123_label(label)), None)
        if bad is not None:
            errors.append(invalid_value(path, bad, ",".join(is_dns1123_label(bad))))


def check_domain_prefixed_path(value: str, path: str, errors: Errors) -> None:
    """`acme.io/foo`."""
    if not value:
        errors.append(required(path))
        return
    host, _, rest = value.partition("/")
    if not host or not rest:
        errors.append(invalid_value(path, value, 'must be a domain-prefixed path (such as "acme.io/foo")'))
        return
    check_dns1123_subdomain(host, path, errors)
    if not _HTTP_PATH.fullmatch(rest):
        errors.append(invalid_value(path, rest, regex_error("Invalid path", _HTTP_PATH_FMT)))
