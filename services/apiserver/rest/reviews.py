"""Reviews: questions that are answered and not stored. Who am I, may I, whose token is this, what may I do here.

Imitates pkg/registry/{authorization,authentication}.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from kubecosm.api import managedfields
from kubecosm.api.errors import BadRequest
from kubecosm.api.field import invalid_kind, invalid_value
from kubecosm.api.resources import Object, Resource
from kubecosm.api.schema import prune
from kubecosm.api.times import format_time

from ..authn.contract import TokenError, TokenUnion, settled
from ..authn.user import User, user_info
from ..authz.attributes import Authorizer, CannotDecide, Decision, IncompleteRules, decide
from ..authz.reviewed import reviewed_attributes, reviewed_user
from ..http.request import Request
from ..http.response import Answer
from ..state import State
from .admitting import admit_create
from .body import decode_body
from .options import write_options
from .represent import answer_review
from .storedkind import Caller

Review = Callable[[State, Resource, Request], Awaitable[Answer]]
NAMELESS = ("selfsubjectaccessreviews", "subjectaccessreviews")
"""Reviews whose metadata must be empty."""
GROUP_AUTHZ, GROUP_AUTHN = "authorization.k8s.io", "authentication.k8s.io"


class Reviews:
    """Answers them with the authorizer and the authenticators of this server."""

    def __init__(self, authorizer: Authorizer, tokens: TokenUnion) -> None:
        self._authorizer = authorizer
        self._tokens = tokens
        self.handlers: dict[tuple[str, str], Review] = {
            (GROUP_AUTHZ, "selfsubjectaccessreviews"): self.self_access,
            (GROUP_AUTHZ, "subjectaccessreviews"): self.access,
            (GROUP_AUTHZ, "localsubjectaccessreviews"): self.local_access,
            (GROUP_AUTHZ, "selfsubjectrulesreviews"): self.rules,
            (GROUP_AUTHN, "selfsubjectreviews"): self.self_subject,
            (GROUP_AUTHN, "tokenreviews"): self.token,
        }
        """(group, plural) → what answers its create."""

    async def self_access(self, state: State, row: Resource, request: Request) -> Answer:
        review = await _read(state, row, request)
        return await self._decide(row, request, review, request.user)

    async def access(self, state: State, row: Resource, request: Request) -> Answer:
        review = await _read(state, row, request)
        return await self._decide(row, request, review, reviewed_user(row, review["spec"]))

    async def local_access(self, state: State, row: Resource, request: Request) -> Answer:
        review = await _read(state, row, request)
        namespace = (review["spec"].get("resourceAttributes") or {}).get("namespace", "")
        if namespace != request.info.namespace:
            raise BadRequest(f"spec.resourceAttributes.namespace must match namespace: {request.info.namespace}")
        return await self._decide(row, request, review, reviewed_user(row, review["spec"]))

    async def _decide(self, row: Resource, request: Request, review: Object, user: User) -> Answer:
        attributes, complaint = reviewed_attributes(row, review["spec"], user)
        try:
            decision, reason = await decide(self._authorizer, attributes)
        except CannotDecide as error:
            decision, reason, complaint = Decision.NO_OPINION, "", str(error)
        status: Object = {"allowed": decision is Decision.ALLOW}
        if decision is Decision.DENY:
            status["denied"] = True
        if reason:
            status["reason"] = reason
        if complaint:
            status["evaluationError"] = complaint
        return answer_review(request, {**review, "status": status})

    async def rules(self, state: State, row: Resource, request: Request) -> Answer:
        review = await _read(state, row, request)
        namespace = review["spec"].get("namespace", "")
        if not namespace:
            raise BadRequest("no namespace on request")
        complaint = ""
        try:
            found = self._authorizer.rules(request.user, namespace)
        except IncompleteRules as error:
            found, complaint = error.rules, str(error)
        resource_rules = [_only(rule, "verbs", "apiGroups", "resources", "resourceNames") for rule in found if rule.get("resources")]
        path_rules = [_only(rule, "verbs", "nonResourceURLs") for rule in found if rule.get("nonResourceURLs")]
        status = {"resourceRules": resource_rules, "nonResourceRules": path_rules, "incomplete": bool(complaint)}
        if complaint:
            status["evaluationError"] = complaint
        return answer_review(request, {**review, "metadata": {}, "spec": {}, "status": status})

    async def self_subject(self, state: State, row: Resource, request: Request) -> Answer:
        review = await _read(state, row, request)
        review.pop("spec", None)
        review["metadata"] = {"creationTimestamp": format_time(state.clock.now())}
        return answer_review(request, {**review, "status": {"userInfo": user_info(request.user)}})

    async def token(self, state: State, row: Resource, request: Request) -> Answer:
        review = await _read(state, row, request)
        spec = review["spec"]
        if not spec.get("token"):
            raise BadRequest("token is required for TokenReview in authentication")
        try:
            found = await settled(self._tokens.verify(spec["token"], tuple(spec.get("audiences") or ())))
        except TokenError as error:
            status: Object = {"user": {}, "error": str(error)}
        else:
            status = {"authenticated": True, "user": user_info(found.user), "audiences": list(found.audiences)}
        return answer_review(request, {**review, "status": status})


async def _read(state: State, row: Resource, request: Request) -> Object:
    """The question, with its asker recorded as for any object. Raises Invalid where metadata is given to an authorization review."""
    options = write_options(request, "CreateOptions")
    review = decode_body(row, request, await request.read(), options.field_validation)
    review["spec"] = review.get("spec") or {}
    manager = managedfields.manager_name(options.field_manager, request.headers.get("User-Agent", ""))
    managedfields.on_create(row, review, manager, state.clock.now())
    caller = Caller(request.user, options.dry_run, manager, options, request)
    await admit_create(state, row, "", request.info.namespace, "", review, caller)
    prune(review)
    metadata = review["metadata"]
    if row.plural in NAMELESS and metadata.keys() - {"managedFields"}:
        raise invalid_kind(GROUP_AUTHZ, "", "", [invalid_value("metadata", metadata, "must be empty")])
    return review


def _only(rule: Object, *fields: str) -> Object:
    return {name: rule[name] for name in fields if rule.get(name)}

