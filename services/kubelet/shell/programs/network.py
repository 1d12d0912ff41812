"""Programs on the network, over the cluster's real DNS and addresses: wget, curl, nc, nslookup, dig, getent, ping, redis-cli."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import urlsplit

from ...cri.streams import BrokenStream
from ..process import Process, Program, UsageError, split_options

RESPONSE_BYTES_MAX = 16 * 1024 * 1024
REDIRECTS_MAX = 5
DEFAULT_TIMEOUT_SECONDS = 30.0


class HttpFailure(Exception):
    """No HTTP answer; `code` is curl's exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


async def _connect(process: Process, host: str, port: int, timeout: float) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        async with asyncio.timeout(timeout):
            return await process.machine.network.connect(host, port)
    except LookupError as failure:
        raise HttpFailure(f"Could not resolve host: {host}", 6) from failure
    except TimeoutError as failure:
        raise HttpFailure(f"Connection timed out: {host}:{port}", 28) from failure
    except OSError as failure:
        raise HttpFailure(f"Failed to connect to {host} port {port}: {failure.strerror or failure}", 7) from failure


async def fetch(
    process: Process, method: str, url: str, headers: dict[str, str], body: bytes, timeout: float
) -> tuple[int, str, dict[str, str], bytes]:
    """One HTTP exchange: (status, status line, headers, body). HttpFailure if there is no answer."""
    if "://" not in url:
        url = f"http://{url}"
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    reader, writer = await _connect(process, host, port, timeout)
    try:
        async with asyncio.timeout(timeout):
            if secure:
                import ssl

                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                await writer.start_tls(context, server_hostname=host)
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            all_headers = {"Host": parts.netloc.rpartition("@")[2], "Connection": "close", **headers}
            if body:
                all_headers["Content-Length"] = str(len(body))
            head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in all_headers.items()) + "\r\n"
            writer.write(head.encode() + body)
            return await _read_response(reader, method)
    except TimeoutError as failure:
        raise HttpFailure("Operation timed out", 28) from failure
    except (OSError, asyncio.IncompleteReadError, ValueError) as failure:
        raise HttpFailure("Empty reply from server", 52) from failure
    finally:
        writer.transport.abort()


async def _read_response(reader: asyncio.StreamReader, method: str) -> tuple[int, str, dict[str, str], bytes]:
    while True:
        status_line = (await reader.readuntil(b"\r\n")).decode("latin-1").strip()
        code = int(status_line.split(" ")[1])
        headers: dict[str, str] = {}
        while line := (await reader.readuntil(b"\r\n")).decode("latin-1").strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if code >= 200:
            break
    if method == "HEAD" or code in (204, 304):
        return code, status_line, headers, b""
    if "chunked" in headers.get("transfer-encoding", ""):
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
            if len(body) > RESPONSE_BYTES_MAX:
                raise ValueError("response too large")
        return code, status_line, headers, body
    if "content-length" in headers:
        return code, status_line, headers, await reader.readexactly(min(int(headers["content-length"]), RESPONSE_BYTES_MAX))
    return code, status_line, headers, await reader.read(RESPONSE_BYTES_MAX)


async def wget(process: Process, args: list[str]) -> int:
    long = {"--quiet": "-q", "--server-response": "-S", "--continue": "-c"}
    headers = {"User-Agent": "Wget"}
    for arg in [arg for arg in args if arg.startswith("--header=")]:
        name, _, value = arg.removeprefix("--header=").partition(":")
        headers[name] = value.strip()
    options, urls = split_options([long.get(arg, arg) for arg in args], "qSc", "OTtUP")
    if not urls:
        raise UsageError("usage: wget [-q] [-S] [-O FILE] [-T SEC] URL...", 1)
    timeout = float(options.get("T") or _long(options, "--timeout") or DEFAULT_TIMEOUT_SECONDS)
    body = (_long(options, "--post-data") or "").encode()
    for url in urls:
        code = await _wget(process, url, options, headers, body, timeout)
        if code:
            return code
    return 0


