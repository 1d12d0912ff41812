"""/debug/scheduling on the metrics port: why a pod is where it is, or nowhere (`?pod=namespace/name`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson
from multidict import MultiMapping

from kubecosm.runtime.health import TEXT, Answer, HealthEndpoints

if TYPE_CHECKING:
    from .explain import Explainer

PATH = "/debug/scheduling"
JSON = "application/json"


@dataclass
class SchedulerEndpoints(HealthEndpoints):
    """Health, metrics, and explanations once the engine runs."""

    explainer: Explainer | None = None

    async def answer(self, path: str, query: MultiMapping[str], accept: str = "") -> Answer | None:
        if path != PATH:
            return await super().answer(path, query, accept)
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
