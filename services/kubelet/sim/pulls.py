"""Why an image cannot be pulled, in containerd's words. Pure."""

from __future__ import annotations

from ..cri.images import ImageName

UNRESOLVABLE_SUFFIX = ".invalid"
"""A registry of this top-level domain (RFC 2606) never exists, so its images cannot be pulled."""
NAME_SERVER = "127.0.0.53:53"
"""Whom a machine asks for names."""
DENIED = (
    "pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed"
)
FAIL, DENY = "fail", "denied"


def pull_problem(image: ImageName, wish: str) -> str:
    """Empty if it can be pulled. `wish` is what the pod asks for: `fail` for a tag that is not there, `denied` for a registry's no."""
    what = f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": '
    if image.domain.endswith(UNRESOLVABLE_SUFFIX) or image.domain.startswith("invalid."):
        host = image.domain.partition(":")[0]
        url = f"https://{image.domain}/v2/{image.path}/manifests/{image.digest or image.tag}"
        return f'{what}failed to do request: Head "{url}": dial tcp: lookup {host} on {NAME_SERVER}: no such host'
    if wish == DENY:
        return what + DENIED
    if wish == FAIL:
        return f"rpc error: code = NotFound desc = {what}{image}: not found"
    return ""
