"""Requests of an authenticating proxy: who it says is asking is believed, because its certificate is of the front proxies' own authority.

An aggregated API server learns in the same way from this one on whose behalf it is called. Imitates
k8s.io/apiserver/pkg/authentication/request/headerrequest. Left out: proxies certified by an intermediate authority.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from .user import GROUP_AUTHENTICATED, User

Subject = tuple[tuple[tuple[str, str], ...], ...]
"""A name as ssl.SSLObject.getpeercert() gives it."""


@dataclass
class FrontProxy:
    """Which certificates are believed, and which headers say what; the first header of a kind that has a value counts."""

    authorities: frozenset[Subject]
    """May change while the server runs."""
    allowed_names: tuple[str, ...]
    """Common names; empty: any."""
    user_headers: tuple[str, ...] = ("X-Remote-User",)
    group_headers: tuple[str, ...] = ("X-Remote-Group",)
    extra_prefixes: tuple[str, ...] = ("X-Remote-Extra-",)
    uid_headers: tuple[str, ...] = ("X-Remote-Uid",)

    def is_proxy(self, issuer: Subject, common_name: str) -> bool:
        """Whether a checked certificate of this issuer and name is a front proxy's."""
        return issuer in self.authorities and (not self.allowed_names or common_name in self.allowed_names)

    def user_of(self, headers: Mapping[str, str]) -> User | None:
        """None if the headers name nobody."""
        name = _first(headers, self.user_headers)
        if not name:
            return None
        groups = tuple(value for header in self.group_headers for value in _all(headers, header))
        extra: dict[str, tuple[str, ...]] = {}
        for header, value in headers.items():
            for prefix in self.extra_prefixes:
                if header.lower().startswith(prefix.lower()):
                    key = unquote(header[len(prefix) :]).lower()
                    extra[key] = (*extra.get(key, ()), value)
        if GROUP_AUTHENTICATED not in groups:
            groups = (*groups, GROUP_AUTHENTICATED)
        return User(name, groups, _first(headers, self.uid_headers), extra)


def _first(headers: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((value for name in names if (value := headers.get(name, ""))), "")


def _all(headers: Mapping[str, str], name: str) -> list[str]:
    return [value for key, value in headers.items() if key.lower() == name.lower()]
