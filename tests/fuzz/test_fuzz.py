"""A short run of random requests on every run of the tests; `make fuzz` makes a long one."""

from __future__ import annotations

import pytest

from tests.fuzz.__main__ import fuzz

SEED = 20260101
REQUESTS = 2_000


@pytest.mark.process
def test_random_requests_meet_no_server_error_no_hang_and_no_lost_write() -> None:
    outcome = fuzz(SEED, REQUESTS)
    assert outcome.complaints == []
    assert outcome.requests == REQUESTS
    assert outcome.checked_writes > 20, "the run has to write something that can be found again"
    assert sum(count for status, count in outcome.statuses.items() if 200 <= status < 300) > REQUESTS / 20
