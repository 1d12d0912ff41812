"""Paths that are not resources: /version, health, metrics, discovery, and the list of them at /."""

from __future__ import annotations

import platform
from collections.abc import Sequence

import orjson
from multidict import MultiDict

import kubecosm
from kubecosm.api.resources import Object
from kubecosm.runtime.health import HealthEndpoints

from .aggregation.aggregator import Aggregator
from .authn.accounts import AccountTokens
from .customresources.publishing import published_schema
from .discovery.handlers import Discovery
from .flowcontrol import dump
from .http.request import Request
from .http.response import Answer, Response, text_response
from .openapi.handlers import OpenAPI
from .rest.router import method_not_allowed, page_not_found
from .state import State

OPENID_PATH, JWKS_PATH = "/.well-known/openid-configuration", "/openid/v1/jwks"
WEB_SERVICES = frozenset((OPENID_PATH, JWKS_PATH, "/version"))
INDEX_PATHS = (OPENID_PATH, JWKS_PATH, "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version")


def openid_configuration(accounts: AccountTokens, jwks_uri: str) -> Object:
    """How others check ServiceAccount tokens (OIDC discovery)."""
    algorithms = sorted({key.algorithm for key in accounts.keys.public.values()})
    found_at = jwks_uri or accounts.issuer.rstrip("/") + JWKS_PATH
    return {
        "issuer": accounts.issuer, "jwks_uri": found_at, "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": algorithms,
    }  # fmt: skip


class NonResources:
    """Answers what has no group, version and resource."""

    def __init__(
        self, state: State, health: HealthEndpoints, discovery: Discovery, accounts: AccountTokens, aggregator: Aggregator,
        jwks_uri: str = "",
    ) -> None:
        self._state = state
        self._health = health
        self._discovery = discovery
        self._accounts = accounts
        self._jwks_uri = jwks_uri
        self._aggregator = aggregator
        self._openapi = OpenAPI(state.table, published_schema, aggregator.specs)
        self._version = orjson.dumps(version_info(), option=orjson.OPT_INDENT_2)

    async def handle(self, request: Request) -> Answer:
        """Web services are routed by method: a GET alone. The other paths are asked in any way, and HEAD is told how long the answer is."""
        path = request.path.rstrip("/") or "/"
        if self._discovery.matches(path):
            return await self._discovery.handle(request)
        if path in WEB_SERVICES:
            if request.method != "GET":
                raise method_not_allowed()
            return self._web_service(path)
        if self._openapi.matches(path):
            return await self._openapi_answer(request, path)
        if path in ("/", "/index.html"):
            return Response(200, orjson.dumps({"paths": self._index()}, option=orjson.OPT_INDENT_2))
        if path.startswith(dump.PREFIX):
            return self._dump_answer(request, path)
        return await self._health_answer(request, path)

    def _web_service(self, path: str) -> Answer:
        if path == JWKS_PATH:
            keys = [key.jwk() for key in self._accounts.keys.public.values()]
            return Response(200, orjson.dumps({"keys": keys}), "application/jwk-set+json")
        if path == OPENID_PATH:
            return Response(200, orjson.dumps(openid_configuration(self._accounts, self._jwks_uri)))
        return Response(200, self._version)

    def _dump_answer(self, request: Request, path: str) -> Answer:
        """What priority and fairness does at this moment."""
        flows, details = self._state.flow_control, bool(request.param("includeRequestDetails"))
        text = dump.dump(flows, path, details=details, wall=self._state.clock.now()) if flows else None
        return page_not_found() if text is None else text_response(200, text)

    async def _health_answer(self, request: Request, path: str) -> Answer:
        query: MultiDict[str] = MultiDict((name, value) for name, values in request.query.items() for value in values)
        answer = await self._health.answer(path, query, request.headers.get("Accept", ""))
        if answer is None:
            return page_not_found()
        return Response(answer.status, answer.body, answer.content_type, (("X-Content-Type-Options", "nosniff"),))

    async def _openapi_answer(self, request: Request, path: str) -> Answer:
        if self._aggregator.remotes:
            await self._aggregator.specs.refresh(self._aggregator.remotes)
        headers, accept = request.headers, request.headers.get("Accept", "")
        status, answer, body = self._openapi.handle(path, accept, query=request.raw_query, headers=headers)
        content_type = answer.pop("Content-Type", "text/plain; charset=utf-8")
        return Response(status, body, content_type, tuple(answer.items()))

    def _index(self) -> Sequence[str]:
        groups = self._aggregator.catalog.group_versions(self._state.table)
        paths = {"/api", "/api/v1", "/apis", *INDEX_PATHS, *self._health.paths()}
        for group, versions in groups.items():
            if group:
                paths |= {f"/apis/{group}", *(f"/apis/{group}/{version}" for version in versions)}
        return sorted(paths)


def version_info() -> Object:
    """/version, as version.Info."""
    major, minor = kubecosm.KUBERNETES_VERSION.lstrip("v").split(".")[:2]
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return {
        "major": major, "minor": minor, "emulationMajor": major, "emulationMinor": minor, "minCompatibilityMajor": major,
        "minCompatibilityMinor": str(int(minor) - 1), "gitVersion": kubecosm.KUBERNETES_VERSION,
        "gitCommit": f"kubecosm-{kubecosm.__version__}", "gitTreeState": "clean", "buildDate": "2026-04-22T00:00:00Z",
        "goVersion": f"python{platform.python_version()}", "compiler": platform.python_implementation().lower(),
        "platform": f"{platform.system().lower()}/{machine}",
    }  # fmt: skip


