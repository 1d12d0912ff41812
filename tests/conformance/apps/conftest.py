"""What tests of workloads start from."""

from __future__ import annotations

import pytest

from tests.conformance.apps.workloads import Workloads
from tests.conformance.wire import Wire
from tests.conftest import wait_for


@pytest.fixture
def work(wire: Wire, namespace: str) -> Workloads:
    """The workloads of a namespace of the test's own, in which pods may be created."""
    wait_for(lambda: wire.exists(f"/api/v1/namespaces/{namespace}/serviceaccounts/default"), "the namespace has its service account")
    return Workloads(wire, namespace)
