"""What the scheduler's metrics port answers besides health and /metrics.

/debug/scheduling?pod=namespace/name: why a pod is where it is, or nowhere. /configz: the configuration in force. /metrics/resources: what
every pod requests and is limited to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from multidict import MultiMapping

from kubecosm.api.resources import Object
from kubecosm.runtime.health import TEXT, Answer, HealthEndpoints

from . import podresources

if TYPE_CHECKING:
    from .explain import Explainer

PATH, CONFIGZ = "/debug/scheduling", "/configz"
JSON = "application/json"


@dataclass
class SchedulerEndpoints(HealthEndpoints):
    """Health, metrics, and explanations once the engine runs."""

    explainer: Explainer | None = None
    configuration: Callable[[], Mapping[str, Any]] = dict
    """What /configz tells."""
    pods: Callable[[], Iterable[Object]] = tuple
    """All pods that have not ended."""

    async def answer(self, path: str, query: MultiMapping[str], accept: str = "") -> Answer | None:
        if path == PATH:
            return self._explanation(query)
        if path == CONFIGZ:
            return Answer(200, JSON, orjson.dumps(self.configuration()))
        if path == podresources.PATH:
            return Answer(200, podresources.CONTENT_TYPE, await podresources.render(self.pods()))
        return await super().answer(path, query, accept)

    def _explanation(self, query: MultiMapping[str]) -> Answer:
        pod = query.get("pod", "")
        if pod.count("/") != 1:
            return Answer(400, TEXT, b"say which pod: /debug/scheduling?pod=namespace/name\n")
        if self.explainer is None:
            return Answer(503, TEXT, b"this scheduler does not schedule now: it has just started, or another one leads\n")
        explanation = self.explainer.explain(pod)
        if explanation is None:
            served = ", ".join(self.explainer.profiles)
            return Answer(404, TEXT, f"no decision about pod {pod} is remembered (this scheduler serves {served})\n".encode())
        return Answer(200, JSON, orjson.dumps(explanation, option=orjson.OPT_INDENT_2) + b"\n")
