"""Dynamic resource allocation with structured parameters: which devices a pod's ResourceClaims get (k8s.io/dynamic-resource-allocation)."""
