"""What several of the kubelet's tests need."""

from __future__ import annotations

import pytest

from kubecosm.cluster import pki
from kubecosm.cluster.paths import ClusterPaths
from kubecosm.cluster.slots import Slots
from kubecosm.cluster.spec import ClusterSpec
from kubecosm.runtime.clock import RealClock


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> ClusterPaths:
    """The certificates of a cluster of one node."""
    paths = ClusterPaths(tmp_path_factory.mktemp("cluster"))
    pki.ensure(paths, ClusterSpec("test", 0, Slots(0), nodes=1), RealClock())
    return paths
