"""The supervisor process of one cluster: starts its components, restarts what dies, obeys the control socket, leaves nothing behind.

`python -m kubecosm.cluster.supervisor CLUSTER_DIRECTORY [HELD_FD…]` with a control connection on stdin, whose first request is
`start`; when that connection ends in the foreground mode, the cluster stops. HELD_FDs (the lock, the address slots) only stay open.
"""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn


def main(argv: list[str]) -> NoReturn:
    """The whole life of the process: exit code 0 after a stop, 1 when the cluster could not be started."""
    root, held = argv[0], [int(text) for text in argv[1:]]
    ours, zygote_pid = _fork_zygote(root, held)  # before any other import: the two processes import side by side
    import asyncio
    from pathlib import Path

    from kubecosm.cluster.paths import ClusterPaths
    from kubecosm.cluster.supervision import supervise

    sys.exit(asyncio.run(supervise(ClusterPaths(Path(root)), ours, zygote_pid)))


def _fork_zygote(root: str, held: list[int]) -> tuple[Any, int]:
    """Forks the warm parent; answers our end of its socket and its pid."""
    import json
    import socket

    with open(os.path.join(root, "cluster.json"), "rb") as file:
        spec = json.load(file)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        ours.close()
        os.close(0)  # the supervisor's control connection, whose end must be seen
        os.open(os.devnull, os.O_RDONLY)  # takes its number
        for descriptor in held:
            os.close(descriptor)
        from kubecosm.cluster import zygote

        zygote.serve(theirs, spec["name"], spec["components"], supervisor_pid=parent)
    theirs.close()
    return ours, pid


if __name__ == "__main__":
    main(sys.argv[1:])
