"""A client without manners: `python greedy.py PORT TOKEN CONNECTIONS PATH` asks for PATH over many connections, as fast as it is answered.

Prints a line when all are connected, and how many answers it has had since, by HTTP status, once its standard input ends. Raw sockets, so
that it is faster than the server.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections import Counter


async def ask_forever(port: int, token: str, path: str, context: ssl.SSLContext, all_here: asyncio.Barrier, answers: Counter[int]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, ssl_handshake_timeout=300)
    await all_here.wait()
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nUser-Agent: greedy\r\n\r\n".encode()
    try:
        while True:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            await reader.readexactly(length)
            answers[int(head.split(None, 2)[1])] += 1
    finally:
        writer.close()


async def main(port: int, token: str, connections: int, path: str) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    answers: Counter[int] = Counter()
    loop, all_here = asyncio.get_running_loop(), asyncio.Barrier(connections + 1)
    async with asyncio.TaskGroup() as tasks:
        asking = [tasks.create_task(ask_forever(port, token, path, context, all_here, answers)) for _ in range(connections)]
        await all_here.wait()
        print("connected", flush=True)
        await loop.run_in_executor(None, sys.stdin.read)
        for task in asking:
            task.cancel()
    print(json.dumps(answers))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]))
