"""The columns of Tables. Kinds without columns of their own show name and age."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol

from kubecosm.api.resources import Object, Resource
from kubecosm.api.times import parse_time

_NAME_TEXT = "Name must be unique within a namespace."


class Printer(Protocol):
    """Cells of one kind."""

    @property
    def columns(self) -> tuple[Object, ...]:
        """TableColumnDefinitions."""

    def row(self, obj: Object, now: datetime) -> list[Any]:
        """The cells of one object, in column order."""


class NameAndAge:
    columns: tuple[Object, ...] = (
        {"name": "Name", "type": "string", "format": "name", "description": _NAME_TEXT, "priority": 0},
        {"name": "Age", "type": "string", "format": "", "description": "Time since creation.", "priority": 0},
    )

    def row(self, obj: Object, now: datetime) -> list[Any]:
        seconds = int((now - parse_time(obj["metadata"]["creationTimestamp"])).total_seconds())
        return [obj["metadata"]["name"], f"{seconds}s"]


def printer_for(resource: Resource) -> Printer:
    return NameAndAge()
