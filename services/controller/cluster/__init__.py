"""Controllers of the cluster's own life: namespaces, accounts and their quotas, roles, nodes and their number, garbage collection."""
