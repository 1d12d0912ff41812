"""The kubelet's API over TLS: logs, exec, attach, port-forward, statistics, metrics, health, and the CONNECT tunnel."""
