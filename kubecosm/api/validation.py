"""Syntax rules of names, labels and ports, with Kubernetes' wording. Imitates k8s.io/apimachinery/pkg/util/validation.

Each function returns the complaints about one string; an empty list means it is well formed.
"""

from __future__ import annotations

import re

DNS1123_LABEL_MAX = 63
DNS1123_SUBDOMAIN_MAX = 253
QUALIFIED_NAME_MAX = 63
LABEL_VALUE_MAX = 63

_LABEL_FMT = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN_FMT = _LABEL_FMT + r"(\." + _LABEL_FMT + ")*"
_DNS1035_FMT = "[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED_FMT = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE_FMT = "(" + _QUALIFIED_FMT + ")?"

_LABEL = re.compile(_LABEL_FMT)
_SUBDOMAIN = re.compile(_SUBDOMAIN_FMT)
_DNS1035 = re.compile(_DNS1035_FMT)
_QUALIFIED = re.compile(_QUALIFIED_FMT)
_LABEL_VALUE = re.compile(_LABEL_VALUE_FMT)

_LABEL_MESSAGE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
    "and must start and end with an alphanumeric character"
)
_SUBDOMAIN_MESSAGE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    "and must start and end with an alphanumeric character"
)
_DNS1035_MESSAGE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character"
)
_QUALIFIED_MESSAGE = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
_LABEL_VALUE_MESSAGE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
    "and must start and end with an alphanumeric character"
)


def max_length_error(length: int) -> str:
    return f"must be no more than {length} bytes"


def regex_error(message: str, fmt: str, *examples: str) -> str:
    """How Kubernetes tells that a value breaks a pattern."""
    if not examples:
        return f"{message} (regex used for validation is '{fmt}')"
    quoted = " or ".join(f"'{example}', " for example in examples)  # Kubernetes leaves a comma after each
    return f"{message} (e.g. {quoted}regex used for validation is '{fmt}')"


def dns1123_label(value: str) -> list[str]:
    dotted = not _LABEL.fullmatch(value) and _SUBDOMAIN.fullmatch(value)
    complaint = "must not contain dots" if dotted else regex_error(_LABEL_MESSAGE, _LABEL_FMT, "my-name", "123-abc")
    return _check(value, DNS1123_LABEL_MAX, _LABEL, complaint)


def dns1123_subdomain(value: str) -> list[str]:
    return _check(value, DNS1123_SUBDOMAIN_MAX, _SUBDOMAIN, regex_error(_SUBDOMAIN_MESSAGE, _SUBDOMAIN_FMT, "example.com"))


def dns1035_label(value: str) -> list[str]:
    return _check(value, DNS1123_LABEL_MAX, _DNS1035, regex_error(_DNS1035_MESSAGE, _DNS1035_FMT, "my-name", "abc-123"))


def label_value(value: str) -> list[str]:
    message = regex_error(_LABEL_VALUE_MESSAGE, _LABEL_VALUE_FMT, "MyValue", "my_value", "12345")
    return _check(value, LABEL_VALUE_MAX, _LABEL_VALUE, message)


def qualified_name(value: str) -> list[str]:
    """A label or annotation key: `name` or `prefix/name`."""
    prefix, slash, name = value.rpartition("/")
    if slash and "/" in prefix:
        return ["a qualified name " + regex_error(_QUALIFIED_MESSAGE, _QUALIFIED_FMT, "MyName", "my.name", "123-abc")
                + " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"]  # fmt: skip
    errors: list[str] = []
    if slash:
        if not prefix:
            errors.append("prefix part must be non-empty")
        else:
            errors += [f"prefix part {error}" for error in dns1123_subdomain(prefix)]
    if not name:
        errors.append("name part must be non-empty")
    elif len(name.encode()) > QUALIFIED_NAME_MAX:
        errors.append(f"name part {max_length_error(QUALIFIED_NAME_MAX)}")
    if not _QUALIFIED.fullmatch(name):
        errors.append(f"name part {regex_error(_QUALIFIED_MESSAGE, _QUALIFIED_FMT, 'MyName', 'my.name', '123-abc')}")
    return errors


def _check(value: str, length_max: int, pattern: re.Pattern[str], complaint: str) -> list[str]:
    errors = [max_length_error(length_max)] if len(value) > length_max and len(value.encode()) > length_max else []
    if not pattern.fullmatch(value):
        errors.append(complaint)
    return errors
