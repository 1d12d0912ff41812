"""The ranges of addresses that components take when they are started by hand; `kubecosm up` gives each cluster blocks of its own."""

from __future__ import annotations

NODE_CIDR = "127.16.0.0/18"
SERVICE_CIDR = "127.32.0.0/18"
CLUSTER_DNS = "127.32.0.10"
"""The tenth address of the Service range."""
CLUSTER_CIDR = "127.64.0.0/16"
"""Of all pods; each node has a /24 of it."""
