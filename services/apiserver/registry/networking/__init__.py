"""Kinds of the networking group."""
