"""Names of images as container runtimes understand them (distribution/reference, pkg/util/parsers). Pure."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

DEFAULT_DOMAIN, OFFICIAL, DEFAULT_TAG = "docker.io", "library/", "latest"
DOMAIN_NAME = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
DOMAIN = rf"(?:{DOMAIN_NAME}(?:\.{DOMAIN_NAME})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
PATH_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
REFERENCE = re.compile(
    rf"(?:(?P<domain>{DOMAIN})/)?(?P<path>{PATH_PART}(?:/{PATH_PART})*)(?::(?P<tag>[\w][\w.-]{{0,127}}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?"
)
IDENTIFIER = re.compile(r"[a-f0-9]{64}")
NAMES_CACHED_MAX = 4096


class ImageNameError(ValueError):
    """The message is that of the Go library."""


class ImageName(NamedTuple):
    domain: str
    path: str
    tag: str
    """Empty where a digest says all."""
    digest: str

    @property
    def repository(self) -> str:
        return f"{self.domain}/{self.path}"

    def __str__(self) -> str:
        """In full: `docker.io/library/nginx:1.25`."""
        return self.repository + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


@lru_cache(maxsize=NAMES_CACHED_MAX)
def parse_image(text: str) -> ImageName:
    """The image that a container asks for, with the defaults for what it leaves out; ImageNameError if that is no name of an image."""
    if IDENTIFIER.fullmatch(text):
        raise ImageNameError(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    domain, rest = _split_domain(text)
    remote = rest.partition(":")[0]
    if remote.lower() != remote:
        raise ImageNameError(f"invalid reference format: repository name ({remote}) must be lowercase")
    found = REFERENCE.fullmatch(f"{domain}/{rest}")
    if found is None:
        raise ImageNameError("invalid reference format")
    tag, digest = found["tag"] or "", found["digest"] or ""
    return ImageName(found["domain"] or "", found["path"], tag or ("" if digest else DEFAULT_TAG), digest)


def _split_domain(text: str) -> tuple[str, str]:
    """Docker's rule: what comes before the first slash is a registry if it looks like one."""
    first, slash, rest = text.partition("/")
    is_domain = bool(slash) and ("." in first or ":" in first or first == "localhost" or first.lower() != first)
    domain, rest = (first, rest) if is_domain else (DEFAULT_DOMAIN, text)
    if domain == "index.docker.io":
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in rest:
        rest = OFFICIAL + rest
    return domain, rest


@lru_cache(maxsize=NAMES_CACHED_MAX)
def full_name(text: str) -> str:
    """As runtimes report an image; a name that is none stays as it is."""
    try:
        return str(parse_image(text))
    except ImageNameError:
        return text
