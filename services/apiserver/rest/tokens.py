"""POST serviceaccounts/<name>/token: a signed token for an account. Imitates pkg/registry/core/serviceaccount/storage/token.go."""

from __future__ import annotations

from datetime import timedelta

from kubecosm.api import errors
from kubecosm.api.errors import BadRequest
from kubecosm.api.field import FieldError, invalid_kind, invalid_value
from kubecosm.api.resources import NODES, PODS, SECRETS, SERVICEACCOUNTS, Object, Resource
from kubecosm.api.times import format_time

from ..authn.accounts import CLAIM, AccountTokens
from ..http.request import Request
from ..http.requestinfo import new_uid
from ..http.response import Answer
from .admitting import admit_create
from .body import decode_body
from .options import write_options
from .represent import answer_review
from .store import Caller, ResourceStore

GROUP = "authentication.k8s.io"
SECONDS_DEFAULT, SECONDS_MIN, SECONDS_MAX = 3600, 600, 1 << 32
PROJECTED_SECONDS = 3607
"""What kubelets ask for; such tokens live longer than they say, so that clients that never read them again keep working."""
EXTENDED_SECONDS = 365 * 24 * 3600
BOUND_KINDS = {("v1", "Pod"): PODS, ("v1", "Secret"): SECRETS, ("v1", "Node"): NODES}


class TokenRequests:
    """Answers TokenRequests."""

    def __init__(self, tokens: AccountTokens, api_audiences: tuple[str, ...]) -> None:
        """`api_audiences`: what tokens are meant for if nobody says."""
        self._tokens = tokens
        self._api_audiences = list(api_audiences)

    async def create(self, store: ResourceStore, request: Request) -> Answer:
        options, info = write_options(request, "CreateOptions"), request.info
        account = store.entry(info.namespace, info.name).decode()
        subresource = SERVICEACCOUNTS.subresource("token")
        wanted = decode_body(SERVICEACCOUNTS, request, await request.read(), options.field_validation, subresource=subresource)
        name = wanted["metadata"].setdefault("name", info.name)
        if name != info.name:
            raise BadRequest("name in URL does not match name in TokenRequest object")
        wanted["metadata"]["namespace"] = info.namespace
        caller = Caller(request.user, options.dry_run, options=options, notes=request)
        await admit_create(store.state, store.row, "token", info.namespace, info.name, wanted, caller)
        spec = wanted["spec"] = {**(wanted.get("spec") or {})}
        spec["audiences"] = spec.get("audiences") or self._api_audiences
        spec["expirationSeconds"] = spec.get("expirationSeconds") or SECONDS_DEFAULT
        check_seconds(spec["expirationSeconds"])
        self._bound_seconds(request, spec)
        claims, expires = self._claims(store, account, spec)
        created = format_time(store.state.clock.now())
        wanted["metadata"]["creationTimestamp"] = created
        wanted["status"] = {"token": self._tokens.sign(claims), "expirationTimestamp": expires}
        return answer_review(request, wanted)

    def _bound_seconds(self, request: Request, spec: Object) -> None:
        """--service-account-max-token-expiration."""
        most = int(self._tokens.max_seconds)
        if most and spec["expirationSeconds"] > most:
            request.warn(
                f"requested expiration of {spec['expirationSeconds']} seconds shortened to {most} seconds due to server configuration"
            )
            spec["expirationSeconds"] = most

    def _claims(self, store: ResourceStore, account: Object, spec: Object) -> tuple[Object, str]:
        now, seconds = store.state.clock.now(), spec["expirationSeconds"]
        namespace = account["metadata"]["namespace"]
        private: Object = {"namespace": namespace, "serviceaccount": _identity(account)}
        private |= _bound(store, namespace, spec.get("boundObjectRef"), account["metadata"]["name"])
        issued = int(now.timestamp())
        expires = issued + seconds
        if self._tokens.extends and seconds == PROJECTED_SECONDS and spec["audiences"] == self._api_audiences and "pod" in private:
            private["warnafter"] = expires
            expires = issued + EXTENDED_SECONDS
        claims: Object = {
            "aud": spec["audiences"], "exp": expires, "iat": issued, "iss": self._tokens.issuer,
            "jti": new_uid(store.state.rng.getrandbits(128)), CLAIM: private, "nbf": issued,
            "sub": f"system:serviceaccount:{namespace}:{account['metadata']['name']}",
        }  # fmt: skip
        return claims, format_time(now + timedelta(seconds=seconds))


def check_seconds(seconds: int) -> None:
    """Raises Invalid."""
    found: list[FieldError] = []
    if seconds < SECONDS_MIN:
        found.append(invalid_value("spec.expirationSeconds", seconds, "may not specify a duration less than 10 minutes"))
    if seconds > SECONDS_MAX:
        found.append(invalid_value("spec.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds"))
    if found:
        raise invalid_kind(GROUP, "TokenRequest", "", found)


def _identity(obj: Object) -> Object:
    return {"name": obj["metadata"]["name"], "uid": obj["metadata"]["uid"]}


def _bound(store: ResourceStore, namespace: str, reference: Object | None, account: str) -> Object:
    """The claims about the object that a token is bound to. Raises BadRequest, NotFound, Conflict."""
    if not reference:
        return {}
    kind = (reference.get("apiVersion", ""), reference.get("kind", ""))
    resource = BOUND_KINDS.get(kind)
    if resource is None:
        raise BadRequest(f"cannot bind token for serviceaccount {account!r} to object of type {kind[0]}, Kind={kind[1]}")
    obj = _find(store, resource, namespace, reference.get("name", ""))
    uid = reference.get("uid", "")
    if uid and uid != obj["metadata"]["uid"]:
        why = (
            f"the UID in the bound object reference ({uid}) does not match the UID in record. "
            "The object might have been deleted and then recreated"
        )
        raise errors.conflict(resource, reference["name"], why)
    claims: Object = {resource.singular: _identity(obj)}
    if resource == PODS:
        if obj["spec"].get("serviceAccountName", "") != account:
            why = f"to pod running with different serviceaccount name: {obj['spec'].get('serviceAccountName', '')}"
            raise BadRequest(f'cannot bind token for serviceaccount "{account}" {why}')
        node = _store(store, NODES).cache.get(obj["spec"].get("nodeName", ""))
        if node is not None:
            claims["node"] = _identity(node.decode())
    return claims


def _find(store: ResourceStore, resource: Resource, namespace: str, name: str) -> Object:
    return _store(store, resource).entry(namespace, name).decode()


def _store(store: ResourceStore, resource: Resource) -> ResourceStore:
    return store.state.store(resource.group, resource.version, resource.plural)
