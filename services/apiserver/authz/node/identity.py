"""Who is a node. Imitates pkg/auth/nodeidentifier.

A kubelet process that hosts one node has that node's identity. A process that hosts many has an identity of its own in the group
`kubecosm:node-hosts`: it is no node, and what it may do is the role `kubecosm:node-host`.
"""

from __future__ import annotations

from ...authn.user import GROUP_NODES, User

NODE_USER_PREFIX = "system:node:"
GROUP_NODE_HOSTS = "kubecosm:node-hosts"


def node_of(user: User) -> str | None:
    """The node whose kubelet this user is; None for anybody else."""
    if not user.name.startswith(NODE_USER_PREFIX) or GROUP_NODES not in user.groups:
        return None
    return user.name[len(NODE_USER_PREFIX) :]
