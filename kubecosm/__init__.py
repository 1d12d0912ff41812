"""kubecosm: Kubernetes in miniature. The library every component speaks through; it imports no service."""

__version__ = "0.1.0"
KUBERNETES_VERSION = "v1.36.0"
"""The Kubernetes release whose behaviour is imitated."""
