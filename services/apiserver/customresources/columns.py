"""Tables of custom resources: additionalPrinterColumns, or the age. Imitates apiextensions-apiserver's tableconvertor."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kubecosm.api.resources import CustomResource, Object

from ..printers import TablePrinter, shared_column
from ..printers.texts import since
from .jsonpath import find, printed

AGE: Object = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def printer_of(row: CustomResource) -> TablePrinter:
    """The printer of a version; made once for each state of its definition."""
    found: TablePrinter | None = row.derived.get("printer")
    if found is None:
        columns = row.columns or (AGE,)
        paths = [(column["jsonPath"], column["type"]) for column in columns]

        def cells(obj: Object, now: datetime) -> list[Any]:
            return [obj["metadata"].get("name", ""), *(_cell(path, kind, obj, now) for path, kind in paths)]

        described = (shared_column("name"), *(_described(column) for column in columns))
        found = row.derived["printer"] = TablePrinter(described, cells)
    return found


def _described(column: Object) -> Object:
    description = column.get("description") or f"Custom resource definition column (in JSONPath format): {column['jsonPath']}"
    if column is AGE:
        description = shared_column("age")["description"]
    return {
        "name": column["name"], "type": column["type"], "format": column.get("format", ""), "description": description,
        "priority": column.get("priority", 0),
    }  # fmt: skip


def _cell(path: str, kind: str, obj: Object, now: datetime) -> Any:
    found = find(path, obj)
    if not found or found[0] is None:
        return None
    value = found[0]
    if kind == "string":
        return printed(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "integer":
        return int(value) if is_number else None
    if kind == "number":
        return value if is_number else None
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    return since(value, now) if isinstance(value, str) else None
