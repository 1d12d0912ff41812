"""Pods that a node ends because it is short of memory."""
