"""Tables and PartialObjectMetadata out of objects. The columns of each kind live in `printers`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from kubecosm.api.names import ANNOTATION_DAEMONSET_TEMPLATE_GENERATION
from kubecosm.api.resources import Object, Resource

from ..printers import Printer, printer_for
from .versions import Convert

_ONLY_IN_FULL = {"DaemonSet": ANNOTATION_DAEMONSET_TEMPLATE_GENERATION}
"""Kind → an annotation that Kubernetes keeps as a field and shows as an annotation in whole objects alone."""


def partial_metadata(obj: Object, version: str) -> Object:
    metadata = obj["metadata"]
    hidden = _ONLY_IN_FULL.get(obj["kind"])
    if hidden and hidden in (metadata.get("annotations") or {}):
        annotations = {name: value for name, value in metadata["annotations"].items() if name != hidden}
        metadata = {name: value for name, value in metadata.items() if name != "annotations"}
        if annotations:
            metadata["annotations"] = annotations
    return {"kind": "PartialObjectMetadata", "apiVersion": f"meta.k8s.io/{version}", "metadata": metadata}


def table(
    printer: Printer, objects: Sequence[Object], version: str, now: datetime, include: str, *, meta: Object, stored: Convert
) -> Object:
    """`include` (includeObject) is None, Metadata or Object; `meta` is the list's metadata; `stored` converts an object for its printer."""
    rows = []
    for obj in objects:
        row: Object = {"cells": printer.row(stored(obj), now)}
        if conditions := printer.conditions(obj):
            row["conditions"] = conditions
        if include == "Object":
            row["object"] = obj
        elif include == "Metadata":
            row["object"] = partial_metadata(obj, version)
        rows.append(row)
    list_meta = {name: meta[name] for name in ("resourceVersion", "continue", "remainingItemCount") if name in meta}
    return {
        "kind": "Table", "apiVersion": f"meta.k8s.io/{version}", "metadata": list_meta, "columnDefinitions": list(printer.columns),
        "rows": rows,
    }  # fmt: skip


def table_event(resource: Resource, obj: Object, version: str, now: datetime, include: str, *, stored: Convert) -> Object:
    """The Table of one watch event."""
    return table(printer_for(resource), [obj], version, now, include, meta=obj["metadata"], stored=stored)
