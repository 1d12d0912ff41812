"""The supervisor: PKI, kubeconfigs, start, stop and restart of a cluster's processes."""
