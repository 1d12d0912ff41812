"""Answers get and list of nodes and pods in metrics.k8s.io. Imitates metrics-server's pkg/api."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from kubecosm.api.errors import NotFound, ServiceUnavailable
from kubecosm.api.resources import NODES, PODS, Object, Resource

from ..cache.selection import Selection
from ..connect.backend import Backends
from ..connect.location import kubelet_of
from ..http.request import Request
from ..http.response import Answer, Response
from ..rest.options import list_options
from ..rest.represent import accepted_by, encode_as
from ..rest.router import not_found
from ..state import State
from .documents import list_document, node_metrics, pod_metrics, table_document
from .rows import GROUP, NODE_METRICS, POD_METRICS
from .summaries import FRESH_SECONDS, FRESH_SECONDS_FOR_NEW_PODS, Summaries

SUMMARY_PATH = "/stats/summary?only_cpu_and_memory=true"
STATUS_MAX = 299


class ResourceMetrics:
    """Both resources, out of the summaries of the kubelets they need."""

    def __init__(self, state: State, backends: Backends) -> None:
        self._state = state
        self._backends = backends
        self._summaries = Summaries(self._fetch, state.clock)
        self.handlers = {(GROUP, NODE_METRICS.plural): self.nodes, (GROUP, POD_METRICS.plural): self.pods}
        """(group, plural) → what answers it."""

    async def nodes(self, state: State, row: Resource, request: Request) -> Answer:
        nodes = {node["metadata"]["name"]: node for node in self._wanted(NODES, request)}
        found = await self._ask(nodes)
        items = [node_metrics(nodes[name], summary) for name, summary in found.items()]
        return _answer(request, row, items, request.info.name)

    async def pods(self, state: State, row: Resource, request: Request) -> Answer:
        pods = [pod for pod in self._wanted(PODS, request) if (pod.get("status") or {}).get("phase") == "Running"]
        stats = dict(_by_uid(await self._ask(_nodes_of(pods))))
        if new := [pod for pod in pods if pod["metadata"]["uid"] not in stats]:
            stats |= _by_uid(await self._ask(_nodes_of(new), fresh_seconds=FRESH_SECONDS_FOR_NEW_PODS))
        items = [pod_metrics(pod, stats[uid]) for pod in pods if (uid := pod["metadata"]["uid"]) in stats and stats[uid].get("containers")]
        return _answer(request, row, items, f"{request.info.namespace}/{request.info.name}")

    async def _ask(self, nodes: Iterable[str], *, fresh_seconds: float = FRESH_SECONDS) -> dict[str, Object]:
        if self._state.tasks is None:
            raise ServiceUnavailable("the server is not ready to ask kubelets")
        return await self._summaries.of(nodes, self._state.tasks, fresh_seconds=fresh_seconds)

    def _wanted(self, resource: Resource, request: Request) -> Iterator[Object]:
        """The nodes or pods that the request is about. Raises NotFound, BadRequest."""
        info, store = request.info, self._state.store(resource.group, resource.version, resource.plural)
        if info.subresource:
            raise not_found()
        if info.name:
            entry = store.cache.get(f"{info.namespace}/{info.name}" if resource.namespaced else info.name)
            return iter(() if entry is None else (entry.decode(),))
        options = list_options(request, watch=False)
        selection = Selection(info.namespace, options.labels, options.fields)
        return (entry.decode() for entry in store.cache.page(selection).entries)

    async def _fetch(self, node: str) -> bytes:
        kubelet = kubelet_of(self._state, node)
        async with await self._backends.open("GET", kubelet, SUMMARY_PATH, {}, b"") as response:
            body: bytes = await response.read()
            if response.status > STATUS_MAX:
                raise ServiceUnavailable(f"the kubelet of {node} answered {response.status}")
            return body


def _nodes_of(pods: Iterable[Object]) -> Iterator[str]:
    return (pod["spec"]["nodeName"] for pod in pods if pod["spec"].get("nodeName"))


def _by_uid(summaries: Mapping[str, Object]) -> Iterator[tuple[str, Object]]:
    for summary in summaries.values():
        for stats in summary.get("pods") or ():
            yield stats["podRef"]["uid"], stats


def _answer(request: Request, row: Resource, items: list[Object], name: str) -> Response:
    """One item if the request names it, else the list. Raises NotFound."""
    accept = accepted_by(request)
    if request.info.name and not items:
        message = f'{row.kind.lower()}.{GROUP} "{name}" not found'
        raise NotFound(message, details={"name": name, "group": GROUP, "kind": row.kind.lower()})
    if accept.transform == "Table":
        document = table_document(row, items, accept.version)
    else:
        document = items[0] if request.info.name else list_document(row, items)
    body, content_type = encode_as(accept, document)
    return Response(200, body, content_type)
