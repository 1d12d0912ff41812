"""Deadlines of requests, in virtual time."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kubecosm.api.errors import BadRequest, Timeout, TooManyRequests
from kubecosm.services.apiserver.http import limits
from kubecosm.services.apiserver.http.handler import Handler
from kubecosm.services.apiserver.http.info import parse_path
from kubecosm.services.apiserver.http.limits import Seats, with_timeout
from kubecosm.services.apiserver.http.request import Request
from kubecosm.services.apiserver.http.response import Answer, Response
from kubecosm.testing.virtualtime import run_virtual


def request(method: str = "POST", path: str = "/api/v1/namespaces/default/pods", verb: str = "create") -> Request:
    path, _, query = path.partition("?")
    values = dict(part.split("=") for part in query.split("&") if part)
    param = lambda name: values.get(name, "")  # noqa: E731
    return cast(Request, SimpleNamespace(method=method, info=parse_path(path), verb=verb, raw_query=query, param=param))


def sleeping(seconds: float) -> Handler:
    async def handle(_request: Request) -> Answer:
        await asyncio.sleep(seconds)
        return Response(200, b"")

    return handle


def test_a_write_that_takes_too_long_is_504_and_others_are_left_alone() -> None:
    async def main() -> None:
        limit = with_timeout(60.0)
        slow, quick = limit(sleeping(100.0)), limit(sleeping(59.0))

        async def one(handler: Handler, after: float) -> Any:
            await asyncio.sleep(after)
            try:
                return (await handler(request())).status
            except Timeout as error:
                return error.code, asyncio.get_running_loop().time()

        async with asyncio.TaskGroup() as tasks:
            results = [tasks.create_task(one(h, after)) for h, after in ((slow, 0.0), (quick, 10.0), (slow, 30.0), (quick, 45.0))]
        assert [task.result() for task in results] == [(504, 60.0), 200, (504, 90.0), 200]

    run_virtual(main(), grace_seconds=0)


@pytest.mark.parametrize(
    ("method", "path", "verb"),
    [("GET", "/api/v1/pods", "list"), ("POST", "/api/v1/namespaces/default/pods/p/exec", "create")],
    ids=["read", "stream"],
)
def test_reads_and_streams_have_no_deadline(method: str, path: str, verb: str) -> None:
    async def main() -> None:
        handler = with_timeout(60.0)(sleeping(10_000.0))
        assert (await handler(request(method, path, verb))).status == 200

    run_virtual(main(), grace_seconds=0)


def test_a_client_that_leaves_is_no_timeout() -> None:
    async def main() -> None:
        handler = with_timeout(60.0)(sleeping(100.0))

        async def call() -> Answer:
            return await handler(request())

        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(call())
            await asyncio.sleep(1.0)
            task.cancel()
        assert task.cancelled()

    run_virtual(main(), grace_seconds=0)


def test_requests_beyond_the_seats_wait_in_order_and_then_are_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WAITING_MAX", 3)

    async def main() -> None:
        seats = Seats(2)
        ended: list[int] = []

        async def one(number: int) -> None:
            await seats.take()
            await asyncio.sleep(1.0)
            ended.append(number)
            seats.give_back()

        async with asyncio.TaskGroup() as tasks:
            for number in range(5):
                tasks.create_task(one(number))
            await asyncio.sleep(0.5)
            with pytest.raises(TooManyRequests) as refused:
                await seats.take()
        assert refused.value.retry_after_seconds == 1
        assert ended == [0, 1, 2, 3, 4]
        assert asyncio.get_running_loop().time() == 3.0
        assert seats.taken == 0

    run_virtual(main(), grace_seconds=0)


def test_a_waiting_request_that_leaves_takes_no_seat_with_it() -> None:
    async def main() -> None:
        seats = Seats(1)
        await seats.take()
        async with asyncio.TaskGroup() as tasks:
            leaving, staying = tasks.create_task(seats.take()), tasks.create_task(seats.take())
            await asyncio.sleep(0)
            leaving.cancel()
            await asyncio.sleep(0)
            seats.give_back()
        assert leaving.cancelled()
        assert staying.done()
        assert seats.taken == 1

    run_virtual(main(), grace_seconds=0)


@pytest.mark.parametrize(("timeout", "expected"), [("5s", 5.0), ("1h", 60.0), ("0", 60.0)], ids=["less", "more", "zero"])
def test_a_client_may_shorten_the_time_of_its_request_but_not_lengthen_it(timeout: str, expected: float) -> None:
    async def main() -> None:
        with pytest.raises(Timeout):
            await with_timeout(60.0)(sleeping(100.0))(request("DELETE", f"/api/v1/pods?timeout={timeout}", "deletecollection"))
        assert asyncio.get_running_loop().time() == expected

    run_virtual(main(), grace_seconds=0)


@pytest.mark.parametrize(
    ("text", "why"),
    [("abc", 'time: invalid duration "abc"'), ("5", 'time: missing unit in duration "5"'), ("-1x", 'time: invalid duration "-1x"')],
)
def test_a_timeout_that_cannot_be_read_is_refused_in_gos_words(text: str, why: str) -> None:
    with pytest.raises(BadRequest) as refused:
        limits.timeout_of(request("GET", f"/api/v1/pods?timeout={text}", "list"))
    assert refused.value.message == f"invalid timeout specified in the request URL - {why}"
