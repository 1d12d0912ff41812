"""`python -m kubecosm.services.controller`."""

from kubecosm.runtime.service import main

from .app import serve
from .config import Config

if __name__ == "__main__":
    main("controller", Config, serve)
