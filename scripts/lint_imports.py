"""Checks the import contracts of pyproject.toml (the architecture diagram) and exits non-zero when one is broken.

Works in the tree that typecheck_tree.sh makes, because there the package looks as it does when installed.
"""

import os
import sys
from pathlib import Path

from importlinter.cli import lint_imports

if __name__ == "__main__":
    root = Path(__file__).resolve().parent.parent
    os.chdir(root / "build" / "typecheck")
    sys.exit(lint_imports(config_filename=str(root / "pyproject.toml")))
