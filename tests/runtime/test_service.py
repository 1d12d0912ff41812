"""A service process from start to end, as its supervisor and its user see it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubecosm.runtime.garbage import THRESHOLDS

pytestmark = pytest.mark.process

SECONDS_MAX = 20.0

PROGRAM = '''
import asyncio, gc, os
from dataclasses import dataclass, field
from kubecosm.runtime.errors import StartupError
from kubecosm.runtime.logs import get_logger
from kubecosm.runtime.service import ReadyInfo, main

log = get_logger("demo")

@dataclass(frozen=True)
class Config:
    behave: str = field(default="serve", metadata={"help": "what to do"})

async def serve(config, *, clock, stop, on_ready):
    if config.behave == "refuse":
        async with asyncio.TaskGroup():
            raise StartupError("port 1 is in use: choose another")
    if config.behave == "tell-thresholds":
        raise StartupError(f"collects after {gc.get_threshold()[0]}")
    if config.behave == "crash":
        async with asyncio.TaskGroup():
            raise RuntimeError("boom")
    log.info("serving", object="Pod default/web-0", request_id="r1")
    log.debug("never shown")
    on_ready(ReadyInfo({"secure": 1234}))
    await stop.wait()
    if config.behave == "hang":
        await asyncio.Event().wait()
    log.info("stopped")

main("demo", Config, serve)
'''


class Service:
    """A started program with both ends of its notify and lifeline pipes."""

    def __init__(self, program: Path, *arguments: str) -> None:
        self.notify, notify_write = os.pipe()
        lifeline_read, self.lifeline = os.pipe()
        descriptors = (notify_write, lifeline_read)
        self.process = subprocess.Popen(
            [sys.executable, str(program), f"--notify-fd={notify_write}", f"--lifeline-fd={lifeline_read}", *arguments],
            pass_fds=descriptors, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        for descriptor in descriptors:
            os.close(descriptor)

    def notice(self) -> dict[str, object]:
        """The line it writes when it serves or cannot."""
        readable, _, _ = select.select([self.notify], [], [], SECONDS_MAX)
        assert readable, "no notice in time"
        notice: dict[str, object] = json.loads(os.read(self.notify, 4096))
        return notice

    def finish(self) -> tuple[int, str]:
        """Its exit code and what it wrote to stderr."""
        _out, err = self.process.communicate(timeout=SECONDS_MAX)
        return self.process.returncode, err

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        for descriptor in (self.notify, self.lifeline):
            try:
                os.close(descriptor)
            except OSError:
                continue


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "demo.py"
    path.write_text(PROGRAM)
    return path


@pytest.fixture
def service(program: Path) -> Iterator[Service]:
    started = Service(program)
    yield started
    started.close()


def test_it_tells_its_ports_and_ends_cleanly_at_sigterm(service: Service) -> None:
    assert service.notice() == {"ready": True, "ports": {"secure": 1234}}
    service.process.send_signal(signal.SIGTERM)
    code, err = service.finish()
    assert code == 0
    lines = [json.loads(line) for line in err.splitlines()]
    assert {line["component"] for line in lines} == {"demo"}
    assert [line["event"] for line in lines] == ["serving", "stopped"]
    assert lines[0] | {"ts": ""} == {
        "ts": "", "level": "info", "component": "demo", "event": "serving", "object": "Pod default/web-0", "request_id": "r1",
    }  # fmt: skip


def test_it_ends_at_once_when_its_supervisor_is_gone(service: Service) -> None:
    service.notice()
    os.close(service.lifeline)
    assert service.process.wait(SECONDS_MAX) == 1


def test_a_second_signal_insists(program: Path) -> None:
    service = Service(program, "--behave=hang")
    try:
        service.notice()
        service.process.send_signal(signal.SIGINT)
        deadline_reached = False
        while service.process.poll() is None and not deadline_reached:
            service.process.send_signal(signal.SIGINT)
            try:
                service.process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        assert service.process.returncode == 128 + signal.SIGINT
    finally:
        service.close()


def test_an_expected_failure_is_one_line_and_exit_code_1(program: Path) -> None:
    service = Service(program, "--behave=refuse")
    try:
        assert service.notice() == {"ready": False, "error": "port 1 is in use: choose another"}
        assert service.finish() == (1, "demo: port 1 is in use: choose another\n")
    finally:
        service.close()


def test_no_burst_is_interrupted_by_a_look_for_cycles(program: Path) -> None:
    service = Service(program, "--behave=tell-thresholds")
    try:
        assert service.finish() == (1, f"demo: collects after {THRESHOLDS[0]}\n")
    finally:
        service.close()


def test_a_wrong_flag_is_told_to_user_and_supervisor(program: Path) -> None:
    service = Service(program, "--behav=x")
    try:
        line = "unknown flag --behav (did you mean --behave?): see python -m kubecosm.services.demo --help"
        assert service.notice() == {"ready": False, "error": line}
        assert service.finish() == (1, f"demo: {line}\n")
    finally:
        service.close()


def test_help_may_be_read_in_part(program: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer) as stdout:
        command = [sys.executable, str(program), "--help"]
        done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, timeout=SECONDS_MAX, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_unforeseen_failure_is_logged_as_json_with_its_traceback(program: Path) -> None:
    service = Service(program, "--behave=crash")
    try:
        assert service.notice() == {"ready": False, "error": "demo crashed (RuntimeError: boom); its log has the details"}
        code, err = service.finish()
        assert code == 70
        (line,) = [json.loads(text) for text in err.splitlines()]
        assert line["level"] == "error"
        assert "Traceback" in line["exception"]
    finally:
        service.close()
