"""What the scheduler knows of the cluster, laid out so that a plugin judges all nodes at once."""
