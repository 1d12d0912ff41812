"""RequestInfo: what a URL path and method mean. Imitates k8s.io/apiserver/pkg/endpoints/request/requestinfo.go."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from urllib.parse import unquote

VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
NAMESPACE_SUBRESOURCES = ("status", "finalize")
READ_ONLY_VERBS = frozenset(("get", "list", "watch", "head", "options"))
LONG_RUNNING_SUBRESOURCES = frozenset(("attach", "exec", "proxy", "log", "portforward"))
PATHS_CACHED_MAX = 8192
TARGETS_CACHED_MAX = 4096


class Target:
    """What paths mean that differ only in the name of their object. Compared by identity."""

    __slots__ = ()


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
    target: Target = field(default_factory=Target, compare=False, repr=False)

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
    """parse_path, remembered for the paths that keep coming, with one target for all that differ only in the name."""

    def __init__(self) -> None:
        self._known: dict[str, PathInfo] = {}
        self._targets: dict[tuple[str | bool, ...], Target] = {}

    def get(self, raw_path: str) -> PathInfo:
        found = self._known.get(raw_path)
        if found is None:
            if len(self._known) >= PATHS_CACHED_MAX:
                self._known.clear()
            found = parse_path(raw_path)
            found = self._known[raw_path] = replace(found, target=self._target(found))
        return found

    def _target(self, info: PathInfo) -> Target:
        key: tuple[str | bool, ...] = (info.path,)
        if info.is_resource:
            key = (info.group, info.version, info.namespace, info.resource, info.subresource, bool(info.name))
        if key not in self._targets and len(self._targets) >= TARGETS_CACHED_MAX:
            self._targets.clear()
        return self._targets.setdefault(key, info.target)


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
