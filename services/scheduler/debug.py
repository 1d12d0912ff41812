"""/debug/scheduling on the metrics port: why a pod is where it is, or nowhere (`?pod=namespace/name`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson
from multidict import MultiMapping

from kubecosm.runtime.health import TEXT, Answer, HealthEndpoints

if TYPE_CHECKING:
    from .decisions import Decisions

PATH = "/debug/scheduling"
JSON = "application/json"


@dataclass
class SchedulerEndpoints(HealthEndpoints):
    """Health, metrics, and the decisions once there are any."""

    decisions: Decisions | None = None

    async def answer(self, path: str, query: MultiMapping[str], accept: str = "") -> Answer | None:
        if path != PATH:
            return await super().answer(path, query, accept)
        pod = query.get("pod", "")
        if pod.count("/") != 1:
            return Answer(400, TEXT, b"say which pod: /debug/scheduling?pod=namespace/name\n")
        decision = self.decisions.get(pod) if self.decisions is not None else None
        if decision is None:
            return Answer(404, TEXT, f"no decision about pod {pod} is remembered\n".encode())
        return Answer(200, JSON, orjson.dumps(decision.explain(), option=orjson.OPT_INDENT_2) + b"\n")
