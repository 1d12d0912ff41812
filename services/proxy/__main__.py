"""`python -m kubecosm.services.proxy`."""

from kubecosm.runtime.service import main

from .app import serve
from .config import Config

if __name__ == "__main__":
    main("proxy", Config, serve)
