"""Controllers that keep pods running: replica sets, deployments, stateful and daemon sets, jobs; how many, and which may be evicted."""
