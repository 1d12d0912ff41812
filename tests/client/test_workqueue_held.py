"""What is added while a key is worked on is not lost."""

from __future__ import annotations

from kubecosm.client.workqueue import WorkQueue
from kubecosm.testing.virtualtime import VirtualClock, run_virtual


def test_a_key_added_while_it_is_worked_on_is_handed_out_again() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue(VirtualClock())
        queue.add("a")
        assert await queue.get() == "a"
        queue.add("a")
        assert len(queue) == 0
        queue.done("a")
        assert await queue.get() == "a"
        queue.done("a")
        assert queue.idle

    run_virtual(main())
