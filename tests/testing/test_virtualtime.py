"""Virtual time: hours in milliseconds, without losing traffic of the same process."""

from __future__ import annotations

import asyncio
import time

import pytest

from kubecosm.testing.virtualtime import EPOCH, ManualClock, VirtualClock, run_virtual


def test_waits_take_no_real_time_and_keep_their_order() -> None:
    async def main() -> list[tuple[float, str]]:
        clock, seen = VirtualClock(), list[tuple[float, str]]()

        async def later(seconds: float, name: str) -> None:
            await clock.sleep(seconds)
            seen.append((clock.monotonic(), name))

        async with asyncio.TaskGroup() as tasks:
            for seconds, name in ((7200, "c"), (3600, "a"), (3600.5, "b")):
                tasks.create_task(later(seconds, name))
        return seen

    started = time.monotonic()
    assert run_virtual(main()) == [(3600, "a"), (3600.5, "b"), (7200, "c")]
    assert time.monotonic() - started < 1


def test_the_clock_tells_wall_time_from_a_fixed_beginning() -> None:
    async def main() -> float:
        clock = VirtualClock()
        assert clock.now() == EPOCH
        await clock.sleep(90)
        return (clock.now() - EPOCH).total_seconds()

    assert run_virtual(main()) == 90


def test_timeouts_follow_virtual_time() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(300):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 300


def test_traffic_within_the_process_arrives_before_time_jumps() -> None:
    async def main() -> float:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while line := await reader.readline():
                await VirtualClock().sleep(600)
                writer.write(line)
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for number in range(5):
            writer.write(b"%d\n" % number)
            async with asyncio.timeout(601):
                assert await reader.readline() == b"%d\n" % number
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx(3000)


def test_a_manual_clock_moves_only_when_told() -> None:
    async def main() -> None:
        clock, woken = ManualClock(), list[str]()

        async def sleeper(seconds: float, name: str) -> None:
            await clock.sleep(seconds)
            woken.append(name)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(sleeper(10, "ten"))
            tasks.create_task(sleeper(5, "five"))
            tasks.create_task(sleeper(0, "now"))
            await VirtualClock().sleep(0.01)
            assert woken == ["now"]
            clock.advance(9)
            await VirtualClock().sleep(0.01)
            assert woken == ["now", "five"]
            assert (clock.monotonic(), (clock.now() - EPOCH).total_seconds()) == (9, 9)
            clock.advance(1)
        assert woken == ["now", "five", "ten"]

    run_virtual(main())
