"""The kubelet: registers nodes, runs the pods bound to them, reports their state, and serves logs, exec and port-forward."""
