"""Kinds of the coordination group: Leases."""
