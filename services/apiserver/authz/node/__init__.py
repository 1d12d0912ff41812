"""What kubelets may do: each only what its own node and the pods on it need."""
