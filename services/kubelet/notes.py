"""Pod annotations that tell how a simulated container behaves; all optional.

`kubecosm.dev/<behaviour>` speaks of every container of the pod, `kubecosm.dev/<behaviour>.<container>` of one.
Numbers are seconds unless the name says otherwise; a range `2-5` draws a value from the injected randomness.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

PREFIX = "kubecosm.dev/"

RUN_SECONDS = "run-seconds"
"""The main process ends by itself after so long, with EXIT_CODE."""
EXIT_CODE = "exit-code"
"""Exit code of the main process when it ends by itself (default 0)."""
STARTUP_SECONDS = "startup-seconds"
"""The process runs but answers nothing for so long, as a slow starter does."""
PULL_SECONDS = "pull-seconds"
"""How long pulling the image takes."""
IMAGE_PULL = "image-pull"
"""`fail`: the image cannot be pulled (ErrImagePull, ImagePullBackOff)."""
CRASH = "crash"
"""`true`: the main process ends at once with exit code 1 (or EXIT_CODE)."""
OOM_SECONDS = "oom-seconds"
"""The main process is killed after so long: OOMKilled, exit code 137."""
DRAIN_SECONDS = "drain-seconds"
"""How long a server keeps answering after SIGTERM, within the grace period."""
IGNORE_TERM = "ignore-sigterm"
"""`true`: the process ignores SIGTERM and is killed when the grace period ends."""
HTTP_STATUS = "http-status"
"""Status code of every HTTP answer; read at each request, so it can be changed on a living pod."""
LATENCY_SECONDS = "latency-seconds"
"""Delay before every HTTP answer; read at each request."""
EXEC_EXIT_CODE = "exec-exit-code"
"""Exit code of exec'd programs that the toolbox does not know (default 0)."""
GRPC_STATUS = "grpc-status"
"""`SERVING` (default) or `NOT_SERVING`: the answer to gRPC health checks."""
LOG = "log"
"""A line written to the log at start."""
CPU = "cpu"
"""CPU that the container uses, as a quantity (`250m`)."""
MEMORY = "memory"
"""Memory that the container uses, as a quantity (`64Mi`)."""


def annotation(annotations: Mapping[str, str], behaviour: str, container: str) -> str | None:
    """The value for this container: its own annotation wins over the pod's."""
    own = annotations.get(f"{PREFIX}{behaviour}.{container}")
    return own if own is not None else annotations.get(PREFIX + behaviour)


def parse_seconds(text: str | None, rng: random.Random) -> float | None:
    """`3`, `0.5` or a range `2-5` in seconds; None if absent or not a number."""
    if text is None:
        return None
    low, dash, high = text.partition("-")
    try:
        return rng.uniform(float(low), float(high)) if dash else float(low)
    except ValueError:
        return None


def parse_int(text: str | None, default: int) -> int:
    try:
        return default if text is None else int(text)
    except ValueError:
        return default
