"""The shared cluster, seen from the wire."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.wire import Wire
from tests.conftest import ClusterUnderTest


@pytest.fixture(scope="session")
def wire(cluster: ClusterUnderTest) -> Iterator[Wire]:
    """Requests as the administrator of the shared cluster."""
    wire = Wire(cluster.kubeconfig)
    yield wire
    wire.close()
