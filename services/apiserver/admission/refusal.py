"""How a plugin refuses a write: 403 in the words of apiserver's admission.NewForbidden."""

from __future__ import annotations

from kubecosm.api import errors

from .chain import Attributes


def refuse(attributes: Attributes, why: str) -> errors.Forbidden:
    """The error to raise. An object whose name is yet to be generated is called by its generateName."""
    meta = (attributes.obj or {}).get("metadata") or {}
    name = attributes.name or meta.get("name") or meta.get("generateName") or "Unknown"
    return errors.forbidden(attributes.resource, name, why)
