"""How long the supervisor waits before it starts a component again."""

from __future__ import annotations

import pytest

from kubecosm.cluster.keeper import describe_exit, restart_delay


@pytest.mark.parametrize(("early_deaths", "seconds"), [(0, 0.0), (1, 0.1), (2, 0.2), (3, 0.4), (6, 3.2), (7, 5.0), (1000, 5.0)])
def test_back_off_doubles_up_to_its_maximum(early_deaths: int, seconds: float) -> None:
    assert restart_delay(early_deaths) == pytest.approx(seconds)


def test_ends_are_described_in_words() -> None:
    assert describe_exit(1) == "exit code 1"
    assert describe_exit(-9) == "killed by SIGKILL"
