"""Kinds of the apps group: Deployments, ReplicaSets, StatefulSets, DaemonSets, ControllerRevisions."""
