"""Lifecycle hooks: postStart and preStop as exec, httpGet, tcpSocket (deprecated: does nothing) or sleep."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from kubecosm.api.resources import Object
from kubecosm.runtime.clock import Clock

from ..cri.runtime import Runtime
from ..cri.streams import Pipe, ProcessStreams
from ..cri.types import RuntimeFailure
from ..probes.checks import STATUS_CODE, CheckResult, Target, check_http, resolve_port
from .spec import probed_host

HTTP_HOOK_SECONDS_MAX = 30.0
OUTPUT_BYTES_MAX = 10 * 1024


async def run_exec(runtime: Runtime, container_id: str, command: list[str]) -> tuple[int, str]:
    """Run a program of a probe or hook; (exit code, its combined output). Unknown programs succeed on simulated images."""
    output = _Limited()
    streams = ProcessStreams(stdin=None, stdout=output, stderr=output)
    code = await runtime.exec(container_id, command, streams, lenient=True)
    return code, output.text()


class _Limited(Pipe):
    """Keeps the first bytes of an output; the rest is dropped."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        super().__init__()
        self._kept = bytearray()

    async def write(self, data: bytes) -> None:
        self.feed(data)

    def feed(self, data: bytes) -> None:
        self._kept += data[: OUTPUT_BYTES_MAX - len(self._kept)]

    def text(self) -> str:
        return self._kept.decode(errors="replace")


async def exec_check(runtime: Runtime, container_id: str, command: list[str], timeout: float) -> CheckResult:
    """An exec probe: success is exit code 0."""
    try:
        async with asyncio.timeout(timeout):
            code, output = await run_exec(runtime, container_id, command)
    except TimeoutError:
        return CheckResult(False, f'command timed out: "{" ".join(command)}" timed out after {timeout:g}s')
    except RuntimeFailure as failure:
        return CheckResult(False, failure.message, is_error=True)
    return CheckResult(code == 0, output.removesuffix("\n"))


class HookSubject(NamedTuple):
    """The container that a hook is run for."""

    pod: Object
    spec: Object
    container_id: str
    ip: str


async def run_hook(runtime: Runtime, clock: Clock, action: Object, subject: HookSubject) -> str:
    """Run one hook to its end; returns why it failed, empty if it did not, in the words of pkg/kubelet/lifecycle/handlers.go."""
    meta = subject.pod["metadata"]
    where = f'for Container "{subject.spec["name"]}" in Pod "{meta["name"]}_{meta["namespace"]}({meta["uid"]})" failed - error: '
    if (command := action.get("exec")) is not None:
        words = list(command.get("command") or ())
        failed = f"Exec lifecycle hook ([{' '.join(words)}]) {where}"
        try:
            code, output = await run_exec(runtime, subject.container_id, words)
        except RuntimeFailure as failure:
            return f'{failed}{failure.message}, message: ""'
        return "" if code == 0 else f"{failed}command '{' '.join(words)}' exited with {code}: {output}, message: \"{output}\""
    if (request := action.get("httpGet")) is not None:
        failed = f"HTTP lifecycle hook ({request.get('path') or ''}) {where}"
        try:
            target = Target(probed_host(subject.pod, request, subject.ip), resolve_port(request["port"], subject.spec), runtime.dial)
        except ValueError as failure:
            return f"{failed}{failure}"
        result = await check_http(target, request, HTTP_HOOK_SECONDS_MAX)
        # Any answer will do: a hook is called, not asked.
        return "" if result.success or result.message.startswith(STATUS_CODE) else failed + result.message
    if (pause := action.get("sleep")) is not None:
        await clock.sleep(float(pause.get("seconds") or 0))
    return ""
