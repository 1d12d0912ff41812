"""`--admission-control-config-file`: an AdmissionConfiguration, which has or names the configuration of each plugin that takes one.

Imitates k8s.io/apiserver/pkg/admission/config.go.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kubecosm.api.resources import Object
from kubecosm.runtime.errors import StartupError, startup

FLAG = "--admission-control-config-file"
API_VERSIONS = ("apiserver.config.k8s.io/v1", "apiserver.k8s.io/v1alpha1")
KIND = "AdmissionConfiguration"


def load_configuration(path: str) -> dict[str, Object]:
    """Plugin → its configuration; files it names are found beside this one. Empty path: none. Raises StartupError."""
    if not path:
        return {}
    file = Path(path)
    document = load_document(file)
    if document.get("kind") != KIND or document.get("apiVersion") not in API_VERSIONS:
        raise StartupError(f"{FLAG}: {file} is no {KIND} ({' or '.join(API_VERSIONS)})")
    found: dict[str, Object] = {}
    for entry in document.get("plugins") or ():
        name = entry.get("name", "") if isinstance(entry, dict) else ""
        if not name:
            raise StartupError(f"{FLAG}: {file}: every entry of plugins needs a name")
        inline, elsewhere = entry.get("configuration"), entry.get("path")
        if isinstance(inline, dict):
            found[name] = inline
        elif elsewhere:
            found[name] = load_document(file.parent / elsewhere)
    return found


def load_document(path: Path) -> dict[str, Any]:
    """The one object in a YAML or JSON file. Raises StartupError."""
    import yaml  # imported here: only who has such a file pays for it

    with startup(f"read {path}"):
        text = path.read_bytes()
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise StartupError(f"{path} is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise StartupError(f"{path} must hold one object")
    return document
