"""Programs about the terminal: tty, stty, tput, clear. What they set has no effect: a terminal here is as it is."""

from __future__ import annotations

from ..process import Process, Program

DEVICE = "/dev/pts/0"
HEIGHT, WIDTH = 24, 80
"""Of a terminal whose client has told no size."""


async def tty(process: Process, args: list[str]) -> int:
    await process.out(f"{DEVICE}\n" if process.is_tty else "not a tty\n")
    return 0 if process.is_tty else 1


async def stty(process: Process, args: list[str]) -> int:
    if "size" in args:
        if not process.is_tty:
            await process.complain("stty: standard input: Inappropriate ioctl for device")
            return 1
        height, width = _size(process)
        await process.out(f"{height} {width}\n")
    return 0


async def tput(process: Process, args: list[str]) -> int:
    height, width = _size(process)
    if args[:1] in (["cols"], ["lines"]):
        await process.out(f"{width if args[0] == 'cols' else height}\n")
    return 0


async def clear(process: Process, args: list[str]) -> int:
    return 0


def _size(process: Process) -> tuple[int, int]:
    size = process.window()
    return (size.height, size.width) if size is not None else (HEIGHT, WIDTH)


PROGRAMS: dict[str, Program] = {"tty": tty, "stty": stty, "tput": tput, "clear": clear, "reset": clear}
