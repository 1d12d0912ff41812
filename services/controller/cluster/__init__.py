"""Controllers of the cluster's own life: namespaces, accounts, nodes, garbage collection."""
