"""The shared cluster, seen from the wire."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.wire import Wire
from tests.conftest import ClusterUnderTest, wait_for


@pytest.fixture(scope="session")
def wire(cluster: ClusterUnderTest) -> Iterator[Wire]:
    """Requests as the administrator of the shared cluster."""
    wire = Wire(cluster.kubeconfig)
    yield wire
    wire.close()


@pytest.fixture
def namespace(namespace: str, wire: Wire) -> str:
    """With what the controllers put into every namespace, without which pods are refused and counts are off by one."""
    path = f"/api/v1/namespaces/{namespace}"
    both = (f"{path}/serviceaccounts/default", f"{path}/configmaps/kube-root-ca.crt")
    wait_for(lambda: all(wire.exists(one) for one in both), "the namespace has its service account and root CA")
    return namespace
