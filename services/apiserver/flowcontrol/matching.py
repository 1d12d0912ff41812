"""Which FlowSchema a request belongs to. Imitates apiserver/pkg/util/flowcontrol/rule.go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kubecosm.api.resources import Object

from ..authn.accounts import USER_PREFIX
from ..authn.user import User
from ..http.info import PathInfo

ANY = "*"


def in_order(schemas: Iterable[Object]) -> list[Object]:
    """The FlowSchemas in the order in which they are tried: by precedence, then by name."""
    return sorted(schemas, key=lambda schema: (schema["spec"]["matchingPrecedence"], schema["metadata"]["name"]))


def find_schema(ordered: Sequence[Object], user: User, verb: str, info: PathInfo) -> Object | None:
    """The first FlowSchema that matches."""
    return next((schema for schema in ordered if matches(schema, user, verb, info)), None)


def matches(schema: Object, user: User, verb: str, info: PathInfo) -> bool:
    """Whether one of the rules covers the request and names the user."""
    return any(
        any(_is_subject(subject, user) for subject in rule.get("subjects") or ()) and _covers(rule, verb, info)
        for rule in schema["spec"].get("rules") or ()
    )


def distinguisher(schema: Object, user: User, info: PathInfo) -> str:
    """What tells the flows of a FlowSchema from each other."""
    method = (schema["spec"].get("distinguisherMethod") or {}).get("type")
    return user.name if method == "ByUser" else info.namespace if method == "ByNamespace" else ""


def _is_subject(subject: Object, user: User) -> bool:
    kind = subject.get("kind")
    if kind == "User":
        return subject["user"]["name"] in (ANY, user.name)
    if kind == "Group":
        name = subject["group"]["name"]
        return name == ANY or name in user.groups
    if kind != "ServiceAccount" or not user.name.startswith(USER_PREFIX):
        return False
    account = subject["serviceAccount"]
    prefix = f"{USER_PREFIX}{account['namespace']}:"
    return user.name.startswith(prefix) if account["name"] == ANY else user.name == prefix + account["name"]


def _covers(rule: Object, verb: str, info: PathInfo) -> bool:
    if info.is_resource:
        return any(_covers_resource(one, verb, info) for one in rule.get("resourceRules") or ())
    return any(_covers_path(one, verb, info.path) for one in rule.get("nonResourceRules") or ())


def _covers_resource(rule: Object, verb: str, info: PathInfo) -> bool:
    resource = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    if not (_has(rule.get("verbs"), verb) and _has(rule.get("apiGroups"), info.group) and _has(rule.get("resources"), resource)):
        return False
    return _has(rule.get("namespaces"), info.namespace) if info.namespace else bool(rule.get("clusterScope"))


def _has(values: Sequence[str] | None, value: str) -> bool:
    return values is not None and (value in values or ANY in values)


def _covers_path(rule: Object, verb: str, path: str) -> bool:
    if not _has(rule.get("verbs"), verb):
        return False
    for pattern in rule.get("nonResourceURLs") or ():
        if pattern in (ANY, path):
            return True
        if pattern.endswith(ANY) and path.startswith(pattern[:-1]):
            return True
    return False
