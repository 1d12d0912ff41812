"""The function libraries that Kubernetes adds to CEL (k8s.io/apiserver/pkg/cel/library and cel-go's ext)."""

from __future__ import annotations

from ..functions import Functions, table
from . import authorization, collections, formats, networks, numbers, optionals, texts


def kubernetes_functions() -> Functions:
    """All libraries of version 1.36."""
    parts = (optionals, texts, collections, networks, numbers, formats, authorization)
    return table(*(part.declarations() for part in parts))
