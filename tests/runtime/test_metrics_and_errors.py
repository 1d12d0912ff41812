"""Buckets, and failures told in one line."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from kubecosm.client.config import ConfigError
from kubecosm.runtime.errors import StartupError, explain_os_error, find_startup_error, startup
from kubecosm.runtime.metrics import SAMPLES_AT_ONCE, Encoder, Metrics, exponential_buckets


def test_exponential_buckets_grow_by_the_factor() -> None:
    assert exponential_buckets(1, 2, 4) == (1, 2, 4, 8)


def test_histograms_expose_the_chosen_buckets_and_no_created_series() -> None:
    metrics = Metrics()
    metrics.histogram("wait_seconds", "Wait.", buckets=(0.1, 1)).observe(0.5)
    _content_type, body = metrics.render()
    assert b'wait_seconds_bucket{le="0.1"} 0.0' in body
    assert b'wait_seconds_bucket{le="1.0"} 1.0' in body
    assert b"_created" not in body


def test_two_services_in_one_process_keep_their_metrics_apart() -> None:
    first, second = Metrics(), Metrics()
    first.gauge("things", "Things.").set(1)
    second.gauge("things", "Things.").set(2)
    assert b"things 1.0" in first.render()[1]
    assert b"things 2.0" in second.render()[1]


def many_series() -> Metrics:
    metrics = Metrics()
    waits = metrics.histogram("wait_seconds", "Wait.", ("queue",))
    for number in range(SAMPLES_AT_ONCE // 2):
        waits.labels(str(number)).observe(1)
    metrics.counter("authenticated_user_requests_total", "Requests.").inc()
    metrics.gauge("nobody", "Has no series.", ("label",))
    return metrics


@pytest.mark.parametrize(
    ("accept", "encoder"),
    [("", generate_latest), ("application/openmetrics-text; version=1.0.0", openmetrics.generate_latest)],
    ids=["text", "openmetrics"],
)
def test_metrics_written_in_pieces_are_the_same(accept: str, encoder: Encoder) -> None:
    metrics = many_series()
    whole = encoder(metrics.registry).split(b"\n")
    told = metrics.render(accept)[1].split(b"\n")
    changing = (b"process_", b"authenticated_user_requests", b"# HELP authenticated_user", b"# TYPE authenticated_user")
    assert [line for line in told if not line.startswith(changing)] == [line for line in whole if not line.startswith(changing)]


def test_other_work_goes_on_while_metrics_are_written() -> None:
    async def scrape() -> int:
        turns = 0
        writing = asyncio.ensure_future(many_series().render_in_turns())
        while not writing.done():
            turns += 1
            await asyncio.sleep(0)
        return turns

    assert asyncio.run(scrape()) > 5


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EADDRINUSE, "already in use: stop the program that holds it, or choose another port"),
        (errno.ENOSPC, "free some space and start again; nothing written before is lost"),
        (errno.EACCES, "permission denied"),
        (errno.EPIPE, "broken pipe"),
    ],
)
def test_system_errors_say_what_failed_and_what_to_do(number: int, advice: str) -> None:
    message = explain_os_error(OSError(number, os.strerror(number)), "write the log").message
    assert message.startswith("cannot write the log: ")
    assert advice in message
    assert "\n" not in message


def test_a_forbidden_port_and_a_forbidden_path_get_different_advice() -> None:
    assert "choose a port above 1023" in explain_os_error(PermissionError(errno.EACCES, "Permission denied"), "listen on :80").message
    assert "choose a path" in explain_os_error(PermissionError(errno.EACCES, "Permission denied", "/x"), "read /x").message


def test_startup_turns_only_system_errors() -> None:
    with pytest.raises(StartupError, match="cannot read /nowhere: no such file"), startup("read /nowhere"):
        Path("/nowhere").read_bytes()
    with pytest.raises(KeyError), startup("look up"):
        raise KeyError("x")


def test_a_startup_error_is_found_inside_nested_groups() -> None:
    wanted = StartupError("port in use")
    group = ExceptionGroup("outer", [ValueError("x"), ExceptionGroup("inner", [wanted])])
    assert find_startup_error(group) is wanted
    assert find_startup_error(ExceptionGroup("outer", [ValueError("x")])) is None
    unusable = find_startup_error(ExceptionGroup("outer", [ConfigError("cannot read kubeconfig x: No such file or directory")]))
    assert unusable is not None
    assert unusable.message == "cannot read kubeconfig x: No such file or directory: check --kubeconfig"
