"""kube-scheduler: binds pending pods to nodes through the scheduling framework's extension points, over numpy arrays of node state."""
