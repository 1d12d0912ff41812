"""metadata.managedFields as a list of entries and as a table of managers. Imitates apimachinery's managedfields package."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from kubecosm.api.managedfields.sets import Node, union
from kubecosm.api.resources import Object
from kubecosm.api.times import parse_time

APPLY, UPDATE = "Apply", "Update"
UPDATE_MANAGERS_MAX = 10
"""More update managers than that per object and the oldest are merged into one called `ancient-changes`."""
ANCIENT_CHANGES = "ancient-changes"
MANAGER_LENGTH_MAX = 128
MANAGER_NAMES_REMEMBERED_MAX = 512


class Manager(NamedTuple):
    """Who owns fields: appliers are one whatever version they applied, updaters are told apart by version."""

    name: str
    operation: str
    api_version: str
    subresource: str = ""

    def __str__(self) -> str:
        """As conflict messages name it."""
        subresource = f' with subresource "{self.subresource}"' if self.subresource else ""
        return f'"{self.name}"{subresource}' + (f" using {self.api_version}" if self.operation == UPDATE else "")


@dataclass(slots=True)
class Owned:
    """What a manager owns, in the version it last wrote, and when that was."""

    fields: Node
    api_version: str
    time: str | None = None


Managers = dict[Manager, Owned]


def manager(name: str, operation: str, api_version: str, subresource: str = "") -> Manager:
    return Manager(name or "unknown", operation, "" if operation == APPLY else api_version, subresource)


@lru_cache(MANAGER_NAMES_REMEMBERED_MAX)
def manager_name(field_manager: str, user_agent: str) -> str:
    """The manager's name: the fieldManager option, else the user agent up to its first slash, at most MANAGER_LENGTH_MAX bytes."""
    if field_manager:
        return field_manager
    prefix = user_agent.partition("/")[0]
    printable = "".join([char for char in prefix if char.isprintable()])
    return printable.encode()[:MANAGER_LENGTH_MAX].decode(errors="ignore")


def decode(entries: Any) -> Managers | None:
    """The table of managers; None if an entry is malformed, in which case the whole list counts for nothing."""
    found: Managers = {}
    for entry in entries or ():
        operation, api_version = entry.get("operation"), entry.get("apiVersion")
        well_formed = operation in (APPLY, UPDATE) and api_version and entry.get("fieldsType") == "FieldsV1"
        fields = entry.get("fieldsV1") or {}
        if not well_formed or not isinstance(fields, dict):
            return None
        key = manager(entry.get("manager", ""), operation, api_version, entry.get("subresource", ""))
        found[key] = Owned(fields, api_version, entry.get("time"))
    return found


def encode(managers: Managers) -> list[Object]:
    """The entries in Kubernetes' order: appliers first, then by time, name, version and subresource."""
    if len(managers) == 1:
        return [_entry(*pair) for pair in managers.items()]
    ordered = sorted(managers.items(), key=lambda pair: _order(*pair))
    return [_entry(*pair) for pair in ordered]


def _order(key: Manager, owned: Owned) -> tuple[str, float, str, str, str]:
    return key.operation, _seconds(owned.time), key.name, owned.api_version, key.subresource


def _seconds(time: str | None) -> float:
    try:
        return parse_time(time).timestamp() if time else 0.0
    except ValueError:
        return 0.0


def _entry(key: Manager, owned: Owned) -> Object:
    entry: Object = {"manager": key.name, "operation": key.operation, "apiVersion": owned.api_version}
    if owned.time:
        entry["time"] = owned.time
    entry["fieldsType"] = "FieldsV1"
    entry["fieldsV1"] = owned.fields
    if key.subresource:
        entry["subresource"] = key.subresource
    return entry


def cap_updaters(managers: Managers) -> None:
    """Merge the oldest updaters, per version, until at most UPDATE_MANAGERS_MAX are left (capManagersManager)."""
    if len(managers) <= UPDATE_MANAGERS_MAX:
        return
    updaters = [key for key in managers if key.operation == UPDATE]
    excess = len(updaters) - UPDATE_MANAGERS_MAX
    if excess <= 0:
        return
    updaters.sort(key=lambda key: (_seconds(managers[key].time), key))
    first_of_version: dict[str, Manager] = {}
    for key in updaters:
        if excess <= 0:
            return
        owned = managers[key]
        bucket = manager(ANCIENT_CHANGES, UPDATE, owned.api_version)
        first = first_of_version.setdefault(owned.api_version, key)
        if first == key:
            continue
        if bucket not in managers:
            managers[bucket] = managers.pop(first)
        merged = managers[bucket]
        managers[bucket] = Owned(union(owned.fields, merged.fields), owned.api_version, owned.time)
        if key != bucket:
            del managers[key]
        excess -= 1


def is_reset(entries: Any) -> bool:
    """Whether a client asks to forget all ownership: a single empty entry."""
    return isinstance(entries, list) and len(entries) == 1 and not entries[0]
