"""`python -m kubecosm.services.kubelet`."""

from kubecosm.runtime.service import main

from .app import serve
from .config import Config

if __name__ == "__main__":
    main("kubelet", Config, serve)