async def _wget(process: Process, url: str, options: dict[str, str], headers: dict[str, str], body: bytes, timeout: float) -> int:
    """Fetch one URL as busybox' wget does, with its messages."""
    host = urlsplit(url if "://" in url else f"http://{url}").netloc
    try:
        code, line, answer, data = await _follow(process, "POST" if body else "GET", url, headers, body, timeout)
    except HttpFailure as failure:
        text = f"bad address '{host}'" if failure.code == 6 else f"can't connect to remote host: {str(failure).rpartition(': ')[2]}"
        await process.complain(f"wget: {text if failure.code != 28 else 'download timed out'}")
        return 1
    if "q" not in options:
        await process.complain(f"Connecting to {host}")
    if "S" in options:
        await process.complain("\n".join([f"  {line}", *(f"  {name.title()}: {value}" for name, value in answer.items())]))
    if code >= 400:
        await process.complain(f"wget: server returned error: {line}")
        return 1
    if "--spider" in options:
        return 0
    target = options.get("O") or urlsplit(url).path.rpartition("/")[2] or "index.html"
    if target == "-":
        await process.stdout.write(data)
    elif process.path(target) != "/dev/null":
        process.fs.write(process.path(target), data, now=process.machine.clock.now())
    if "q" not in options:
        await process.complain("written to stdout" if target == "-" else f"'{target}' saved")
    return 0


def _long(options: dict[str, str], name: str) -> str | None:
    return options.get(name) or None


async def _follow(
    process: Process, method: str, url: str, headers: dict[str, str], body: bytes, timeout: float
) -> tuple[int, str, dict[str, str], bytes]:
    for _ in range(REDIRECTS_MAX):
        answer = await fetch(process, method, url, headers, body, timeout)
        location = answer[2].get("location")
        if answer[0] not in (301, 302, 303, 307, 308) or not location:
            return answer
        parts = urlsplit(url if "://" in url else f"http://{url}")
        url = location if "://" in location else f"{parts.scheme}://{parts.netloc}{location}"
    raise HttpFailure("too many redirects", 47)


CURL_LONG = {
    "--silent": "s", "--show-error": "S", "--fail": "f", "--location": "L", "--include": "i", "--head": "I", "--verbose": "v",
    "--insecure": "k", "--request": "X", "--header": "H",
    "--data": "d", "--data-raw": "d", "--output": "o", "--write-out": "w", "--max-time": "m", "--user-agent": "A", "--url": "\0",
    "--connect-timeout": "m",
}  # fmt: skip


