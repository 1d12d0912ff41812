"""Parameters of policies: the objects that a binding hands to the expressions. Imitates CollectParams of policy_dispatcher.go."""

from __future__ import annotations

from kubecosm.api import selectors
from kubecosm.api.resources import Object
from kubecosm.api.selectors import SelectorError

from ...cache.selection import Selection
from ...rest.store import ResourceStore
from ...rest.unconverted import Unconverted
from ...state import State


class NotConfigured(Exception):
    """A policy or binding cannot be used as it is; the failure policy decides."""


def param_store(state: State, kind: Object) -> ResourceStore:
    """Where objects of a paramKind are. Raises NotConfigured."""
    api_version, name = kind.get("apiVersion", ""), kind.get("kind", "")
    row = state.table.by_kind(api_version, name)
    store = state.stores.get((row.group, row.version, row.plural)) if row is not None else None
    if store is None:
        group, _, version = api_version.rpartition("/")
        raise NotConfigured(f"failed to find resource referenced by paramKind: '{group}/{version}, Kind={name}'")
    return store


def collect(store: ResourceStore | None, reference: Object | None, namespace: str) -> tuple[Object | None, ...]:
    """The parameters to evaluate with, one after the other; (None,) for a policy or binding without any.

    Raises NotConfigured, and Unconverted if a webhook must convert some first.
    """
    if store is None or reference is None:
        return (None,)
    where = _namespace_of(store, reference, namespace)
    name, selector = reference.get("name"), reference.get("selector")
    if name:
        entry = store.cache.get(store.key_of(where, name))
        entries = [] if entry is None else [entry]
    elif selector is not None:
        try:
            labels = selectors.from_label_selector(selector)
        except SelectorError as error:
            raise NotConfigured(str(error)) from error
        entries = store.cache.page(Selection(where, labels)).entries
    else:
        raise NotConfigured("one of name or selector must be provided")
    if not entries and reference.get("parameterNotFoundAction") == "Deny":
        raise NotConfigured("no params found for policy binding with `Deny` parameterNotFoundAction")
    try:
        store.require(entries)
        return tuple(store.conversion.from_stored(entry.decode()) for entry in entries)
    except Unconverted as missing:
        missing.store = store
        raise


def _namespace_of(store: ResourceStore, reference: Object, namespace: str) -> str:
    given = reference.get("namespace", "")
    if not store.row.namespaced:
        if given:
            raise NotConfigured("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
        return ""
    if not given and not namespace:
        raise NotConfigured("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources")
    return str(given or namespace)
