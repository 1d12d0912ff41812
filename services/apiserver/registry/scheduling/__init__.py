"""Kinds of the scheduling group."""
