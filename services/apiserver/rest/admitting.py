"""Admission of what is created without being stored as it is: bindings, evictions, tokens, reviews, and connections."""

from __future__ import annotations

from kubecosm.api.resources import Object, Resource

from ..admission.chain import CONNECT, CREATE, Attributes
from ..http.request import Request
from ..state import State
from .storedkind import Caller


async def admit_create(state: State, row: Resource, subresource: str, namespace: str, name: str, obj: Object, caller: Caller) -> None:
    """Both steps of admission; `obj` is changed in place. Raises ApiError."""
    attributes = Attributes(
        CREATE, row, subresource, namespace, name, obj, None, caller.user, caller.dry_run, caller.options, caller.notes
    )
    await _admit(state, attributes, obj)


async def admit_connect(state: State, row: Resource, request: Request, options: Object) -> None:
    """`options` are those of the connection (PodExecOptions, …), with kind and apiVersion. Raises ApiError."""
    info = request.info
    attributes = Attributes(CONNECT, row, info.subresource, info.namespace, info.name, options, None, request.user, notes=request)
    await _admit(state, attributes, options)


async def _admit(state: State, attributes: Attributes, obj: Object) -> None:
    await state.admission.ask(attributes)
    attributes.hand_over()(True)
    if attributes.obj is not None and attributes.obj is not obj:
        changed = dict(attributes.obj)
        obj.clear()
        obj.update(changed)
