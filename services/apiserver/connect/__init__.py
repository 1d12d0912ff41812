"""Requests that end at a kubelet, a pod or a Service instead of the storage: logs, exec, attach, port-forward, proxy."""
