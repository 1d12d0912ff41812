"""The scheduling framework: statuses, extension points, plugin registry, profiles. Imitates k8s.io/kube-scheduler/framework."""
