"""From `--authorization-mode` to who is asked, in the order given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kubecosm.runtime.errors import StartupError

from ..state import State
from .attributes import AuthenticatedAuthorizer, Authorizer, DenyingAuthorizer, MastersAuthorizer, PublicInfoAuthorizer, UnionAuthorizer
from .bootstrap import node_rules
from .node.authorizer import NodeAuthorizer
from .node.graph import CachedGraph
from .policy import CachedPolicy
from .rbac import RbacAuthorizer

RBAC, NODE = "RBAC", "Node"
MODES: dict[str, Callable[[State], Sequence[Authorizer]]] = {
    "AlwaysDeny": lambda _state: (DenyingAuthorizer(),),
    "AlwaysAllow": lambda _state: (AuthenticatedAuthorizer(), PublicInfoAuthorizer()),
    RBAC: lambda state: (RbacAuthorizer(CachedPolicy(state.caches)),),
    NODE: lambda state: (NodeAuthorizer(CachedGraph(state.caches), node_rules),),
}


def build_authorizer(modes: Sequence[str], state: State) -> Authorizer:
    """Raises StartupError for a mode that does not exist."""
    for mode in modes:
        if mode not in MODES:
            raise StartupError(f"unknown --authorization-mode {mode}: choose from {', '.join(MODES)}")
    return UnionAuthorizer((MastersAuthorizer(), *(authorizer for mode in modes for authorizer in MODES[mode](state))))
