"""Watches over WebSockets say what watches over HTTP say."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
from aiohttp import WSMsgType

from kubecosm.services.apiserver.rest.watchsocket import FRAME_BYTES_MAX, PING, TEXT, frame, parse_frame

from .harness import ADMIN_TOKEN, CONFIGMAPS, Api, configmap, with_api

AUTHORIZED = {"Authorization": f"Bearer {ADMIN_TOKEN}"}


def test_every_event_is_one_message(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(CONFIGMAPS, configmap("before"))
        url = f"{api.base}{CONFIGMAPS}?watch=1&resourceVersion=0"
        async with api.session.ws_connect(url, headers=AUTHORIZED) as socket, asyncio.timeout(5):
            assert orjson.loads(await socket.receive_str())["object"]["metadata"]["name"] == "before"
            big = await api.create(CONFIGMAPS, configmap("big", {"k": "é" * 100_000}))
            event = orjson.loads(await socket.receive_str())
            assert (event["type"], event["object"]) == ("ADDED", big)
            async with asyncio.TaskGroup() as tasks:
                for number in range(20):
                    tasks.create_task(api.create(CONFIGMAPS, configmap(f"c{number}")))
            names = {orjson.loads(await socket.receive_str())["object"]["metadata"]["name"] for _ in range(20)}
            assert len(names) == 20
            await socket.ping(b"alive")
            await api.delete(f"{CONFIGMAPS}/big")
            assert orjson.loads(await socket.receive_str())["type"] == "DELETED"
        async with asyncio.timeout(5):
            while api.state.streams:  # the goodbye has ended the watch
                await api.get("/version")

    with_api(tmp_path, test)


def test_a_watch_that_is_over_says_goodbye(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        url = f"{api.base}{CONFIGMAPS}?watch=1&timeoutSeconds=1&allowWatchBookmarks=true"
        async with api.session.ws_connect(url, headers=AUTHORIZED, protocols=("example.com",)) as socket, asyncio.timeout(10):
            assert socket.protocol == "example.com"
            assert orjson.loads(await socket.receive_str())["type"] == "BOOKMARK"
            last = await socket.receive()
            assert (last.type, last.data) == (WSMsgType.CLOSE, 1000)

    with_api(tmp_path, test)


def test_what_is_wrong_with_a_watch_is_told_before_the_upgrade(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
        assert (await api.raw("GET", f"{CONFIGMAPS}?watch=1", **upgrade)).status == 400
        key = {"Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Sec_WebSocket_Version": "13"}
        assert (await api.raw("GET", f"{CONFIGMAPS}?watch=1&labelSelector=a==b,,", **upgrade, **key)).status == 400

    with_api(tmp_path, test)


def test_frames_are_read_when_they_are_whole() -> None:
    buffer = bytearray(frame(TEXT, b"x" * 300))[:-1]
    assert parse_frame(buffer) is None
    buffer += b"x" + bytes([0x80 | PING, 0x80 | 2, 1, 2, 3, 4, ord("h") ^ 1, ord("i") ^ 2])
    assert parse_frame(buffer) == (TEXT, b"x" * 300)
    assert parse_frame(buffer) == (PING, b"hi")
    assert parse_frame(buffer) is None
    try:
        parse_frame(bytearray(frame(TEXT, b"x" * (FRAME_BYTES_MAX + 1))))
    except ValueError:
        return
    raise AssertionError("too large a frame was taken")