async def curl(process: Process, args: list[str]) -> int:
    headers = {"User-Agent": "curl/8.5.0", "Accept": "*/*"}
    options: dict[str, str] = {}
    urls: list[str] = []
    queue = list(args)
    while queue:
        arg = queue.pop(0)
        if not arg.startswith("-") or arg == "-":
            urls.append(arg)
            continue
        name, equals, value = arg.partition("=")
        if arg.startswith("--") and name not in CURL_LONG:
            if name in ("--retry", "--retry-delay", "--cacert", "--cert", "--key", "--resolve") and not equals and queue:
                queue.pop(0)
            continue
        letters = CURL_LONG[name] if arg.startswith("--") else arg[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter in "XHdowmAuk\0" and letter != "k":
                value = value if equals else (letters or (queue.pop(0) if queue else ""))
                if letter == "H":
                    header, _, text = value.partition(":")
                    headers[header] = text.strip()
                elif letter == "\0":
                    urls.append(value)
                else:
                    options[letter] = value
                break
            options[letter] = ""
    return await _curl(process, options, headers, urls)


async def _curl(process: Process, options: dict[str, str], headers: dict[str, str], urls: list[str]) -> int:
    if not urls:
        raise UsageError("try 'curl --help' for more information")
    if "A" in options:
        headers["User-Agent"] = options["A"]
    body = options.get("d", "").encode()
    if body:
        headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
    method = options.get("X") or ("HEAD" if "I" in options else "POST" if body else "GET")
    timeout = float(options.get("m") or DEFAULT_TIMEOUT_SECONDS)
    for url in urls:
        run = _follow if "L" in options else fetch
        try:
            code, line, answer, data = await run(process, method, url, headers, body, timeout)
        except HttpFailure as failure:
            if "s" not in options or "S" in options:
                await process.complain(f"curl: ({failure.code}) {failure}")
            return failure.code
        if "f" in options and code >= 400:
            if "s" not in options or "S" in options:
                await process.complain(f"curl: (22) The requested URL returned error: {code}")
            return 22
        if "i" in options or "I" in options:
            await process.out(line + "\r\n" + "".join(f"{name}: {value}\r\n" for name, value in answer.items()) + "\r\n")
        if options.get("o"):
            if process.path(options["o"]) != "/dev/null":
                process.fs.write(process.path(options["o"]), data, now=process.machine.clock.now())
        else:
            await process.stdout.write(data)
        if "w" in options:
            await process.out(options["w"].replace("%{http_code}", str(code)).replace("%{response_code}", str(code)).replace("\\n", "\n"))
    return 0


def _nc_complaint(host: str, port: int, failure: HttpFailure) -> str:
    """In busybox's words."""
    if isinstance(failure.__cause__, LookupError):
        return f"nc: bad address '{host}'"
    why = "Connection timed out" if isinstance(failure.__cause__, TimeoutError) else str(failure).rpartition(": ")[2]
    return f"nc: {host} ({port}): {why}"


LISTENS = re.compile(r"-[a-zA-Z]*l[a-zA-Z]*|--listen")


async def nc(process: Process, args: list[str]) -> int:
    """nc [-z] [-v] [-u] [-w seconds] host port: test a port, or join standard streams with it; of UDP one datagram and its answer."""
    if any(LISTENS.fullmatch(arg) for arg in args):  # a server: what the container's ports answer is not up to us
        return await process.machine.unknown(process, ["nc", *args])
    options, rest = split_options(args, "zvnukN", "wpqs")
    if len(rest) < 2:
        raise UsageError("usage: nc [-z] [-w SEC] HOST PORT", 1)
    host, port = rest[0], int(rest[1]) if rest[1].isdigit() else 0
    timeout = float(options.get("w") or DEFAULT_TIMEOUT_SECONDS)
    if "u" in options:
        return await _datagram(process, host, port, timeout)
    try:
        reader, writer = await _connect(process, host, port, timeout)
    except HttpFailure as failure:
        if "v" in options or "z" not in options:
            await process.complain(_nc_complaint(host, port, failure))
        return 1
    try:
        if "v" in options:
            await process.complain(f"{host} ({port}) open")
        if "z" in options:
            return 0
        async with asyncio.TaskGroup() as tasks:
            sender = tasks.create_task(_send_input(process, writer), name="nc-send")
            try:
                async with asyncio.timeout(timeout if "w" in options else None):
                    while data := await reader.read(65536):
                        await process.stdout.write(data)
            except TimeoutError:
                pass
            sender.cancel()
    finally:
        writer.transport.abort()
    return 0


async def _datagram(process: Process, host: str, port: int, timeout: float) -> int:
    data = await process.stdin.read() if process.stdin is not None else b""
    try:
        await process.stdout.write(await process.machine.network.exchange(host, port, data, timeout))
    except (OSError, LookupError) as failure:
        why = "bad address" if isinstance(failure, LookupError) else failure.strerror or str(failure)
        await process.complain(f"nc: {host} ({port}): {why}")
        return 1
    return 0


async def _send_input(process: Process, writer: asyncio.StreamWriter) -> None:
    try:
        while process.stdin is not None and (data := await process.stdin.read()):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except (OSError, BrokenStream):
        return


async def nslookup(process: Process, args: list[str]) -> int:
    options, names = split_options([arg.replace("-type=", "--type=").replace("-query=", "--type=") for arg in args], "")
    if not names:
        raise UsageError("usage: nslookup [-type=QUERY_TYPE] HOST [DNS_SERVER]", 1)
    server = process.machine.network.dns_server
    await process.out(f"Server:\t\t{server}\nAddress:\t{server}:53\n\n")
    record = (options.get("--type") or "A").upper()
    try:
        queried, answers = await process.machine.network.lookup(names[0], record)
    except LookupError as failure:
        await process.out(f"** server can't find {names[0]}: {failure.args[0]}\n\n")
        return 1
    except OSError:
        await process.complain(";; connection timed out; no servers could be reached")
        return 1
    for answer in answers:
        await process.out(f"Name:\t{queried}\nAddress: {answer}\n" if record == "A" else f"{queried}\t{answer}\n")
    await process.out("\n")
    return 0


async def dig(process: Process, args: list[str]) -> int:
    """dig [name] [type] [+short] [+search]."""
    words = [arg for arg in args if not arg.startswith(("+", "@", "-"))]
    record = next((word.upper() for word in words if word.upper() in ("A", "AAAA", "SRV", "CNAME", "PTR", "TXT", "NS", "SOA")), "A")
    name = next((word for word in words if word.upper() != record), "")
    absolute = name if "+search" in args or name.endswith(".") else name + "."
    status, queried = "NOERROR", name
    answers: list[str] = []
    try:
        queried, answers = await process.machine.network.lookup(absolute, record)
    except LookupError as failure:
        status = str(failure.args[0])
    except OSError:
        await process.out(";; communications error: timed out\n;; no servers could be reached\n")
        return 9
    if "+short" in args:
        await process.out("".join(f"{answer}\n" for answer in answers))
        return 0
    lines = [
        f";; ->>HEADER<<- opcode: QUERY, status: {status}",
        "",
        ";; QUESTION SECTION:",
        f";{queried}.\tIN\t{record}".replace("..", "."),
        "",
    ]
    if answers:
        lines += [";; ANSWER SECTION:", *(f"{queried}.\t30\tIN\t{record}\t{answer}".replace("..", ".") for answer in answers), ""]
    await process.out("\n".join([*lines, f";; SERVER: {process.machine.network.dns_server}#53"]) + "\n")
    return 0


async def getent(process: Process, args: list[str]) -> int:
    if len(args) < 2 or args[0] not in ("hosts", "ahosts", "ahostsv4"):
        return 1
    try:
        addresses = await process.machine.network.resolve(args[1])
    except (LookupError, OSError):
        return 2
    await process.out("".join(f"{address:<16}{args[1]}\n" for address in addresses))
    return 0


async def ping(process: Process, args: list[str]) -> int:
    options, names = split_options(args, "qn46", "cwWi")
    if not names:
        raise UsageError("usage: ping [-c COUNT] HOST", 1)
    try:
        addresses = await process.machine.network.resolve(names[0])
    except (LookupError, OSError):
        await process.complain(f"ping: bad address '{names[0]}'")
        return 1
    await process.out(f"PING {names[0]} ({addresses[0]}): 56 data bytes\n")
    count = int(options.get("c") or 1_000_000)
    for number in range(count):
        await process.out(f"64 bytes from {addresses[0]}: seq={number} ttl=64 time=0.050 ms\n")
        if number < count - 1:
            await process.sleep(1.0)
    await process.out(f"\n--- {names[0]} ping statistics ---\n{count} packets transmitted, {count} packets received, 0% packet loss\n")
    return 0


async def redis_cli(process: Process, args: list[str]) -> int:
    options, words = split_options(args, "", "hpn")
    host, port = options.get("h") or "127.0.0.1", int(options.get("p") or 6379)
    try:
        reader, writer = await _connect(
            process, host if host not in ("127.0.0.1", "localhost") else process.machine.hostname, port, DEFAULT_TIMEOUT_SECONDS
        )
    except HttpFailure as failure:
        await process.complain(f"Could not connect to Redis at {host}:{port}: {str(failure).rpartition(': ')[2]}")
        return 1
    try:
        parts = [word.encode() for word in words]
        writer.write(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
        await process.out(await _redis_reply(reader) + "\n")
    except (OSError, asyncio.IncompleteReadError):
        await process.complain("Error: Server closed the connection")
        return 1
    finally:
        writer.transport.abort()
    return 0


async def _redis_reply(reader: asyncio.StreamReader) -> str:
    line = (await reader.readuntil(b"\r\n")).decode().rstrip()
    kind, rest = line[:1], line[1:]
    if kind == "$":
        return "" if rest == "-1" else (await reader.readexactly(int(rest) + 2))[:-2].decode(errors="replace")
    if kind == "*":
        return "\n".join([f"{index}) {await _redis_reply(reader)}" for index in range(1, int(rest) + 1)])
    return f"(error) {rest}" if kind == "-" else rest


PROGRAMS: dict[str, Program] = {
    "wget": wget, "curl": curl, "nc": nc, "ncat": nc, "netcat": nc, "nslookup": nslookup, "dig": dig, "host": nslookup, "getent": getent,
    "ping": ping, "redis-cli": redis_cli,
}  # fmt: skip
