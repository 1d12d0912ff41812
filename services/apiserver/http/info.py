"""RequestInfo: what a URL path and method mean. Imitates k8s.io/apiserver/pkg/endpoints/request/requestinfo.go."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote

VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
NAMESPACE_SUBRESOURCES = ("status", "finalize")
PATHS_CACHED_MAX = 8192


@dataclass(frozen=True, slots=True)
class PathInfo:
    """A path taken apart; what it means for every method. `parts` are the segments after `<group>/<version>/[namespaces/<ns>/]`."""

    path: str
    is_resource: bool = False
    prefix: str = ""
    group: str = ""
    version: str = ""
    namespace: str = ""
    resource: str = ""
    name: str = ""
    subresource: str = ""
    parts: tuple[str, ...] = field(default=())
    is_watch: bool = False
    """`/api/v1/watch/…`, deprecated but still served."""

    @property
    def rest(self) -> str:
        """What follows the subresource: the path a proxy forwards, without its first slash."""
        return "/".join(self.parts[3:])


def parse_path(raw_path: str) -> PathInfo:
    """Take a URL path (still percent-encoded) apart. Unknown shapes are non-resource requests."""
    path = unquote(raw_path) if "%" in raw_path else raw_path
    parts = path.strip("/").split("/")
    if len(parts) < 3 or parts[0] not in ("api", "apis"):
        return PathInfo(path)
    prefix = parts.pop(0)
    if prefix == "apis":
        if len(parts) < 3:
            return PathInfo(path)
        group = parts.pop(0)
    else:
        group = ""
    version = parts.pop(0)
    is_watch = parts[0] == "watch" and len(parts) > 1
    if is_watch:
        parts.pop(0)
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 1:
        namespace = parts[1]
        if len(parts) > 2 and parts[2] not in NAMESPACE_SUBRESOURCES:
            parts = parts[2:]
    resource = parts[0]
    name = parts[1] if len(parts) > 1 else ""
    subresource = parts[2] if len(parts) > 2 else ""
    return PathInfo(path, True, prefix, group, version, namespace, resource, name, subresource, tuple(parts), is_watch)


class PathCache:
    """parse_path, remembered for the paths that keep coming."""

    def __init__(self) -> None:
        self._known: dict[str, PathInfo] = {}

    def get(self, raw_path: str) -> PathInfo:
        found = self._known.get(raw_path)
        if found is None:
            if len(self._known) >= PATHS_CACHED_MAX:
                self._known.clear()
            found = self._known[raw_path] = parse_path(raw_path)
        return found


def verb_of(method: str, info: PathInfo, watch: bool) -> str:
    """The API verb: get, list, watch, create, update, patch, delete or deletecollection; the method's own name for non-resources."""
    if not info.is_resource:
        return method.lower()
    verb = VERBS.get(method, "")
    watch = watch or info.is_watch
    if info.name:
        return "watch" if watch and verb == "get" and not info.subresource else verb
    if verb == "get":
        return "watch" if watch else "list"
    return "deletecollection" if verb == "delete" else verb
