"""What tests of workloads start from."""

from __future__ import annotations

import pytest

from tests.conformance.apps.workloads import Workloads
from tests.conformance.wire import Wire


@pytest.fixture
def work(wire: Wire, namespace: str) -> Workloads:
    """The workloads of a namespace of the test's own."""
    return Workloads(wire, namespace)
