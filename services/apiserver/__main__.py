"""`python -m kubecosm.services.apiserver`."""

from kubecosm.runtime.service import main

from .app import serve
from .config import Config

if __name__ == "__main__":
    main("apiserver", Config, serve)
