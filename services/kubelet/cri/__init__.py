"""The seam between the kubelet and what runs containers, shaped like the Container Runtime Interface (k8s.io/cri-api)."""
